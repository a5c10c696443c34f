"""The walk of CONTRIBUTING, "Submit an optimizer in ten minutes": its commands as they stand there, on a small task.

The task has smoke's language and a model of 32 units, one rung to compare at, and the whole plan that the rules write
for it in float; the yardstick's ledger is a formula's, since it is not what is submitted.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from small import ROOT
from submitted import cloned

ALONE = """import socket

_connect = socket.socket.connect


def connect(self, address):
    if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1", "localhost"):
        raise OSError(f"no network in a walk: {address[0]}")
    return _connect(self, address)


socket.socket.connect = connect
"""
SECTION = re.compile(r"## Submit an optimizer in ten minutes\n.*?```sh\n(.*?)```", re.S)


def script() -> list[str]:
    found = SECTION.search((ROOT / "CONTRIBUTING.md").read_text())
    assert found
    return [line.partition("#")[0].strip() for line in found[1].strip().splitlines()]


def test_there_are_at_most_six_commands_and_each_is_a_verb():
    assert 1 < len(script()) <= 6
    assert all(line.startswith("bench ") for line in script())


def run(root: Path, command: str) -> str:
    """Run a command in the clone and return what it said."""
    environment = {**os.environ, "PATH": f"{root / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": f"{ROOT}:{root / 'bin'}",
                   "BENCH_DATA": str(root / "data"), "COLUMNS": "400", "OMP_NUM_THREADS": "1"}  # fmt: skip
    done = subprocess.run(["bash", "-c", command], cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    """Walk, and return the clone and what each command said."""
    root = tmp_path_factory.mktemp("walk")
    cloned(root)
    (root / "bin").mkdir()
    (root / "bin" / "sitecustomize.py").write_text(ALONE)
    bench = root / "bin" / "bench"
    bench.write_text(f'#!/bin/sh\nexec {sys.executable} -m bench "$@"\n')
    bench.chmod(0o755)
    said = {}
    for line in script():
        command = line.replace("tasks/nano.toml", "tasks/small.toml")
        if line.startswith("bench check"):
            command += " --on tasks/small.toml --task tasks/small.toml"
        elif line.startswith("bench evaluate"):
            command += " --modes none"
        said[line.split()[1]] = run(root, command)
    return root, said


def test_what_is_begun_is_ready_and_its_plan_has_a_price(walked):
    _, said = walked
    assert "FAIL" not in said["check"] and "my-optimizer is ready" in said["check"]
    assert "still to be filled in before it is sent: paper and authors" in said["check"]
    assert re.search(r"small: tuning: [\d,]+ tokens", said["check"])
    assert "another process goes on to the same bits" in said["check"]


def test_no_command_of_the_walk_speaks_to_the_network(walked):
    """Every one of them ran where a connection to another machine is an error, as is tried here."""
    root, _ = walked
    code = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=1)"  # RFC 5737: nobody's
    with pytest.raises(AssertionError, match=r"no network in a walk: 192\.0\.2\.1"):
        run(root, f'{sys.executable} -c "{code}"')


def test_the_bundle_is_the_pull_request_and_stands(walked):
    root, said = walked
    listed = [line for line in said["bundle"].splitlines() if "/" in line and " " not in line]
    assert "baselines/my_optimizer/optimizer.py" in listed and "tasks/small.toml" not in listed
    assert all((root / name).is_file() for name in listed)
    for verb in ("bundle", "verify"):
        assert re.search(r"my-optimizer-[0-9a-f]{16}\.tar\.gz: stands \(1 plan, 6 records", said[verb])


def test_verify_needs_neither_torch_nor_the_entry(walked):
    root, _ = walked
    bundle = next((root / "runs" / "bundles").glob("*.tar.gz"))
    code = (
        f"import sys; sys.argv = ['bench', 'verify', {str(bundle)!r}]\n"
        "from bench.cli.main import main\n"
        "try: main()\nexcept SystemExit as stop: assert not stop.code, stop.code\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)\n"
        "assert not [name for name in sys.modules if 'optimizer' in name and not name.startswith('scipy')]"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=root, env={**os.environ, "PYTHONPATH": str(ROOT)},
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0 and "stands" in done.stdout, done.stderr


def test_another_party_makes_a_further_record_and_its_bundle_stands(walked):
    root, _ = walked
    record = next((root / "leaderboard" / "records" / "small").rglob("*.json")).relative_to(root)
    kept = set((root / "runs" / "weights").iterdir())
    said = run(root, f"BENCH_WHO=another bench rerun {record} --merge {'0' * 40}")
    assert "by a process that gets only the weights: the same" in said
    assert set((root / "runs" / "weights").iterdir()) == kept  # of a rerun no mode is measured
    assert "stands (2 plans, 7 records" in run(root, "bench bundle tasks/small.toml my-optimizer --out rerun.tar.gz")
