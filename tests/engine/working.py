"""Small jobs, what workers do with them in tests, and what is read off afterwards."""

import json
import os
import signal
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

from small import ADAMW, places_in

from bench.assemble import Request
from bench.entry import Entry
from bench.errors import BenchError
from bench.jobs import Job, make
from bench.record import read_record
from bench.setting import Watch, settle
from bench.task import read_task

PLAN = "0" * 64
HANGS = 600.0  # seconds after which something hangs, however busy the machine is


def job_in(folder: Path, task: Path, seed: int = 0, kind: str | None = None) -> Job:
    """Return a run of AdamW on a small task, checkpointed at every chance."""
    return Job(
        task=task, entry=ADAMW, name="adamw", values=Entry(ADAMW).values({}), rung=1.0, seed=seed, track="declared",
        mode="bf16", plan=PLAN, machine_kind=kind or kind_for(task), task_digest=read_task(task).digest,
        entry_digest=Entry(ADAMW).digest, places=places_in(folder), checkpoint_seconds=0.0,
    )  # fmt: skip


@cache
def kind_for(task: Path) -> str:
    """Return this machine's kind."""
    entry = Entry(ADAMW)
    request = Request(task.stem, read_task(task), entry, entry.values({}), "bf16", 1.0, "declared", 0)
    return settle(request, Watch()).machine.kind


def slowly(job: Job) -> Path:
    """Make the run with time to be killed in, and tell of every report."""

    def report(step: int, steps: int, loss: float) -> None:
        tell(job, "step", step)
        time.sleep(0.1)

    path = make(job, report)
    tell(job, "made", 0)
    return path


def refuse(job: Job) -> Path:
    """Meet a user's mistake."""
    raise BenchError(f"seed {job.seed} is refused", "take another")


def fail(job: Job) -> Path:
    """Meet an error of ours."""
    raise ZeroDivisionError("ours")


def die(job: Job) -> Path:
    """Be killed, as by a kernel short of memory."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def tell(job: Job, what: str, step: int) -> None:
    """Add a line to the log that all workers share."""
    line = json.dumps({"seed": job.seed, "what": what, "step": step, "worker": os.getpid()}) + "\n"
    job.places.work.mkdir(parents=True, exist_ok=True)
    with (job.places.work / "told.txt").open("ab", buffering=0) as file:
        file.write(line.encode())


def told(folder: Path) -> list[dict]:
    """Return what workers told so far."""
    path = folder / "work" / "told.txt"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def check_taken_up(folder: Path, seeds: int) -> None:
    """Assert that every run was made once, and none went back beyond its last checkpoint."""
    lines = told(folder)
    assert sorted(line["seed"] for line in lines if line["what"] == "made") == list(range(seeds))
    for seed in range(seeds):
        steps = [line["step"] for line in lines if line["seed"] == seed and line["what"] == "step"]
        again = len(steps) - len(set(steps))
        assert again <= 1, f"seed {seed} was trained again: {steps}"


def bits(paths: list[Path]) -> list[tuple]:
    """Return what equal runs share to the bit."""
    records = [read_record(path) for path in paths]
    return [(record.run_id, record.chains, record.weights, record.score_loss) for record in records]


def until(holds: Callable[[], object], seconds: float = HANGS) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)
