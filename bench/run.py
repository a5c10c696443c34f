"""One run, from request to record: started, resumed, finished once, whatever kills it on the way."""

import datetime
import errno
import os
import time
import traceback
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch.optim import Optimizer

from bench import checkpoint
from bench.assemble import Assembly, Request, assemble
from bench.clock import Clock
from bench.errors import BenchError
from bench.evaluate.crossings import keeping
from bench.evaluate.final import Final, measure
from bench.evaluate.weights import keep
from bench.facts import log_of, measured
from bench.guard import Guard, code
from bench.machine import peak_memory_bytes, reset_peak_memory
from bench.quantize.proof import layer_facts, why_inert
from bench.record import (
    SCHEMA,
    Log,
    Outcome,
    read_log,
    read_record,
    record_path,
    remove_record,
    write_record,
)
from bench.setting import Places, Setting, Watch, settle
from bench.train import Diverged, Progress, train
from bench.workers import Workers

SOURCE, LIBRARY = "optimizer.py", Path(torch.__file__).parent  # an entry's own code; torch has files of that name too


def run(request: Request, places: Places, watch: Watch, checkpoint_seconds: float = 30.0, again: bool = False) -> Path:
    """Make the run's record and return its path; a run that has one is not made again unless asked to."""
    setting = settle(request, watch)
    run_id = setting.inputs.run_id
    target = record_path(places.records, request.task_name, request.plan, run_id)
    folder = places.work / request.task_name / run_id
    workers = setting.hardware.workers
    with ExitStack() as held:
        try:
            if not workers.first(lambda: _claim(folder, target, watch, held, again)):
                return target
            _make(setting, places, watch if workers.rank == 0 else Watch(), folder, target, checkpoint_seconds)
        except OSError as error:
            raise _explain(error, folder) from error
    return target


def _claim(folder: Path, target: Path, watch: Watch, held: ExitStack, again: bool) -> bool:
    """Take the run for this process and return True, or False where its record stands; held keeps the claim."""
    if target.exists() and not again:
        read_log(target, read_record(target))  # a damaged record is no record
        watch.say(f"already done: {target}")
        return False
    try:
        for needed in (folder, target.parent):  # before the training, not after it
            needed.mkdir(parents=True, exist_ok=True)
            if not os.access(needed, os.W_OK):
                raise BenchError(f"{needed}: may not be written")
        held.enter_context(FileLock(folder / "lock", timeout=0))
    except Timeout:
        raise BenchError(
            f"this run is being made by another process ({folder})",
            "wait for it: the same command then finds its record",
        ) from None
    except OSError as error:
        raise _explain(error, folder) from error
    if target.exists() and not again:  # finished by another process in between
        return False
    if again:
        remove_record(target)
    return True


def _explain(error: OSError, folder: Path) -> BenchError:
    if error.errno == errno.ENOSPC:
        return BenchError(
            "no space left on the disk; nothing is lost",
            f"free some and give the same command again: the run goes on from its last checkpoint in {folder}",
        )
    return BenchError(f"{error.filename or folder}: {error.strerror or error}")


def _make(
    setting: Setting, places: Places, watch: Watch, folder: Path, target: Path, checkpoint_seconds: float
) -> None:
    workers = setting.hardware.workers
    folder = folder if workers.ranks == 1 else folder / f"rank-{workers.rank}"
    folder.mkdir(exist_ok=True)
    before = code()  # the entry is loaded by what comes next
    assembly = _assemble(setting, places)
    guard = Guard(assembly, before)
    progress = restore(assembly, checkpoint.load_latest(folder, watch.say, workers))
    if progress.step:
        watch.say(f"going on from step {progress.step} of {assembly.course.steps}")
    assembly = keeping(assembly, progress, setting.request, setting.inputs.run_id, places.weights)
    outcome, cause, final = attempt(assembly, guard, progress, folder, watch, checkpoint_seconds)
    alone = workers.ranks > 1 and outcome in ("crashed", "out-of-memory")  # the others do not know yet
    facts = {
        "schema": SCHEMA,
        "run_id": setting.inputs.run_id,
        "inputs": setting.inputs.model_dump(mode="json"),
        "plan": setting.request.plan,
        "machine": setting.machine.model_dump(mode="json"),
        "who": setting.who,
        "made": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "outcome": outcome,
        "cause": f"rank {workers.rank}: {cause}" if alone else cause,
        **measured(assembly, progress, final, Workers() if alone else workers),
    }
    if alone:
        _write_alone(folder.parent, target, facts, log_of(progress, final))
        raise BenchError(f"rank {workers.rank}: {outcome}: {cause}", f"the record says so: {target}")
    if places.weights and outcome == "finished" and not assembly.mode.quantizes:
        with assembly.evaluation_weights():  # before the record: one that stands is not made again
            workers.first(partial(keep, assembly.model, places.weights, setting.inputs.run_id))
    if workers.rank == 0:
        write_record(target, facts, log_of(progress, final))
    workers.first(lambda: None)  # checkpoints go when the record stands
    checkpoint.clear(folder)


def _write_alone(folder: Path, target: Path, facts: dict[str, Any], log: Log) -> None:
    """Write the record of a failure that several ranks may meet at once: the first one tells."""
    with FileLock(folder / "failure.lock"):
        if not target.exists():
            write_record(target, facts, log)
    checkpoint.clear(folder)


def _assemble(setting: Setting, places: Places) -> Assembly:
    try:
        return assemble(setting.request, places.data, setting.hardware)
    except Exception as error:
        if _is_out_of_memory(error):
            raise BenchError("out of memory while the model was built", "this task needs a larger machine") from None
        raise


def ending(final: Final, progress: Progress) -> tuple[Outcome, str | None]:
    """Return the outcome of a run that trained to its end, and its cause where it is not finished."""
    idle = why_inert(final.quantization) if final.quantization else None
    if idle:
        return "inert", idle
    end = progress.curve[-1]["loss"]
    if final.score_loss is None or end is None or progress.initial_loss is None or end > progress.initial_loss:
        return "diverged", "the final loss is no number, or above the initial one"
    return "finished", None


def warm_up(assembly: Assembly) -> None:
    """Compile outside the clock: one forward-backward and one evaluation, whose results are dropped.

    Here, once and before the first step, a sparse gradient is refused.
    """
    tokens = assembly.parts.batch_at(0, assembly.course.micro_batch).to(assembly.parts.device)
    assembly.parts.losses_of(tokens).mean().backward()
    for role, weights in assembly.roles.by_name.items():
        for weight in weights:
            if weight.grad is not None and weight.grad.layout != torch.strided:
                raise BenchError(
                    f"a gradient among the {role} has layout {weight.grad.layout}, expected torch.strided",
                    "no entry is written for sparse gradients: build the model without them",
                )
            weight.grad = None
    assembly.parts.curve_loss()


def restore(assembly: Assembly, state: dict[str, Any] | None) -> Progress:
    """Put a checkpoint's weights and states in place and return its progress; a fresh one without a checkpoint."""
    if state is None:
        return Progress()
    assembly.model.load_state_dict(state["model"])
    for optimizer, saved in zip(assembly.parts.optimizers, state["optimizers"], strict=True):
        load_optimizer(optimizer, saved)
    assembly.generator.set_state(state["generator"])
    return Progress(**state["progress"])


def load_optimizer(optimizer: Optimizer, saved: dict[str, Any]) -> None:
    """Load a state dict with every tensor in the dtype it was saved in; torch alone makes integers into floats."""
    optimizer.load_state_dict(saved)
    owners = [w for group in optimizer.param_groups for w in group["params"]]
    for place, values in saved["state"].items():
        for name, value in values.items():
            if isinstance(value, torch.Tensor):
                held = optimizer.state[owners[place]][name]
                optimizer.state[owners[place]][name] = value.to(held.device, copy=True)


def attempt(
    assembly: Assembly, guard: Guard, progress: Progress, folder: Path, watch: Watch, checkpoint_seconds: float
) -> tuple[Outcome, str | None, Final | None]:
    """Train to the end, evaluate, and return how it ended and why; only what the run itself caused is an outcome."""
    last = time.monotonic()
    workers, watched = assembly.workers, guard.watched(assembly)

    def save(must: bool) -> None:
        nonlocal last
        if workers.first(lambda: must or time.monotonic() - last >= checkpoint_seconds):
            checkpoint.save(folder, progress.step, _state(assembly, progress))
            last = time.monotonic()

    def report(now: Progress) -> None:
        watch.progress(now, assembly.course.steps, assembly.course.batch_tokens)

    idle = why_inert(layer_facts(assembly.model)) if assembly.mode.quantizes else None
    if idle:  # known before the first step
        return "inert", idle, None
    try:
        warm_up(assembly)
        reset_peak_memory(assembly.parts.device)
        train(watched.parts, assembly.course, progress, Clock(progress.train_seconds), save, report)
        guard.check()
        peaks = workers.gather(peak_memory_bytes(assembly.parts.device) or 0)  # of a device: the largest
        progress.peak_memory_bytes = max(*peaks, progress.peak_memory_bytes or 0)
        final = measure(watched)
        guard.check()
    except (BenchError, OSError):
        raise
    except (Exception, SystemExit) as error:  # an entry that ends the process is a row like any other
        if not isinstance(error, Diverged):
            (folder / "crash.txt").write_text(traceback.format_exc())
        return *classify(guard.explained(error)), None
    return *ending(final, progress), final


def classify(error: BaseException) -> tuple[Outcome, str]:
    """Return the outcome that an error in a run is, and its cause in one line."""
    if isinstance(error, Diverged):
        return "diverged", str(error)
    outcome: Outcome = "out-of-memory" if _is_out_of_memory(error) else "crashed"
    return outcome, f"{type(error).__name__}: {error}".splitlines()[0][:200].removesuffix(": ") + place_of(error)


def place_of(error: BaseException) -> str:
    """Return the last line of an entry's own code that an error went through, in brackets; nothing where none did."""
    own = [frame for frame in traceback.extract_tb(error.__traceback__)
           if Path(frame.filename).name == SOURCE and not Path(frame.filename).is_relative_to(LIBRARY)]  # fmt: skip
    return f" ({SOURCE}, line {own[-1].lineno})" if own else ""


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _state(assembly: Assembly, progress: Progress) -> dict[str, Any]:
    return {
        "model": assembly.model.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in assembly.parts.optimizers],
        "generator": assembly.generator.get_state(),
        "progress": progress.as_dict(),
    }
