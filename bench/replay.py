"""Replay: make a run again, or its first steps, and say whether the bits are those of its record."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from bench.assemble import Assembly, Request, assemble
from bench.clock import Clock
from bench.entry import Entry
from bench.errors import BenchError
from bench.facts import measure, weights_digest
from bench.record import Log, Record, read_log, read_record
from bench.run import Places, Setting, Watch, settle, warm_up
from bench.task import Task
from bench.train import Diverged, Progress, train

Verdict = Literal["identical", "within band", "different"]


@dataclass(frozen=True)
class Replayed:
    verdict: Verdict
    steps: int  # compared
    first_difference: int | None  # step at which loss or gradient norm first differ
    largest_gap: float  # nats, over the compared losses
    notes: tuple[str, ...]  # why bits may differ here
    weights: Path | None


def replay(
    path: Path, task: Task, entry: Entry, places: Places, watch: Watch, steps: int | None = None,
    weights_folder: Path | None = None,
) -> Replayed:  # fmt: skip
    """Run the record's first steps, or all, and compare; with a weights folder, keep the checkpoint they lead to."""
    record = read_record(path)
    log = read_log(path, record)
    if steps is not None and not 0 < steps <= record.steps:
        raise BenchError(f"{path}: cannot replay {steps} steps: the record has {record.steps}")
    if weights_folder and steps is not None:
        raise BenchError("--keep-weights needs the whole run: leave --steps out")
    setting = settle(request_of(record, task, entry), watch, record.machine.compiled)
    notes = tuple(differences(record, setting))
    assembly = assemble(setting.request, places.data, setting.device, setting.compiled, steps or record.steps)
    if weights_digest(assembly.model) != record.weights.initial:
        notes = (*notes, "the initial weights differ")
    progress = _train(assembly, watch)
    verdict, first, gap = compare(record, log, progress, task.replay.band)
    whole = progress.step == record.steps == assembly.course.steps
    if verdict == "within band" and whole and record.score_loss is not None:
        final = measure(assembly).score_loss
        gap = max(gap, abs(final - record.score_loss)) if final is not None else math.inf
        verdict = "within band" if gap <= task.replay.band else "different"
    kept = _keep(assembly, record, weights_folder) if weights_folder else None
    return Replayed(verdict, progress.step, first, gap, notes, kept)


def request_of(record: Record, task: Task, entry: Entry) -> Request:
    """Return the record's own request; a task or an entry that has changed since is refused."""
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
    return Request(inputs.task, task, entry, inputs.values, inputs.mode, inputs.budget, inputs.track, inputs.seed)


def differences(record: Record, setting: Setting) -> list[str]:
    """Return in words what makes this another kind of machine, or another harness, than the record's."""
    here, there = setting.machine.model_dump(), record.machine.model_dump()
    notes = [f"{name} is {here[name]!r} here, {there[name]!r} there" for name in here if here[name] != there[name]]
    if setting.inputs.harness != record.inputs.harness:
        notes.append("the harness has changed since this record")
    return notes


def _train(assembly: Assembly, watch: Watch) -> Progress:
    warm_up(assembly)
    progress = Progress()
    try:
        train(
            assembly.parts,
            assembly.course,
            progress,
            Clock(),
            lambda must: None,
            lambda now: watch.progress(now, assembly.course.stop_after or 0, assembly.course.batch_tokens),
        )
    except Diverged as error:
        watch.say(f"diverged: {error}")
    return progress


def compare(record: Record, log: Log, progress: Progress, band: float) -> tuple[Verdict, int | None, float]:
    """Return (verdict, first step that differs, largest gap in nats) over the steps that both have."""
    theirs = [step for step in log.milestones if step.step <= progress.step]
    chains = {milestone["step"]: (milestone["data"], milestone["loss"]) for milestone in progress.milestones}
    same = all(chains.get(m.step) == (m.data, m.loss) for m in theirs)
    if progress.step == record.steps:
        same = same and (progress.data_chain, progress.loss_chain) == (record.chains.data, record.chains.loss)
    first, gap = None, 0.0
    recorded = zip(log.loss, log.gradient_norm, strict=True)
    for place, (loss, norm) in enumerate(recorded):
        step = place * log.stride
        if step >= progress.step:
            break
        mine, my_norm = (_as_logged(values[step]) for values in (progress.losses, progress.norms))
        if (mine, my_norm) != (loss, norm):
            first = step + 1 if first is None else first
            gap = max(gap, abs(mine - loss)) if mine is not None and loss is not None else math.inf
    if same and first is None:
        return "identical", None, 0.0
    return ("within band" if gap <= band else "different"), first, gap


def _as_logged(value: float) -> float | None:
    return float(f"{value:.9g}") if math.isfinite(value) else None


def _keep(assembly: Assembly, record: Record, folder: Path) -> Path:
    """Save the final weights, which must have the record's digest."""
    digest = weights_digest(assembly.model)
    if digest != record.weights.final:
        raise BenchError(
            f"the replayed weights are not the record's (digest {digest[:12]}, recorded "
            f"{(record.weights.final or 'none')[:12]})",
            "replay on the record's kind of machine",
        )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{record.run_id}.pt"
    torch.save(assembly.model.state_dict(), path)
    return path
