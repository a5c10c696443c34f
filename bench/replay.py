"""Replay: make a run again, or its first steps, and say whether the bits are those of its record."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bench.assemble import Assembly, Request, Transfer, assemble
from bench.clock import Clock
from bench.entry import Entry, Value
from bench.errors import BenchError
from bench.evaluate.crossings import adopt, discard, keeping
from bench.evaluate.final import Final, measure
from bench.evaluate.weights import keep
from bench.facts import measured
from bench.guard import Guard, code
from bench.mode import read_mode
from bench.model import weights_digest
from bench.plan import PLACEBO
from bench.record import Log, Machine, Outcome, Record, read_log, read_record
from bench.run import classify, ending, warm_up
from bench.setting import Places, Setting, Watch, settle
from bench.task import Rest, Task
from bench.train import Progress, train

Verdict = Literal["identical", "within band", "different"]
MEASURED = ("outcome", "steps", "tokens", "charged_tokens", "initial_loss", "select_loss", "score_loss", "chains",
            "weights", "facts")  # fmt: skip


@dataclass(frozen=True)
class Replayed:
    verdict: Verdict
    steps: int  # made again
    first_difference: int | None  # step at which loss or gradient norm first differ
    largest_gap: float  # nats, over all losses that both have
    differing: tuple[str, ...]  # parts of the record that did not come back; of its first steps, the outcome alone
    notes: tuple[str, ...]  # why bits may differ here
    weights: Path | None
    machine: Machine  # that made it again


def replay(
    path: Path, task: Task, entry: Entry, places: Places, watch: Watch, steps: int | None = None,
    weights_folder: Path | None = None, eager: bool = False,
) -> Replayed:  # fmt: skip
    """Make the record's first steps again, or all and its evaluation; with a weights folder, export what they lead to.

    Identical: every step's loss and gradient norm, the chains, and after a whole replay every measured part of the
    record, are the same to the bit, as they must be on the record's kind of machine. Elsewhere, within band: the final
    losses, or those of the steps, are near (protocol G). Eager: without the compiler, which makes
    another kind of machine of a compiled run's.
    """
    record = read_record(path)
    log = read_log(path, record)
    if record.steps == 0:
        raise BenchError(f"{path}: the record has no step to make again ({record.outcome}: {record.cause})")
    if steps is not None and not 0 < steps <= record.steps:
        raise BenchError(f"{path}: cannot replay {steps} steps: the record has {record.steps}")
    if weights_folder and steps is not None:
        raise BenchError("--keep-weights needs the whole run: leave --steps out")
    setting = settle(request_of(record, task, entry), watch, record.machine.compiled and not eager)
    before = code()
    assembly, progress = assemble(setting.request, places.data, setting.hardware, steps), Progress()
    guard = Guard(assembly, before)
    draft = f".replay-{record.run_id}"
    assembly = keeping(assembly, progress, setting.request, draft, weights_folder)
    outcome, final = _make_again(assembly, guard, progress, watch, whole=steps is None)
    first, gap = compare_steps(log, progress)
    mine = measured(assembly, progress, final, assembly.workers)
    differing = (
        compare_records(record, mine, outcome) if steps is None else _fell_short(record, progress, outcome, steps)
    )
    same = first is None and _milestones(log, progress) and not differing
    if steps is None and final and final.score_loss is not None and record.score_loss is not None:
        gap = abs(final.score_loss - record.score_loss)  # only the end of a run is scored
    notes = tuple(differences(record, setting))
    near = notes and gap <= task.replay.band and "outcome" not in differing
    verdict: Verdict = "identical" if same else "within band" if near else "different"
    exported = None
    if weights_folder:
        try:
            exported = _keep(assembly, record, weights_folder)
            adopt(weights_folder, draft, record.run_id, task.common_losses)  # now known to be the run's own
        finally:
            discard(weights_folder, draft, task.common_losses)
    return Replayed(verdict, progress.step, first, gap, differing, notes, exported, setting.machine)


def request_of(record: Record, task: Task, entry: Entry) -> Request:
    """Return the record's own request; a task, an entry or a mode that has changed since is refused."""
    inputs = record.inputs
    if task.digest != inputs.task_digest:
        raise BenchError(
            f"the task {inputs.task} has changed since this record (digest {task.digest[:12]}, "
            f"recorded {inputs.task_digest[:12]})",
            "check out the version the record was made with",
        )
    if entry.digest != inputs.entry_digest:
        raise BenchError(
            f"the entry {inputs.entry} has changed since this record (digest {entry.digest[:12]}, "
            f"recorded {inputs.entry_digest[:12]})",
            "check out the version the record was made with",
        )
    if read_mode(inputs.mode).digest != inputs.mode_digest:
        raise BenchError(
            f"the mode {inputs.mode} has changed since this record (digest {read_mode(inputs.mode).digest[:12]}, "
            f"recorded {inputs.mode_digest[:12]})",
            "check out the version the record was made with",
        )
    values, rest, transfer = split_values(inputs.values)
    return Request(
        inputs.task, task, entry, values, inputs.mode, inputs.budget, inputs.track, inputs.seed,
        micro_batch=record.machine.micro_batch_sequences, rest=Rest(**rest) if rest else None, transfer=transfer,
        placebo=inputs.entry.partition(PLACEBO)[2] or None,
    )  # fmt: skip


def split_values(values: dict[str, Value]) -> tuple[dict[str, Value], dict[str, float], Transfer | None]:
    """Return an entry's own values, the rest's, and the transfer track's, out of what a record holds."""
    parts: dict[str, dict[str, Any]] = {"": {}, "rest": {}, "transfer": {}}
    for name, value in values.items():
        home, _, tail = name.rpartition(".")
        parts[home][tail] = value
    return parts[""], parts["rest"], parts["transfer"] or None


def differences(record: Record, setting: Setting) -> list[str]:
    """Return in words what makes this another kind of machine, or another harness, than the record's."""
    here, there = (machine.model_dump(exclude={"stands_for"}) for machine in (setting.machine, record.machine))
    notes = [f"{name} is {here[name]!r} here, {there[name]!r} there" for name in here if here[name] != there[name]]
    if setting.inputs.harness != record.inputs.harness:
        notes.append("the harness has changed since this record")
    return notes


def _make_again(
    assembly: Assembly, guard: Guard, progress: Progress, watch: Watch, whole: bool
) -> tuple[Outcome, Final | None]:
    """Train without checkpoints, evaluate a whole run, and return how it ended; looked at as a run is."""
    steps, watched = assembly.course.stop_after or assembly.course.steps, guard.watched(assembly)
    try:
        warm_up(assembly)
        train(watched.parts, assembly.course, progress, Clock(), lambda must: None,
              lambda now: watch.progress(now, steps, assembly.course.batch_tokens))  # fmt: skip
        guard.check()
        final = measure(watched) if whole else None
        guard.check()
    except (Exception, SystemExit) as error:
        outcome, cause = classify(guard.explained(error))
        watch.say(f"{outcome}: {cause}")
        return outcome, None
    return ending(final, progress)[0] if final else "finished", final


def compare_steps(log: Log, progress: Progress) -> tuple[int | None, float]:
    """Return (first step that differs, largest gap in nats) over the steps that both have."""
    first, gap = None, 0.0
    for place, (loss, norm) in enumerate(zip(log.loss, log.gradient_norm, strict=True)):
        step = place * log.stride
        if step >= progress.step:
            break
        mine, my_norm = (_as_logged(values[step]) for values in (progress.losses, progress.norms))
        if (mine, my_norm) != (loss, norm):
            first = step + 1 if first is None else first
            gap = max(gap, abs(mine - loss)) if mine is not None and loss is not None else math.inf
    return first, gap


def _milestones(log: Log, progress: Progress) -> bool:
    """Return whether every milestone on the way has the recorded chains."""
    mine = {milestone["step"]: (milestone["data"], milestone["loss"]) for milestone in progress.milestones}
    return all(mine.get(m.step) == (m.data, m.loss) for m in log.milestones if m.step <= progress.step)


def compare_records(record: Record, mine: dict[str, Any], outcome: Outcome) -> tuple[str, ...]:
    """Return the names of measured parts that differ; seconds and bytes are the machine's, and not compared."""
    here = json.loads(json.dumps({**mine, "outcome": outcome}))
    there = record.model_dump(mode="json", exclude_defaults=True)  # a field that a record is too old for is none
    return tuple(name for name in MEASURED if here[name] != there[name])


def _fell_short(record: Record, progress: Progress, outcome: Outcome, steps: int) -> tuple[str, ...]:
    """Name the outcome where the first steps were not all made, or ended in what the record's did not end in."""
    as_recorded = outcome == "finished" or (steps, outcome) == (record.steps, record.outcome)
    return () if progress.step == steps and as_recorded else ("outcome",)


def _as_logged(value: float) -> float | None:
    return float(f"{value:.9g}") if math.isfinite(value) else None


def _keep(assembly: Assembly, record: Record, folder: Path) -> Path:
    """Export the weights that the record was evaluated at, which must have its digest."""
    with assembly.evaluation_weights():
        digest = weights_digest(assembly.model)
        if digest != record.weights.evaluated:
            raise BenchError(
                f"the replayed weights are not the record's (digest {digest[:12]}, recorded "
                f"{(record.weights.evaluated or 'none')[:12]})",
                "replay on the record's kind of machine",
            )
        return keep(assembly.model, folder, record.run_id)
