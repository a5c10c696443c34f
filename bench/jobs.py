"""Jobs: what a plan asks to be run, as plain data that travels to a worker, and what the worker does with it."""

import functools
import math
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock

from bench.assemble import Request, Transfer, assemble, rescaling
from bench.clock import Clock
from bench.digest import digest_of
from bench.entry import Entry, Value
from bench.errors import BenchError
from bench.evaluate.finished import forget_all, measure_finished, missing_weights
from bench.mode import FLOAT
from bench.places import PUBLISHED
from bench.plan import PLACEBO
from bench.record import Track, read_record, write_atomically
from bench.replay import replay
from bench.run import classify, run, warm_up
from bench.setting import Places, Setting, Watch, settle
from bench.spec import Spec, read_json
from bench.standin import settings_of
from bench.task import Rest, Task, read_task, rung_name
from bench.train import Progress, train

PILOT_STEPS = 100


@dataclass(frozen=True)
class Job:
    """One run of a plan. Its results do not depend on where it is done."""

    task: Path
    entry: Path
    name: str  # the entry's, with its number where it is a placebo
    values: dict[str, Value]
    rung: float
    seed: int
    track: Track
    mode: str
    plan: str
    machine_kind: str
    task_digest: str  # what the plan was written for: a file edited while it is carried out is refused
    entry_digest: str
    places: Places
    rest: dict[str, float] | None = None
    transfer: Transfer | None = None
    batch_factor: float = 1.0  # the study of batches
    checkpoint_seconds: float = 30.0
    record: Path | None = None  # where the run was made already, and its checkpoint alone is to be measured
    after: tuple[str, ...] = ()  # modes that its finished checkpoint is measured in

    def anywhere(self) -> "Job":
        """Return the job with whole paths, for a worker that starts in another folder of a shared file system."""
        named = {name: path and path.absolute() for name, path in vars(self.places).items()}
        places = Places(**named)
        record = self.record and self.record.absolute()
        return replace(self, task=self.task.absolute(), entry=self.entry.absolute(), places=places, record=record)

    def __str__(self) -> str:
        mode = "" if self.mode == FLOAT else f" {self.mode}"
        return f"{self.task.stem} {self.name} {self.track}{mode} {rung_name(self.rung)} seed {self.seed}"


Report = Callable[[int, int, float], None]  # (steps done, steps, loss)
_task = functools.lru_cache(read_task)
_entry = functools.lru_cache(Entry)


def request_of(job: Job) -> Request:
    task, entry = _task(job.task), _entry(job.entry)
    for path, now, then in ((job.task, task.digest, job.task_digest), (job.entry, entry.digest, job.entry_digest)):
        if now != then:
            raise BenchError(
                f"{path}: has changed since the plan {job.plan[:16]} was written, or its code has",
                "check out the version the plan was written with, or write a new plan",
            )
    if job.batch_factor != 1:
        task = task.with_batch(job.batch_factor, job.rung)
    return Request(
        job.task.stem, task, entry, job.values, job.mode, job.rung, job.track, job.seed, job.plan,
        rest=Rest(**job.rest) if job.rest else None, transfer=job.transfer,
        placebo=job.name.partition(PLACEBO)[2] or None,
    )  # fmt: skip


def make(job: Job, report: Report = lambda step, steps, loss: None) -> Path:
    """Make the job's record and return its path, going on where a worker that died left it.

    A worker that is only thought to be dead, behind a lost connection or after its plan was killed, may still be at
    it: it is waited for, and its record is the answer.
    """
    request = request_of(job)
    setting = _settled(request, job)
    watch = Watch(progress=lambda now, steps, batch_tokens: report(now.step, steps, now.losses[-1]))
    claim = job.places.work / "jobs" / f"{setting.inputs.run_id}.lock"
    claim.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(claim):
        return run(request, job.places, watch, job.checkpoint_seconds)


def complete(job: Job) -> Path:
    """Make the job's record, where it does not stand, and measure its finished checkpoint in the modes after training.

    Every mode is written as soon as it is measured, so a killed worker's next goes on with the one under way. Weights
    that are gone are made again by a replay, and removed once nothing is left to measure.
    """
    path = make(job) if job.record is None else job.record
    record = read_record(path)
    weights = job.places.weights
    if not job.after or record.outcome != "finished" or weights is None:
        return path
    request = request_of(job)
    _settled(request, job)
    claim = job.places.work / "jobs" / f"{record.run_id}.lock"
    claim.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(claim):
        if missing_weights(path, request.task, job.after, weights):
            replay(path, request.task, request.entry, job.places, Watch(), weights_folder=weights)
        for _ in measure_finished(path, request.task, job.after, weights, job.places.data):
            pass
        forget_all(path, request.task, weights)
    return path


def _settled(request: Request, job: Job) -> Setting:
    setting = settle(request, Watch())
    machine = setting.machine
    if machine.kind != job.machine_kind:
        known = settings_of(machine, PUBLISHED, request.task_name)
        raise BenchError(
            f"{job}: the worker on {socket.gethostname()} is of machine kind {machine.kind[:12]}, the plan is for "
            f"{job.machine_kind[:12]}; the worker: {machine.processor}, {machine.instructions}, {machine.threads} "
            f"threads, {machine.compiler or 'not compiled'}, switches {machine.switches or 'none'}, "
            f"environment lock {machine.lock[:12]}",
            "a plan's runs are made on one kind of machine, with one environment; write a plan for this one, or "
            + (f"go on with {known}" if known else "show that it gives the same bits: bench stand-in"),
        )
    return setting


class Sizes(Spec):
    """What a pilot measured: the root mean square of an update over lr, by the matrices' shape."""

    sizes: dict[str, float]
    cause: str | None = None  # why it ended early


def pilot(job: Job) -> Path:
    """Measure the sizes of the job's unscaled updates over its first steps, once, and return the file with them.

    One that diverges or fails leaves what it measured until then: the runs that it is for say how they end.
    """
    request = request_of(job)
    setting = _settled(request, job)
    path = job.places.work / "pilots" / f"{digest_of(setting.inputs.model_dump(mode='json'))}.json"
    if path.exists():
        return path
    steps = min(PILOT_STEPS, request.task.steps(request.budget))
    assembly = assemble(request, job.places.data, setting.hardware, steps)
    measure = rescaling(request, assembly.entry_optimizers, assembly.roles)
    parts = assembly.parts.__class__(**{**vars(assembly.parts), "around_step": measure.measured})
    cause = None
    try:
        warm_up(assembly)
        train(parts, assembly.course, Progress(), Clock(), lambda must: None, lambda now: None)
    except (BenchError, OSError):
        raise
    except Exception as error:
        outcome, cause = classify(error)
        if outcome == "out-of-memory":  # of the machine, not of the entry: no scale may depend on it
            raise BenchError(f"{job}: its pilot ran out of memory", "run fewer side by side: --workers") from error
    measure.sizes = {shape: [s for s in squares if math.isfinite(s)] for shape, squares in measure.sizes.items()}
    measure.sizes = {shape: squares for shape, squares in measure.sizes.items() if squares}
    sizes = {shape: size for shape, size in measure.mean_sizes().items() if math.isfinite(size)}
    write_atomically(path, Sizes(sizes=sizes, cause=cause).model_dump_json().encode())
    return path


def read_sizes(path: Path) -> dict[str, float]:
    return read_json(path, Sizes).sizes


def steps_of(task: Task) -> dict[float, int]:
    return {rung: task.steps(rung) for rung in task.budget.rungs}
