"""Which trials a plan asks for: a pure function of the plan and of the losses so far. Nothing is chosen by hand.

A search is written once, as a generator: it yields the configurations that can be run now, in their fixed order, is
sent their losses, and returns the tuned values of every rung. bench.trials feeds it with a ledger.
"""

import math
from collections.abc import Callable, Collection, Generator, Sequence
from dataclasses import dataclass
from hashlib import sha256

from bench.entry import BATCH, MODE, WARMUP, Range, Value
from bench.errors import BenchError
from bench.ledger import Stage
from bench.plan import Plan, space_of
from bench.task import rung_name

SPREAD = 1.7  # factor about the sweep's best learning rate that the Sobol points keep to
LONGEST_SWEEP = 6  # trials beyond the planned ones, while the best lies at an end
FACTOR = "lr_factor"  # of the transfer track's two extra trials: the yardstick's learning rate times this
DECAY = "weight_decay"
MODE_FACTORS = (0.5, 1.0)  # learning rates tried there, as multiples of the float one (protocol E)
DIGITS = 4  # significant digits of a value: the lattice


@dataclass(frozen=True)
class Configuration:
    """What a trial tries."""

    stage: Stage
    rung: float
    values: dict[str, Value]


Losses = Sequence[float | None]  # mean selecting loss of each configuration; None where a seed failed
Tuned = dict[float, dict[str, Value]]  # by rung
Search = Generator[list[Configuration], Losses, Tuned]


def tune(plan: Plan, steps: dict[float, int]) -> Search:
    """The two stages of protocol B at the tuning rung, then each other rung from its neighbour's values."""
    rung = plan.tuning.rung
    _check_rungs(plan, steps)
    best = yield from _sweep(plan, rung)
    best = yield from _sobol(plan, best)
    tuned = {rung: (yield from _refine(plan, rung, best)) if rung in plan.tuning.refined else best[0]}
    tuned = yield from extend(plan, steps, tuned)
    if "transfer" in plan.tracks:  # how far the yardstick's learning rate is from this entry's own; shown, never used
        yield [Configuration("transfer", rung, {FACTOR: factor}) for factor in (0.5, 2.0)]
    if plan.yardstick is None:  # the yardstick's own: is the task's batch its best? Shown, never used
        for factor in (0.5, 2.0):
            start = at_other_length(tuned[rung], steps[rung], round(steps[rung] / factor), plan.fixed)
            yield from _batch(plan, start, factor)
    return tuned


def extend(plan: Plan, steps: dict[float, int], tuned: Tuned) -> Search:
    """Tune the plan's rungs that have no values yet, each from its neighbour towards the tuning rung."""
    _check_rungs(plan, steps)
    found, rung = dict(tuned), plan.tuning.rung
    shorter = [other for other in sorted(plan.ladder, reverse=True) if other < rung]
    longer = [other for other in sorted(plan.ladder) if other > rung]
    for other in [other for other in (*shorter, *longer) if other not in found]:
        near = min(o for o in found if o > other) if other < rung else max(o for o in found if o < other)
        start = at_other_length(found[near], steps[near], steps[other], plan.fixed)
        found[other] = yield from _learning_rates(plan, other, start)
        if other in plan.tuning.refined:
            found[other] = yield from _refine(plan, other, (found[other], None))
    return found


def _check_rungs(plan: Plan, steps: dict[float, int]) -> None:
    gone = [rung_name(rung) for rung in sorted({*plan.ladder, plan.tuning.rung} - set(steps))]
    if gone:
        raise BenchError(
            f"{plan.task}: the ladder has no {', '.join(gone)} any more, which the plan {plan.digest[:16]} runs",
            "a ladder may be extended and not shortened: put it back into [budget] rungs",
        )


def in_mode(plan: Plan, mode: str, tuned: Tuned) -> Search:
    """The float values, their learning rate picked once, at the tuning rung, and moved alike at all rungs.

    The trial at the float values is the lane that shows what they do in the mode.
    """
    rung = plan.tuning.rung
    start, held = tuned[rung], plan.fixed
    batch = [Configuration("mode", rung, {**at_other_rate(start, factor, held), MODE: mode}) for factor in MODE_FACTORS]
    losses = yield batch
    finished = [(loss, -factor) for factor, loss in zip(MODE_FACTORS, losses, strict=True) if loss is not None]
    factor = -min(finished)[1] if finished else 1.0  # where none finished, the runs tell it at the float values
    return {other: at_other_rate(values, factor, held) for other, values in tuned.items()}


Best = tuple[dict[str, Value], float | None]  # values and their loss; None where they were not run as they are


def _sweep(plan: Plan, rung: float) -> Generator[list[Configuration], Losses, Best]:
    """Learning rates a factor 2 apart about the default; on in the direction of an end that is best."""
    default, below, start = plan.space["lr"].default, plan.tuning.sweep // 2, _declared(plan)
    factors = [2.0**k for k in range(-below, plan.tuning.sweep - below)]
    line = yield from _line(lambda f: Configuration("sweep", rung, {**start, "lr": rounded(default * f)}), factors)
    place = _lowest(line)
    if place is None:
        rates = [_number(values["lr"]) for values, _ in line]
        raise BenchError(
            f"no trial finished of {len(rates)} learning rates from {rates[0]:g} to {rates[-1]:g}",
            "the entry diverges everywhere: check it with bench run, or give it another default",
        )
    return line[place]


Line = list[tuple[dict[str, Value], float | None]]  # values of rising learning rates, with their losses


def _line(at: Callable[[float], Configuration], factors: list[float]) -> Generator[list[Configuration], Losses, Line]:
    """Run learning rates at factors 2 apart, and go on beyond an end while it is the best; below where all fail."""
    factors = list(factors)
    losses = list((yield [at(factor) for factor in factors]))
    for _ in range(LONGEST_SWEEP):
        line: Line = [(at(factor).values, loss) for factor, loss in zip(factors, losses, strict=True)]
        place = _lowest(line) or 0
        if 0 < place < len(line) - 1:
            break
        end = 0 if place == 0 else len(line)
        factors.insert(end, factors[0] / 2 if place == 0 else factors[-1] * 2)
        (loss,) = yield [at(factors[end])]
        losses.insert(end, loss)
    return [(at(factor).values, loss) for factor, loss in zip(factors, losses, strict=True)]


def _batch(plan: Plan, start: dict[str, Value], factor: float) -> Generator[list[Configuration], Losses, None]:
    """Half and twice the task's batch at learning rates of their own (protocol A8)."""

    def at(rate: float) -> Configuration:
        return Configuration("batch", plan.tuning.rung, {**at_other_rate(start, rate, plan.fixed), BATCH: factor})

    yield from _line(at, [0.5, 1.0, 2.0])


def _sobol(plan: Plan, best: Best) -> Generator[list[Configuration], Losses, Best]:
    lr = _number(best[0]["lr"])
    points = scrambled(plan.tuning.sobol, len(space_of(plan)), plan.task_digest, plan.tuning.scramble)
    batch = [Configuration("sobol", plan.tuning.rung, {**_declared(plan), **_at(point, lr, plan)}) for point in points]
    losses = yield batch
    return _better(best, batch, losses)


def _at(point: Sequence[float], lr: float, plan: Plan) -> dict[str, Value]:
    """Return the values at a point of the unit cube."""
    values: dict[str, Value] = {"lr": rounded(lr * SPREAD ** (2 * point[0] - 1))}
    for name, u in zip([name for name in plan.space if name != "lr"], point[1:], strict=False):
        values[name] = rounded(_between(plan.space[name], u))
    values[WARMUP] = plan.warmups[min(int(point[-1] * len(plan.warmups)), len(plan.warmups) - 1)]
    return values


def _between(dimension: Range, u: float) -> float:
    if dimension.scale == "log":
        return float(dimension.low * (dimension.high / dimension.low) ** u)
    return dimension.low + (dimension.high - dimension.low) * u


def _refine(
    plan: Plan, rung: float, best: Best, rounds: int = 2
) -> Generator[list[Configuration], Losses, dict[str, Value]]:
    """Move every dimension one step either way; again from a better place, at most so many times."""
    if best[1] is None:
        (loss,) = yield [Configuration("refine", rung, best[0])]
        best = best[0], loss
    tried = [best[0]]
    for _ in range(rounds):
        star = [Configuration("refine", rung, values) for values in _neighbours(plan, best[0]) if values not in tried]
        tried += [wanted.values for wanted in star]
        losses = yield star
        better = _better(best, star, losses)
        if better is best:
            break
        best = better
    return best[0]


def _neighbours(plan: Plan, values: dict[str, Value]) -> list[dict[str, Value]]:
    """Return the values with one dimension a step away: a factor of sqrt 2 (lr) or 2 (log), or an eighth of a range."""
    found = []
    for name, dimension in plan.space.items():
        here = _number(values[name])
        if name == "lr":
            steps = [here * 0.5**0.5, here * 2**0.5]
        elif dimension.scale == "log":
            steps = [here / 2, here * 2]
        else:
            eighth = (dimension.high - dimension.low) / 8
            steps = [here - eighth, here + eighth]
        low, high = min(dimension.low, here), max(dimension.high, here)  # a carried weight decay may lie outside
        inside = [min(max(step, low), high) for step in steps] if name != "lr" else steps
        found += [{**values, name: rounded(step)} for step in inside if rounded(step) != rounded(here)]
    place = plan.warmups.index(_number(values[WARMUP]))
    found += [{**values, WARMUP: plan.warmups[i]} for i in (place - 1, place + 1) if 0 <= i < len(plan.warmups)]
    return found


def _learning_rates(
    plan: Plan, rung: float, start: dict[str, Value]
) -> Generator[list[Configuration], Losses, dict[str, Value]]:
    """The learning rate x {1/2, 1, 2} and the vertex of the parabola in ln lr through the best and its neighbours."""
    factors = [0.5, 1.0, 2.0]
    line = yield from _line(lambda f: Configuration("rung", rung, at_other_rate(start, f, plan.fixed)), factors)
    place = _lowest(line)
    if place is None:  # the rung is run at what its neighbour's values lead to, and its failures are rows
        return start
    return at_other_rate(line[place][0], 2.0 ** vertex([loss for _, loss in line], place), plan.fixed)


def vertex(losses: Losses, place: int) -> float:
    """Return how many places from the lowest the vertex of the parabola through it and its neighbours lies."""
    if not 0 < place < len(losses) - 1:
        return 0.0
    low, middle, high = losses[place - 1 : place + 2]
    if low is None or middle is None or high is None or low - 2 * middle + high <= 0:
        return 0.0
    return 0.5 * (low - high) / (low - 2 * middle + high)  # within half a place, since the middle is the lowest


def at_other_rate(values: dict[str, Value], factor: float, held: Collection[str] = ()) -> dict[str, Value]:
    """Return the values with the learning rate times a factor; a weight decay that is not held keeps its timescale."""
    return _at_decay({**values, "lr": rounded(_number(values["lr"]) * factor)}, 1 / factor, held)


def at_other_length(
    values: dict[str, Value], steps: int, other_steps: int, held: Collection[str] = ()
) -> dict[str, Value]:
    """Return the values for a run of other length: weight decay keeps its timescale 1 / (lr wd steps).

    A decay that the entry holds is a part of its method, as the shrinking of a Frank-Wolfe step is.
    """
    return _at_decay(values, steps / other_steps, held)


def _at_decay(values: dict[str, Value], factor: float, held: Collection[str]) -> dict[str, Value]:
    if DECAY in held or DECAY not in values:
        return values
    return {**values, DECAY: rounded(_number(values[DECAY]) * factor)}


def scrambled(count: int, dimensions: int, task_digest: str, scramble: int) -> list[list[float]]:
    """Return a Sobol sequence in the unit cube under a digital shift, which task, dimensions and scramble decide.

    Sobol 1967; random digital shift: L'Ecuyer and Lemieux 2002. The shift comes from sha256, so it is the same under
    every version of every library.
    """
    from scipy.stats import qmc  # late: it costs half a second

    bits = 30
    exponent = max(1, math.ceil(math.log2(count)))
    plain = qmc.Sobol(dimensions, scramble=False, bits=bits).random_base2(exponent)[:count]
    shifts = [
        int.from_bytes(sha256(f"{task_digest}/{dimensions}/{scramble}/{d}".encode()).digest()[:4], "big") >> 2
        for d in range(dimensions)
    ]
    return [
        [((int(x * 2**bits) ^ shift) + 0.5) / 2**bits for x, shift in zip(row, shifts, strict=True)] for row in plain
    ]


def _declared(plan: Plan) -> dict[str, Value]:
    """Return fixed values and declared defaults, the warm-up's too."""
    values: dict[str, Value] = {name: dimension.default for name, dimension in plan.space.items()}
    return {**plan.fixed, **values, WARMUP: plan.declared_warmup}


def _better(best: Best, batch: list[Configuration], losses: Losses) -> Best:
    """Return the best of a batch, or `best` itself where none is lower."""
    found = best
    for configuration, loss in zip(batch, losses, strict=True):
        if loss is not None and (found[1] is None or loss < found[1]):
            found = configuration.values, loss
    return found


def _lowest(line: Line) -> int | None:
    finished = [(loss, place) for place, (_, loss) in enumerate(line) if loss is not None]
    return min(finished)[1] if finished else None


def rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _number(value: Value) -> float:
    assert isinstance(value, float | int)
    return float(value)
