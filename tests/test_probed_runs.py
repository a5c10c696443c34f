"""Whole runs with a probe, and of a controller: what their records tell, that they replay, and what lint says."""

import pytest
from small import ROOT, make, places_in, write_task

from bench.entry import Entry
from bench.record import Record, read_record
from bench.replay import replay
from bench.setting import Watch
from bench.submission.probes import of_probe
from bench.task import read_task
from bench.verify import lint_record, lint_siblings

BASELINES = ROOT / "baselines"
NAMES = ("sophia/sophia-g", "adadagrad/adadagrad", "adamw/adamw")
SOPHIA, CONTROLLER, ADAMW = (BASELINES / f"{name}.toml" for name in NAMES)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The task, its folder, and the paths of three entries' records."""
    folder = tmp_path_factory.mktemp("probed")
    task = write_task(folder)
    return task, folder, {entry: make(task, entry, folder, budget=0.5) for entry in (SOPHIA, CONTROLLER, ADAMW)}


def record_of(ran, entry) -> Record:
    return read_record(ran[2][entry])


@pytest.mark.parametrize("entry", [SOPHIA, CONTROLLER], ids=lambda path: path.stem)
def test_it_replays_identical(ran, entry):
    task, folder, records = ran
    assert replay(records[entry], read_task(task), Entry(entry), places_in(folder), Watch()).verdict == "identical"


def test_calls_passes_seconds_and_memory_are_in_the_record(ran):
    record = record_of(ran, SOPHIA)
    calls = -(-record.steps // 10)
    assert record.facts.probe.calls == {"sampled_gradient": calls} and record.facts.probe.fresh_tokens == 0
    assert record.facts.passes == pytest.approx(1 + calls / record.steps)
    assert record.charged_tokens == pytest.approx(record.tokens * record.facts.passes)
    cost = record.cost.probe["sampled_gradient"]
    assert 0 < cost.seconds < record.cost.train_seconds and 0 < cost.peak_memory_bytes <= record.cost.peak_memory_bytes


@pytest.mark.parametrize("path", [SOPHIA, CONTROLLER, ADAMW], ids=lambda path: path.stem)
def test_what_it_was_charged_stands_where_a_submission_is_verified(ran, path):
    assert list(of_probe(record_of(ran, path), Entry(path))) == []


def test_a_run_without_a_probe_tells_of_none(ran):
    text = ran[2][ADAMW].read_text()
    assert '"probe"' not in text and '"batches"' not in text
    assert record_of(ran, ADAMW).facts.passes == 1.0


def test_a_controller_spends_the_budget_and_its_record_says_that_its_batches_are_its_own(ran):
    record, task = record_of(ran, CONTROLLER), read_task(ran[0])
    assert record.tokens == task.tokens(0.5) and record.steps < task.steps(0.5)
    assert record.facts.batches.first == task.training.batch_tokens < record.facts.batches.largest
    assert not [tick for tick in lint_record(record, task) if tick.ok is False]


def test_a_controller_s_order_is_exempt_and_the_others_agree_without_it(ran):
    ticks = lint_siblings(record_of(ran, entry) for entry in (SOPHIA, CONTROLLER, ADAMW))
    order = {
        entry: next(t for t in ticks[record_of(ran, entry).run_id] if t.title == "same token order as other entries")
        for entry in (SOPHIA, CONTROLLER, ADAMW)
    }
    assert order[SOPHIA].ok and order[ADAMW].ok
    assert order[CONTROLLER].ok is None and "batch-size controller" in order[CONTROLLER].detail


def test_a_last_multiplier_that_no_decay_leads_to_is_found_of_a_controller_too(ran):
    record, task = record_of(ran, CONTROLLER), read_task(ran[0])
    forged = record.model_copy(update={"facts": record.facts.model_copy(update={"last_multiplier": 0.9})})
    assert any(tick.rule == "A3" and tick.ok is False for tick in lint_record(forged, task))
