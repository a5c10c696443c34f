"""What of a record follows from its log, worked out again: the chain of losses bit by bit, the curve, the rates."""

import hashlib
import math
import struct
from collections.abc import Iterator, Sequence

import numpy as np

from bench.passes import own_order
from bench.record import Log, Record
from bench.task import Task

MILESTONES = 256  # the loop keeps at most so many
COLUMN = 8_192  # per-step values that a log keeps (bench.facts)
BLOCKS = 512  # of the scoring text (bench.evaluate.loss)
LONGEST_BLOCKS = 1_024  # sequences of a block: with 512 of them a scoring text of 134 M tokens at 256 each
CLOSE = 1e-7  # relative: block means are kept in fp32
SECONDS = 0.01

Odd = Iterator[tuple[str, str]]  # (key, reason)
Sizes = frozenset[tuple[int, int]]  # that blocks may have: (sequences of each, how many of them have one more)


def inconsistencies(record: Record, log: Log, task: Task) -> Odd:
    """Yield what in the record does not follow from the log."""
    steps = task.steps(record.inputs.budget)
    common = not own_order(record.facts.probe, record.facts.batches)  # steps of one size, as most entries have
    most = steps if common else task.tokens(record.inputs.budget) // task.training.context
    if record.steps > most:
        yield "steps", f"{record.steps:,}, the budget has at most {most:,}"
        return
    if common:
        yield from _milestones(record, log, steps)
        yield from _curve(record, log, task, steps)
    yield from _chain(record, log)
    yield from _rates(record, log)
    yield from _score(record, log)
    if common and record.tokens != record.steps * task.training.batch_tokens:
        yield "tokens", f"{record.tokens:,}, expected {record.steps:,} steps of {task.training.batch_tokens:,}"


def _milestones(record: Record, log: Log, steps: int) -> Odd:
    every = math.ceil(steps / MILESTONES)
    wanted = list(range(every, record.steps + 1, every))
    if [m.step for m in log.milestones] != wanted:
        yield "log.milestones", f"expected one each {every} steps"


def _chain(record: Record, log: Log) -> Odd:
    """Recompute the loss chain: losses and norms are logged at nine digits, which for fp32 is exact."""
    if log.milestones and log.milestones[-1].step == record.steps:
        for name in ("data", "loss"):
            if getattr(log.milestones[-1], name) != getattr(record.chains, name):
                yield f"chains.{name}", "is not the log's last milestone"
    if len({m.data for m in log.milestones}) != len(log.milestones):
        yield "log.milestones", "the data chain stands still"
    if log.stride != (stride := -(-max(1, record.steps) // COLUMN)):
        yield "log.stride", f"{log.stride}, expected {stride} for {record.steps:,} steps"
        return
    if record.outcome == "finished" and None in (*log.loss, *log.gradient_norm):
        yield "log.loss", "has a number that is none: a run ends there, and is not finished"
    if log.stride != 1:
        return
    chain, marks = b"", {m.step: m.loss for m in log.milestones}
    for step, (loss, norm) in enumerate(zip(log.loss, log.gradient_norm, strict=True)):
        if loss is None or norm is None:  # a number that is none has many bit patterns
            return
        chain = hashlib.sha256(chain + step.to_bytes(8, "little") + struct.pack("<ff", loss, norm)).digest()
        if marks.get(step + 1, chain.hex()) != chain.hex():
            yield "log.milestones", f"the loss chain at step {step + 1} does not follow from the losses"
            return
    if record.chains.loss != (chain.hex() or None):
        yield "chains.loss", "does not follow from the log's losses and gradient norms"


def _curve(record: Record, log: Log, task: Task, steps: int) -> Odd:
    every, batch = max(1, steps // task.evaluation.curve_points), task.training.batch_tokens
    wanted = [step * batch for step in range(0, steps, every)] + [steps * batch]
    there = [point.tokens for point in log.curve]
    if there != wanted[: len(there)] or (record.outcome == "finished" and there != wanted):
        yield "log.curve", f"expected a point each {every * batch:,} tokens, and one at the end"
        return
    if log.curve and log.curve[0].loss != record.initial_loss:
        yield "initial_loss", f"{record.initial_loss}, the log's curve begins at {log.curve[0].loss}"
    if record.outcome != "finished":
        return
    first, last = log.curve[0].loss, log.curve[-1].loss
    if first is None or last is None or last > first:
        yield "outcome", "finished, but the curve ends above where it began: that is diverged"
    seconds = [point.train_seconds for point in log.curve]
    if seconds != sorted(seconds) or abs(seconds[-1] - record.cost.train_seconds) > SECONDS:
        yield "cost.train_seconds", f"{record.cost.train_seconds}, the log's curve ends at {seconds[-1]:.3f}"


def _rates(record: Record, log: Log) -> Odd:
    clip, norms = record.facts.clip, [norm for norm in log.gradient_norm if norm is not None]
    if log.stride == 1 and clip is not None and norms and len(norms) == record.steps:
        rate = round(sum(norm > clip for norm in norms) / len(norms), 6)
        if record.facts.clip_rate != rate:
            yield "facts.clip_rate", f"{record.facts.clip_rate}, the log's gradient norms give {rate}"
    samples = [m.update_rms for m in log.milestones if m.update_rms]
    for role, size in record.facts.update_rms.items():
        mean = float(f"{sum(sample.get(role, 0.0) for sample in samples) / max(1, len(samples)):.6g}")
        if size != mean:
            yield f"facts.update_rms.{role}", f"{size}, the log's milestones give {mean}"


def _score(record: Record, log: Log) -> Odd:
    if record.score_loss is None:
        if log.score_blocks:
            yield "score_loss", "is null, but the log has scoring losses"
    elif not log.score_blocks:
        yield "log.score_blocks", "no scoring losses"
    elif len(log.score_blocks) > BLOCKS:
        yield "log.score_blocks", f"{len(log.score_blocks):,} blocks, expected at most {BLOCKS}"
    elif not sizes_of_blocks(record.score_loss, log.score_blocks):
        mean = sum(log.score_blocks) / len(log.score_blocks)
        yield "score_loss", f"{record.score_loss}, the log's blocks have mean {mean:.6f}"


def sizes_of_blocks(loss: float, blocks: Sequence[float]) -> Sizes:
    """Return the sizes with which the blocks' mean is the loss: all runs of a task must have one in common.

    B blocks of s sequences, the first r of which have one more (numpy.array_split), have the mean
    (s sum(blocks) + sum(blocks[:r])) / (s B + r); fewer than 512 blocks are of one sequence each.
    """
    count = len(blocks)
    sums = np.concatenate([[0.0], np.cumsum(np.asarray(blocks, dtype=np.float64))])
    s, r = np.ogrid[1 : (LONGEST_BLOCKS if count == BLOCKS else 1) + 1, 0 : count if count == BLOCKS else 1]
    means = (s * sums[-1] + sums[r]) / (s * count + r)
    near = np.abs(means - loss) <= CLOSE * max(1.0, abs(loss))
    return frozenset((int(size) + 1, int(longer)) for size, longer in np.argwhere(near))
