"""A run's life: it ends with one record whatever happens on the way, and nothing is lost."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small import ADAMW, MUON, checkpoints_in, make, places_in, write_entry, write_task

from bench import checkpoint, machine
from bench.errors import BenchError
from bench.record import HEADER_BYTES, TOTAL_BYTES, log_path, read_log, read_record
from bench.setting import Watch

BENCH = [sys.executable, "-m", "bench"]


def command(folder: Path, task: Path, entry: Path, *more: str) -> list[str]:
    return [
        *BENCH,
        "run",
        str(task),
        str(entry),
        "--records",
        str(folder / "records"),
        "--checkpoint-seconds",
        "0",
        *more,
    ]


def records_in(folder: Path) -> list[Path]:
    return sorted((folder / "records").rglob("*.json"))


def test_a_run_leaves_one_small_record_that_proves_the_protocol(tmp_path):
    path = make(write_task(tmp_path), MUON, tmp_path)
    record = read_record(path)
    log = read_log(path, record)
    assert record.outcome == "finished"
    assert record.tokens == record.steps * 8 * 32 == 16_384
    assert record.score_loss < record.initial_loss
    assert record.facts.weight_dtypes == ("float32",) and record.facts.state_dtypes == ("float32",)
    assert record.facts.partition["hidden"].harness == 0 == record.facts.partition["embedding"].entry
    assert 0 < record.facts.last_multiplier < 0.05
    assert len(log.loss) == record.steps and log.milestones[-1].loss == record.chains.loss
    assert path.stat().st_size <= HEADER_BYTES
    assert path.stat().st_size + log_path(path).stat().st_size <= TOTAL_BYTES
    assert not checkpoints_in(tmp_path / "work"), "checkpoints go when the record stands"


def test_all_entries_at_a_seed_start_from_the_same_weights_and_see_the_same_data(tmp_path):
    task = write_task(tmp_path)
    adamw, muon = (read_record(make(task, entry, tmp_path)) for entry in (ADAMW, MUON))
    other = read_record(make(task, ADAMW, tmp_path, seed=1))
    assert adamw.weights.initial == muon.weights.initial != other.weights.initial
    assert adamw.chains.data == muon.chains.data != other.chains.data
    assert adamw.chains.loss != muon.chains.loss


def test_the_same_run_again_is_not_made_again_unless_asked(tmp_path):
    task = write_task(tmp_path)
    said: list[str] = []
    first = make(task, ADAMW, tmp_path)
    before = read_record(first)
    assert make(task, ADAMW, tmp_path, watch=Watch(say=said.append)) == first
    assert "already done" in said[0] and read_record(first) == before
    again = read_record(make(task, ADAMW, tmp_path, again=True))
    assert again.chains == before.chains and again.weights == before.weights


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_killed_again_and_again_it_ends_with_the_chains_of_a_run_never_killed(tmp_path, compiled):
    if compiled and machine.compiler() is None:
        pytest.skip("no C++ compiler for torch.compile")
    task = write_task(tmp_path, compiled=str(compiled).lower(), tokens="131_072", rungs="[1.0]")
    environment = {**os.environ, "BENCH_DATA": str(tmp_path / "data")}
    straight = read_record(make(task, MUON, tmp_path / "straight"))
    kills = 0
    for _ in range(2):
        process = subprocess.Popen(command(tmp_path, task, MUON), env=environment, cwd=tmp_path,
                                   stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)  # fmt: skip
        held = {path.name for path in checkpoints_in(tmp_path)}
        deadline = time.monotonic() + 600
        while process.poll() is None and not {path.name for path in checkpoints_in(tmp_path)} - held:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += process.wait() == -signal.SIGKILL
    assert kills >= 1
    assert not records_in(tmp_path)
    finished = subprocess.run(
        command(tmp_path, task, MUON), env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stderr
    assert "going on from step" in finished.stderr
    (path,) = records_in(tmp_path)
    resumed = read_record(path)
    assert (resumed.run_id, resumed.chains, resumed.weights) == (straight.run_id, straight.chains, straight.weights)
    assert resumed.score_loss == straight.score_loss
    mine, theirs = read_log(path, resumed), read_log(records_in(tmp_path / "straight")[0], straight)
    assert (mine.loss, mine.milestones) == (theirs.loss, theirs.milestones)
    assert [point.tokens for point in mine.curve] == [point.tokens for point in theirs.curve]


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path):
    for step in (10, 20, 30):
        checkpoint.save(tmp_path, step, {"progress": {"step": step}})
    assert [path.name[:14] for path in sorted(tmp_path.glob("step-*.pt"))] == ["step-000000020", "step-000000030"]
    newest = max(tmp_path.glob("step-*.pt"))
    newest.write_bytes(newest.read_bytes()[:-100])
    said: list[str] = []
    assert checkpoint.load_latest(tmp_path, said.append)["progress"]["step"] == 20
    assert len(said) == 1 and "damaged" in said[0]


def test_a_state_that_no_checkpoint_can_hold_is_known_at_the_first_one(tmp_path):
    body = (
        "class Strange(Optimizer):\n    def step(self):\n        pass\n\n"
        "def build(roles, hp, run):\n"
        "    return Strange([{'params': roles.matrices, 'generator': run.generator}], {'lr': 0.1})\n"
    )
    with pytest.raises(BenchError, match="no checkpoint can hold"):
        make(write_task(tmp_path), write_entry(tmp_path, body), tmp_path)


def test_drafts_that_a_kill_left_go_with_the_checkpoints(tmp_path):
    checkpoint.save(tmp_path, 1, {})
    (tmp_path / ".step-000000002-abc.pt.77.partial").write_bytes(b"half")
    checkpoint.clear(tmp_path)
    assert not list(tmp_path.iterdir())


def test_other_weights_for_evaluation_leave_the_training_weights_as_they_were(tmp_path):
    body = (
        "from contextlib import contextmanager\n\n"
        "class Half(SGD):\n    pass\n\n"
        "@contextmanager\ndef evaluation_weights(optimizers):\n"
        "    weights = [w for o in optimizers for g in o.param_groups for w in g['params']]\n"
        "    for w in weights: w.data.mul_(1.1)\n    yield\n    for w in weights: w.data.div_(1.1)\n\n"
        "def build(roles, hp, run):\n    return Half(roles.matrices, lr=0.1)\n"
    )
    plain = read_record(make(write_task(tmp_path), write_entry(tmp_path, body.replace("1.1", "1.0")), tmp_path))
    swapped = read_record(make(write_task(tmp_path), write_entry(tmp_path, body), tmp_path))
    assert swapped.chains == plain.chains and swapped.weights.final == plain.weights.final
    assert swapped.weights.evaluated != swapped.weights.final == plain.weights.evaluated
    assert swapped.score_loss != plain.score_loss


def test_an_entry_s_generator_is_not_the_stream_that_drew_the_weights():
    from bench.claims import entry_seed

    assert len({entry_seed(seed) for seed in range(100)} | set(range(100))) == 200


def test_a_second_process_on_the_same_run_is_refused_and_tears_nothing(tmp_path):
    from filelock import FileLock

    task = write_task(tmp_path)
    path = make(task, ADAMW, tmp_path)
    path.unlink()
    folder = places_in(tmp_path).work / "small" / path.stem
    with FileLock(folder / "lock"), pytest.raises(BenchError, match="another process"):
        make(task, ADAMW, tmp_path)
    assert make(task, ADAMW, tmp_path) == path


BAD_BUILDS = {
    "a parameter is claimed twice": "def build(roles, hp, run):\n"
    "    return [SGD(roles.matrices, lr=0.1), SGD(roles.matrices, lr=0.1)]\n",
    "build() raised ValueError: no": "def build(roles, hp, run):\n    raise ValueError('no')\n",
    "must return torch optimizers": "def build(roles, hp, run):\n    return 3\n",
    "build() changes weights": "def build(roles, hp, run):\n    roles.matrices[0].data.mul_(0.5)\n"
    "    return SGD(roles.matrices, lr=0.1)\n",
    "a parameter group has no lr": "class Bare(Optimizer):\n    pass\n\ndef build(roles, hp, run):\n"
    "    return Bare([{'params': roles.matrices}], {})\n",
    "no parameter of the model": "def build(roles, hp, run):\n"
    "    return SGD([torch.nn.Parameter(torch.zeros(2))], lr=0.1)\n",
}


@pytest.mark.parametrize("what", BAD_BUILDS)
def test_an_entry_that_does_not_fit_is_one_clear_error_and_no_record(tmp_path, what):
    entry = write_entry(tmp_path, BAD_BUILDS[what])
    with pytest.raises(BenchError, match=re.escape(what)):
        make(write_task(tmp_path), entry, tmp_path)
    assert not records_in(tmp_path)


def test_an_entry_whose_scope_is_not_what_it_claims_is_refused(tmp_path):
    entry = write_entry(tmp_path, "def build(roles, hp, run):\n    return SGD(roles.matrices, lr=0.1)\n", scope="full")
    with pytest.raises(BenchError, match="scope is 'full'"):
        make(write_task(tmp_path), entry, tmp_path)


STEPS = {
    "diverged": "            if len(self.state) > 0: raise AssertionError\n"
    "            for w in group['params']: w.fill_(float('nan'))\n",
    "crashed": "            raise KeyError('oops')\n",
    "out-of-memory": "            raise MemoryError('all gone')\n",
    "left": "            raise SystemExit(3)\n",
}


@pytest.mark.parametrize("outcome", STEPS)
def test_a_run_that_fails_is_a_record_with_its_cause(tmp_path, outcome):
    body = (
        "class Strange(Optimizer):\n    @torch.no_grad()\n    def step(self, closure=None):\n"
        "        for group in self.param_groups:\n" + STEPS[outcome] + "\n\n"
        "def build(roles, hp, run):\n    return Strange([{'params': roles.matrices}], {'lr': 0.1})\n"
    )
    record = read_record(make(write_task(tmp_path), write_entry(tmp_path, body), tmp_path))
    assert record.outcome == {"left": "crashed"}.get(outcome, outcome)
    assert record.cause and record.score_loss is None
    assert ("optimizer.py, line" in record.cause) == (outcome != "diverged")  # the entry's own, and not torch's
    if outcome == "diverged":
        assert "step 2" in record.cause


def test_a_run_that_ends_above_its_initial_loss_has_diverged(tmp_path):
    record = read_record(make(write_task(tmp_path), ADAMW, tmp_path, values={"lr": 30.0, "warmup_fraction": 0.0}))
    assert record.outcome == "diverged"


def test_a_full_disk_keeps_the_run_and_says_so(tmp_path, monkeypatch):
    task, saved = write_task(tmp_path), []
    honest = checkpoint.save

    def save(folder, step, state):
        if step > 32:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        saved.append(step)
        return honest(folder, step, state)

    monkeypatch.setattr(checkpoint, "save", save)
    with pytest.raises(BenchError, match="no space left"):
        make(task, ADAMW, tmp_path)
    monkeypatch.undo()
    assert saved and not records_in(tmp_path)
    said: list[str] = []
    resumed = read_record(make(task, ADAMW, tmp_path, watch=Watch(say=said.append)))
    assert any("going on from step 32" in line for line in said)
    assert resumed.chains == read_record(make(task, ADAMW, tmp_path / "straight")).chains


def test_without_a_compiler_it_runs_eagerly_says_so_once_and_records_it(tmp_path, monkeypatch):
    monkeypatch.setattr("bench.setting.compiler", lambda: None)
    said: list[str] = []
    task = write_task(tmp_path, compiled="true")
    record = read_record(make(task, ADAMW, tmp_path, watch=Watch(say=said.append)))
    assert sum("C++ compiler" in line for line in said) == 1
    assert record.machine.compiled is False and record.machine.compiler is None


def test_ctrl_c_leaves_a_run_that_goes_on(tmp_path):
    task = write_task(tmp_path, tokens="1_310_720", rungs="[1.0]")
    environment = {**os.environ, "BENCH_DATA": str(tmp_path / "data")}
    process = subprocess.Popen(
        command(tmp_path, task, ADAMW), env=environment, cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 600
    while not checkpoints_in(tmp_path):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=600)
    assert process.returncode == 130
    assert "goes on from the last checkpoint" in said and "Traceback" not in said
    assert not records_in(tmp_path)


def test_several_budgets_and_seeds_make_a_record_each_and_json_for_a_script(tmp_path):
    task = write_task(tmp_path)
    environment = {**os.environ, "BENCH_DATA": str(tmp_path / "data")}
    more = ["--budget", "0.5x", "--budget", "1x", "--seed", "0", "--seed", "3", "--json"]
    done = subprocess.run(
        command(tmp_path, task, ADAMW, *more), env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["outcome"] for line in lines] == ["finished"] * 4
    assert {Path(line["record"]).name for line in lines} == {path.name for path in records_in(tmp_path)}
