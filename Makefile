# make demo: from a fresh clone to a scored, browsable smoke ladder.  make test: the whole suite, as CI runs it.
# make speed: what is compared, interleaved.  make bench: timings by pytest-benchmark, to be compared over time.
PYTHON ?= python3
VENV   ?= .venv
BENCH  := $(VENV)/bin/bench
DEMO   := runs/demo

.PHONY: demo test speed bench lint site clean

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Isoloss needs Python 3.11 or newer, this is " + sys.version.split()[0] + ": make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	@touch $@

demo: $(VENV)/installed
	$(BENCH) run tasks/smoke.toml baselines/adamw/adamw.toml --records $(DEMO)/records --seed 0 --seed 1 --seed 2 \
	  --budget 0.25x --budget 0.5x --budget 1x --budget 2x --budget 4x
	$(BENCH) run tasks/smoke.toml baselines/muon/muon.toml --records $(DEMO)/records --seed 0 --seed 1 --seed 2 \
	  --budget 0.5x --budget 1x --budget 2x
	@echo
	$(BENCH) score tasks/smoke.toml --records $(DEMO)/records
	@echo
	$(BENCH) site --records $(DEMO)/records --out $(DEMO)/site

test: $(VENV)/installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/pytest --numprocesses auto --dist loadscope --no-loadscope-reorder

speed: $(VENV)/installed
	@for script in tests/speed/*.py; do echo "== $$script"; $(VENV)/bin/python $$script || exit 1; done

bench: $(VENV)/installed
	cd tests/speed && ../../$(VENV)/bin/pytest benchmarks.py -p no:xdist --override-ini pythonpath=tests/speed \
	  --benchmark-columns=median,iqr,rounds --benchmark-sort=name

lint: $(VENV)/installed
	$(BENCH) lint

site: $(VENV)/installed
	$(BENCH) site

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
