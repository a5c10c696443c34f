"""Modes of finished checkpoints: every one that was planned, of every finished float run, and figures that agree."""

import math
from collections.abc import Iterator

from bench.children import AfterTraining, Quantized, quantized_path, read_quantized
from bench.diagnosis import read_diagnosis
from bench.errors import BenchError
from bench.mode import FLOAT, read_mode
from bench.plan import Plan
from bench.record import Record
from bench.submission.beneath import lay
from bench.submission.desk import Desk
from bench.task import Task
from bench.verify import lint_quantization

CLOSE = 1e-9  # relative: the harness's own arithmetic in doubles
LARGEST = 700.0  # nats: above it a perplexity is no number (bench.evaluate.after)


def measured(desk: Desk, plans: list[Plan], task: Task, found: dict[str, Record]) -> None:
    """Look at the child records of these runs, those in float among them; plans are all that ask for modes of them."""
    wanted = {mode for plan in plans for mode in plan.after_modes}
    for name, record in found.items():
        child = quantized_path(desk.root / name)
        place = child.relative_to(desk.root).as_posix()
        lay(desk, place)
        if not child.is_file():
            if wanted and record.outcome == "finished" and record.inputs.mode == FLOAT:
                desk.add(place, "", f"is missing: the plan asks for {', '.join(sorted(wanted))}")
            continue
        quantized = desk.read(place, read_quantized)
        if quantized is not None:
            with desk.judging(place):
                for key, reason in _departures(quantized, record, wanted, task):
                    desk.add(place, key, reason)


def _departures(child: Quantized, record: Record, wanted: set[str], task: Task) -> Iterator[tuple[str, str]]:
    tried = child.mode_digests
    for name in sorted(wanted - set(tried)):
        yield f"modes.{name}", "was planned, and is missing"
    for name, digest in sorted(tried.items()):
        if name not in wanted:
            yield f"modes.{name}", "no plan asks for it"
        elif digest != read_mode(name, "after").digest:
            yield f"modes.{name}.mode_digest", "is of another version of the mode or of its code"
    for name, one in child.modes.items():
        for key, reason in _figures(one, record, task):
            yield f"modes.{name}.{key}", reason


def _figures(one: AfterTraining, record: Record, task: Task) -> Iterator[tuple[str, str]]:
    float_loss, loss = one.quantization.float_score_loss, one.loss
    if loss is not None and float_loss is not None and not _near(one.degradation, loss - float_loss):
        yield "degradation", f"{one.degradation}, the losses give {loss - float_loss:.6f}"
    if loss is not None and not _near(one.perplexity, math.exp(loss) if loss < LARGEST else None):
        yield "perplexity", f"{one.perplexity}, the loss gives another"
    if (loss is None or float_loss is None) and one.degradation is not None:
        yield "degradation", "is there, and a loss is none"
    ours = record.score_loss
    if float_loss is None or ours is None or abs(float_loss - ours) > task.replay.band:
        yield "quantization.float_score_loss", f"{float_loss}, the record says {ours}: its band is {task.replay.band:g}"
    for tick in lint_quantization(one.quantization):
        if tick.ok is False:
            yield f"quantization {tick.rule}", f"{tick.title}: {tick.detail}"


def _near(said: float | None, wanted: float | None) -> bool:
    if said is None or wanted is None:
        return said is wanted
    return abs(said - wanted) <= CLOSE * max(1.0, abs(wanted))


def grown(desk: Desk, name: str) -> bool:
    """Return whether a published child record only has further modes, and those that were there as they were."""
    read = read_diagnosis if name.endswith(".gz") else read_quantized
    try:
        then, now = (read(root / name).model_dump(mode="json") for root in (desk.base, desk.root))
    except BenchError:
        return False
    same = all(then[key] == now[key] for key in ("run_id", "weights"))
    modes = all(now["modes"].get(mode) == found for mode, found in then["modes"].items())
    there = {crossing["threshold"]: crossing for crossing in now.get("crossings", ())}
    return (
        same
        and modes
        and all(_holds(there.get(crossing["threshold"]), crossing) for crossing in then.get("crossings", ()))
    )


def _holds(now: dict[str, object] | None, then: dict[str, object]) -> bool:
    if now is None:
        return False
    modes, old = now["modes"], then["modes"]
    assert isinstance(modes, dict) and isinstance(old, dict)
    return {**now, "modes": {}} == {**then, "modes": {}} and old.items() <= modes.items()
