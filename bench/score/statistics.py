"""Noise and what can be told in spite of it: the margin of one loss against the ladder, and Holm for many claims."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bench.errors import BenchError
from bench.score.placebo import TAU_DF

LEVEL = 0.05  # two-sided
LOOKS = 3  # at most (protocol D)
PRIOR = 6  # degrees of freedom that the board's noise weighs against an entry's own (protocol D, line 3)


@dataclass(frozen=True)
class Noise:
    """A variance pooled over cells of seeds."""

    variance: float | None  # nats squared; None where no cell has two seeds
    df: int

    @property
    def deviation(self) -> float | None:
        return None if self.variance is None else math.sqrt(self.variance)


@dataclass(frozen=True)
class Arm:
    """The variance of one mean loss in nats squared, by the estimate that each part rests on."""

    board: float  # from the noise pooled over the board
    own: float  # from the entry's own noise
    own_df: int
    tuning: float

    @property
    def total(self) -> float:
        return self.board + self.own + self.tuning

    def stretched(self, scale: float) -> "Arm":
        """Return the variance of a loss that moves so many times as far as the mean of seeds; tuning's is its own."""
        return replace(self, board=self.board * scale**2, own=self.own * scale**2)


@dataclass(frozen=True)
class Margin:
    """How far a loss must lie from the ladder to be told from it."""

    error: float  # standard error, nats
    df: float
    level: float = LEVEL

    @property
    def nats(self) -> float:
        from scipy.special import stdtrit  # late: it costs a tenth of a second

        return float(stdtrit(self.df, 1 - self.level / 2)) * self.error

    def p_value(self, gap: float) -> float:
        """Return the two-sided probability of a gap this large where there is none."""
        from scipy.special import stdtr

        return float(2 * stdtr(self.df, -abs(gap) / self.error))


@dataclass(frozen=True)
class Correlation:
    """Of two entries' losses over shared seeds, about each rung's means."""

    value: float
    df: int  # shared seeds less one, summed over rungs


def pool(cells: Iterable[Sequence[float]]) -> Noise:
    """Return the squared deviations from each cell's mean over df = sum(runs - 1)."""
    squares, df = 0.0, 0
    for losses in cells:
        if len(losses) > 1:
            mean = math.fsum(losses) / len(losses)
            squares += math.fsum((loss - mean) ** 2 for loss in losses)
            df += len(losses) - 1
    return Noise(squares / df if df else None, df)


def no_interval(board: Noise) -> str | None:
    """Return why no margin can be had from this noise, or None."""
    if board.variance is None:
        return "one seed"
    if board.variance == 0:
        return "all seeds gave the same loss"
    return None


def arm(board: Noise, own: Noise, seeds: int, t2: float = 0.0) -> Arm:
    """Return the variance of a mean of seeds: v / n + t2.

    The entry's own variance is v = max(s2, (6 s2 + k s_own2) / (6 + k)), k its degrees of freedom (protocol D, 3).
    """
    assert board.variance is not None
    weight = 0.0
    if own.variance is not None and own.variance > board.variance:  # never taken for quieter
        weight = own.df / (PRIOR + own.df)
    return Arm((1 - weight) * board.variance / seeds, weight * (own.variance or 0.0) / seeds, own.df, t2)


def margin(
    board: Noise,
    own: Noise,
    seeds: int,
    reference_seeds: int,
    t2_entry: float = 0.0,
    t2_reference: float = 0.0,
    level: float = LEVEL,
    tau_df: int = TAU_DF,
) -> Margin | None:
    """Return the margin of a mean of seeds against a ladder of reference_seeds; None where noise is unknown.

    Degrees of freedom by Welch and Satterthwaite over the estimates that are separate: the board's variance
    enters both arms and counts once, an entry's own counts with its own df, and both tuning variances are one tau.
    """
    if no_interval(board) is not None:
        return None
    assert board.variance is not None
    entry = arm(board, own, seeds, t2_entry)
    of_board = entry.board + board.variance / reference_seeds
    parts = [(of_board, board.df), (entry.own, entry.own_df), (t2_entry + t2_reference, tau_df)]
    total = sum(part for part, _ in parts)
    shares = sum((part / total) ** 2 / df for part, df in parts if part > 0)
    return Margin(math.sqrt(total), 1 / shares, level)


def level_of_look(look: int) -> float:
    """Return the level of a look: look j of a plan that may be added to is tested at 0.05 / 2^j (protocol D).

    Look 0 is the only look of a plan that nothing was added to: it has the whole 0.05. Looks 1 to 3 together stay below
    0.05, but a first look is not known to be one until seeds are added, and was tested as look 0 by then. So the path
    that is taken, 0, 2 and 3, tells two equals apart in 5.4% of cases, not in 5% (by simulation, 3, 6 and 9 seeds).
    """
    if look not in range(LOOKS + 1):
        raise BenchError(f"look {look}: seeds are looked at {LOOKS} times at most", "look 0 is a plan's only look")
    return LEVEL / float(2**look)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values adjusted for being many (Holm 1979): below 0.05 holds with all claims taken together."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order]))
    return [float(one) for one in adjusted]


def correlation(cells: Iterable[tuple[Mapping[int, float], Mapping[int, float]]]) -> Correlation | None:
    """Return the correlation within cells of losses by seed; None where no cell shares two seeds, or nothing varies.

    It is printed and no more: the margin does not lean on it, since so few seeds tell little of it.
    """
    xx, yy, xy, df = 0.0, 0.0, 0.0, 0
    for one, other in cells:
        seeds = sorted(set(one) & set(other))
        if len(seeds) > 1:
            means = [math.fsum(losses[seed] for seed in seeds) / len(seeds) for losses in (one, other)]
            pairs = [(one[seed] - means[0], other[seed] - means[1]) for seed in seeds]
            xx += math.fsum(x * x for x, _ in pairs)
            yy += math.fsum(y * y for _, y in pairs)
            xy += math.fsum(x * y for x, y in pairs)
            df += len(seeds) - 1
    scale = math.sqrt(xx) * math.sqrt(yy)
    return Correlation(max(-1.0, min(1.0, xy / scale)), df) if scale > 0 else None
