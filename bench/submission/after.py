"""Modes of finished checkpoints: every one that was planned, of every finished float run, and figures that agree."""

import math
from collections.abc import Iterator

from bench.children import AfterTraining, Crossing, Failed, Quantized, Rounded, quantized_path, read_quantized
from bench.crossings import crossings
from bench.diagnosis import diagnosis_path
from bench.mode import FLOAT, read_mode
from bench.plan import Plan
from bench.record import Point, Record, log_path, read_log
from bench.submission.beneath import lay
from bench.submission.desk import Desk
from bench.submission.grown import anew, current, tried
from bench.task import Task
from bench.verify import lint_quantization

CLOSE = 1e-9  # relative: the harness's own arithmetic in doubles
LARGEST = 700.0  # nats: above it a perplexity is no number (bench.evaluate.after)
Odd = Iterator[tuple[str, str]]  # (key, reason)


def measured(desk: Desk, plans: list[Plan], task: Task, found: dict[str, Record]) -> set[str]:
    """Look at the child records of these runs, those in float among them; plans are all that ask for modes of them.

    Returns the names of the runs' child records and diagnoses: nobody asked for others.
    """
    asked = {mode for plan in plans for mode in plan.after_modes}
    seen = set()
    for name, record in found.items():
        child = quantized_path(desk.root / name)
        place = child.relative_to(desk.root).as_posix()
        seen |= {place, diagnosis_path(desk.root / name).relative_to(desk.root).as_posix()}
        wanted = asked if record.outcome == "finished" and record.inputs.mode == FLOAT else set()
        lay(desk, place)
        if not child.is_file():
            if wanted:
                desk.add(place, "", f"is missing: the plan asks for {', '.join(sorted(wanted))}")
            continue
        quantized = desk.read(place, read_quantized)
        if quantized is not None:
            with desk.judging(place):
                before = read_quantized(desk.base / place) if (desk.base / place).is_file() else None
                for key, reason in _departures(quantized, before, record, wanted, task):
                    desk.add(place, key, reason)
                for key, reason in _crossed(desk, name, quantized, before, record, wanted, task):
                    desk.add(place, key, reason)
    return seen


def _departures(child: Quantized, before: Quantized | None, record: Record, wanted: set[str], task: Task) -> Odd:
    there = tried(child)
    for name in sorted(wanted - set(there)):
        yield f"modes.{name}", "was planned, and is missing"
    for name in sorted(child.modes.keys() & child.failed.keys()):
        yield f"failed.{name}", "the mode was measured"
    for name, one in sorted(anew(there, tried(before)).items()):
        for key, reason in _version(name, one, wanted):
            yield f"modes.{name}{key}", reason
        if isinstance(one, AfterTraining):
            for key, reason in _figures(one, record, task):
                yield f"modes.{name}.{key}", reason


def _version(name: str, one: AfterTraining | Failed | Rounded, wanted: set[str]) -> Odd:
    if name not in wanted:
        yield "", "no plan asks for it"
    elif one.mode_digest != current()[name]:
        yield ".mode_digest", "is of another version of the mode or of its code"


def _figures(one: AfterTraining, record: Record, task: Task) -> Odd:
    float_loss, loss = one.quantization.float_score_loss, one.loss
    if not _near(one.degradation, _beyond(loss, float_loss)):
        yield "degradation", f"{one.degradation}, the losses give {_beyond(loss, float_loss)}"
    if loss is not None and not _near(one.perplexity, math.exp(loss) if loss < LARGEST else None):
        yield "perplexity", f"{one.perplexity}, the loss gives another"
    ours = record.score_loss
    if float_loss is None or ours is None or abs(float_loss - ours) > task.replay.band:
        yield "quantization.float_score_loss", f"{float_loss}, the record says {ours}: its band is {task.replay.band:g}"
    for tick in lint_quantization(one.quantization):
        if tick.ok is False:
            yield f"quantization {tick.rule}", f"{tick.title}: {tick.detail}"


def _crossed(
    desk: Desk, name: str, child: Quantized, before: Quantized | None, record: Record, wanted: set[str], task: Task
) -> Odd:  # fmt: skip
    """Hold what was measured at common losses to the run's curve. None need be there: weights are not always kept."""
    if not child.crossings:
        return
    lay(desk, log_path(desk.root / name).relative_to(desk.root).as_posix())
    passed = crossings(record, read_log(desk.root / name, record), task)
    layers = {mode: one.quantization.expected.count for mode, one in child.modes.items()}
    nearest = {mode for mode in wanted if read_mode(mode).algorithm == "round"}
    old = {one.threshold: one.modes for one in before.crossings} if before else {}
    thresholds = [one.threshold for one in child.crossings]
    if sorted(set(thresholds), reverse=True) != thresholds:
        yield "crossings", "the losses must fall and not repeat"
    for one in child.crossings:
        for key, reason in _crossing(one, passed.get(one.threshold)):
            yield f"crossings.{one.threshold:g}{key}", reason
        for mode, rounded in sorted(anew(one.modes, old.get(one.threshold, {})).items()):
            at = f"crossings.{one.threshold:g}.{mode}"
            for key, reason in _version(mode, rounded, nearest):
                yield f"{at}{key}", reason
            if not _near(rounded.degradation, _beyond(rounded.loss, one.float_loss)):
                yield f"{at}.degradation", f"{rounded.degradation}, the losses give another"
            if rounded.loss is not None and rounded.layers != layers.get(mode):
                yield f"{at}.layers", f"{rounded.layers}, at the end of the run {layers.get(mode)}"


def _crossing(one: Crossing, point: Point | None) -> Odd:
    if point is None:
        yield "", "is no common loss of the task that the run's curve passed"
    elif (one.tokens, one.curve_loss) != (point.tokens, point.loss):
        yield "", f"{one.curve_loss} at {one.tokens:,} tokens, the log's curve has {point.loss} at {point.tokens:,}"


def _beyond(loss: float | None, float_loss: float | None) -> float | None:
    return None if loss is None or float_loss is None else loss - float_loss


def _near(said: float | None, wanted: float | None) -> bool:
    if said is None or wanted is None:
        return said is wanted
    return abs(said - wanted) <= CLOSE * max(1.0, abs(wanted))
