"""A plan stopped in every way, and gone on with: the ledger and the records of one that was left alone."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
from small import ROOT, write_task
from working import HANGS, until

from bench.assemble import Request
from bench.conduct import Conductor
from bench.entry import Entry
from bench.errors import BenchError
from bench.orders import Paths
from bench.plan import Plan, make_plan, write_plan
from bench.setting import Watch, settle
from bench.task import read_task

EVALUATE = [sys.executable, "-m", "bench", "evaluate", "small.toml", "baselines/adamw/adamw-ref.toml", "--workers", "1"]


def prepare(folder: Path, sobol: int, kind: str | None = None) -> Plan:
    """Write a task, its yardstick, and a plan of a few runs that `bench evaluate` finds and goes by."""
    shutil.copytree(ROOT / "baselines" / "adamw", folder / "baselines" / "adamw",
                    ignore=shutil.ignore_patterns("tuned"))  # fmt: skip
    task = read_task(write_task(folder, tokens="8_192", rungs="[0.5, 1.0]", reference='"adamw-ref"'))
    entry = Entry(folder / "baselines" / "adamw" / "adamw-ref.toml")
    request = Request("small", task, entry, entry.values({}), "bf16", 1.0, "tuned", 0)
    plan = make_plan("small", task, entry, kind or settle(request, Watch()).machine.kind, None)
    tuning = plan.tuning.model_copy(update={"sweep": 3, "sobol": sobol, "refined": (), "seeds": (1000,)})
    plan = plan.model_copy(update={"tuning": tuning, "rungs": {"0.5x": (0, 1), "1x": (0, 1)}})
    write_plan(folder / "leaderboard" / "plans", plan)
    return plan


def start(folder: Path, *more: str) -> subprocess.Popen:
    environment = {**os.environ, "BENCH_DATA": str(folder / "data")}
    return subprocess.Popen([*EVALUATE, *more], cwd=folder, env=environment, text=True, start_new_session=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip


def finish(folder: Path) -> float:
    """Carry the plan out to its end; return the seconds until its first run was in the ledger."""
    process, began = start(folder), time.monotonic()
    until(lambda: lines(folder) or process.poll() is not None)
    first = time.monotonic()
    _, errors = process.communicate(timeout=HANGS)
    assert process.returncode == 0, errors
    return first - began


def made(folder: Path) -> tuple[list, dict]:
    """Return the ledger and the records, without what a clock said."""
    (path,) = folder.glob("leaderboard/ledgers/small/*.jsonl")
    trials = [json.loads(line) for line in path.read_text().splitlines()]
    ledger = [
        [trial[name] for name in ("number", "stage", "rung", "values")]
        + [{**run, "train_seconds": None} for run in trial["runs"]]
        for trial in trials
    ]
    records = {path.name: json.loads(path.read_text()) for path in folder.glob("leaderboard/records/**/*.json")}
    return ledger, {
        name: [record[field] for field in ("outcome", "chains", "weights", "score_loss", "select_loss")]
        for name, record in records.items()
    }


def lines(folder: Path) -> int:
    return sum(len(path.read_bytes().splitlines()) for path in folder.glob("leaderboard/ledgers/small/*.jsonl"))


def group(leader: int) -> list[int]:
    """Return the processes of a session that are left."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, session = path.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(session) == leader and state != "Z":
            found.append(int(path.parent.name))
    return found


@pytest.mark.parametrize("kills, sobol", [(3, 5), pytest.param(20, 64, marks=pytest.mark.slow)])
def test_killed_at_random_moments_a_plan_ends_as_if_it_had_been_left_alone(kills, sobol, tmp_path):
    for name in ("alone", "killed"):
        (tmp_path / name).mkdir()
        prepare(tmp_path / name, sobol)
    starting = finish(tmp_path / "alone")
    whole, chance, folder = lines(tmp_path / "alone"), random.Random(0), tmp_path / "killed"
    for number in range(kills):
        process, before = start(folder), lines(folder)
        if number % 3 == 0:  # while it starts; else after a trial or two, in the middle of another
            time.sleep(chance.random() * starting)
        else:
            enough = before + chance.randint(1, 2)
            until(lambda enough=enough: lines(folder) >= enough)
            time.sleep(chance.random() * 0.2)  # a trial or two of ten
        assert process.poll() is None and lines(folder) < whole
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    finish(folder)
    assert made(folder) == made(tmp_path / "alone")
    assert len(made(folder)[0]) >= sobol + 3 and len(made(folder)[1]) == 4


def test_ctrl_c_or_a_lost_parent_ends_the_workers_at_once_and_nothing_is_left_to_clean_up(tmp_path):
    prepare(tmp_path, 32)
    for how in (signal.SIGINT, signal.SIGTERM):
        process, before = start(tmp_path), lines(tmp_path)
        until(lambda before=before: lines(tmp_path) > before)
        began = time.monotonic()
        if how == signal.SIGINT:
            os.killpg(process.pid, how)  # as a terminal does
        else:
            os.kill(process.pid, how)  # the workers are left to find out
        _, errors = process.communicate(timeout=HANGS)
        assert time.monotonic() - began < 60  # a loaded machine; alone it takes under one
        until(lambda leader=process.pid: not group(leader), seconds=60)
        assert process.returncode == (130 if how == signal.SIGINT else -signal.SIGTERM)
        assert "Traceback" not in errors and "leaked" not in errors, errors
        assert ("stopped: the same command goes on from here" in errors) == (how == signal.SIGINT)


def test_in_pieces_of_a_time_limit_a_plan_goes_on_and_each_leaves_an_archive(tmp_path):
    prepare(tmp_path, 64)
    sizes = []
    for minutes in ("0.2", "10"):
        process = start(tmp_path, "--minutes", minutes, "--archive", "taken.tar.gz")
        _, errors = process.communicate(timeout=HANGS)
        with tarfile.open(tmp_path / "taken.tar.gz") as tar:
            names = tar.getnames()
        sizes.append(len(names))
        assert len([name for name in names if "/plans/" in name]) == 1, "the plan goes with what was made"
        if minutes == "0.2":
            assert process.returncode == 75 and "0.2 minutes are over: the same command goes on" in errors, errors
    assert process.returncode == 0, errors
    assert sizes[1] > sizes[0]
    home = tmp_path / "home"
    with tarfile.open(tmp_path / "taken.tar.gz") as tar:
        tar.extractall(home, filter="data")
    assert made(home) == made(tmp_path) and len(made(home)[1]) == 4
    assert (home / "baselines" / "adamw" / "tuned" / "small" / "adamw-ref.toml").exists()


def test_a_second_engine_on_a_plan_and_another_kind_of_machine_are_refused_and_change_nothing(tmp_path):
    plan = prepare(tmp_path, 4)
    paths = conductor_of(tmp_path, plan).paths
    with conductor_of(tmp_path, plan)._claimed(), pytest.raises(BenchError, match="by another process"):
        conductor_of(tmp_path, plan).evaluate()
    assert not list(paths.ledgers.rglob("*.jsonl")) and not paths.places.records.exists()
    other = tmp_path / "other"
    other.mkdir()
    prepare(other, 4, kind="f" * 64)
    process = start(other)
    _, errors = process.communicate(timeout=HANGS)
    assert process.returncode == 2
    what = next(line for line in errors.splitlines() if line.startswith("error: "))
    assert "is of machine kind" in what and "the plan is for ffffffffffff" in what and "environment lock" in what
    assert not list(other.glob("leaderboard/ledgers/**/*.jsonl")) and not list(other.rglob("records/**/*.json"))


def conductor_of(folder: Path, plan: Plan) -> Conductor:
    from bench.setting import Places

    entry = folder / "baselines" / "adamw" / "adamw-ref.toml"
    board, places = folder / "leaderboard", Places(folder / "data", folder / "work", folder / "leaderboard" / "records")
    paths = Paths(folder / "small.toml", entry, entry, board / "plans", board / "ledgers", places)

    class Idle:
        def map(self, function, jobs):
            raise AssertionError("nothing may be run")

    return Conductor(plan, read_task(paths.task), paths, Idle())
