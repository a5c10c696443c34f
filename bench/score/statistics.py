"""Noise and what can be told in spite of it: the margin of one loss against the ladder, and Holm for many claims."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

LEVEL = 0.05  # two-sided
PRIOR = 6  # degrees of freedom that the board's noise weighs against an entry's own (protocol D, line 3)
TAU_DF = 4  # of the tuning noise: two families of three placebos


@dataclass(frozen=True)
class Noise:
    """A variance pooled over cells of seeds."""

    variance: float | None  # nats squared; None where no cell has two seeds
    df: int

    @property
    def deviation(self) -> float | None:
        return None if self.variance is None else math.sqrt(self.variance)


@dataclass(frozen=True)
class Margin:
    """How far a loss must lie from the ladder to be told from it."""

    error: float  # standard error, nats
    df: float

    @property
    def nats(self) -> float:
        from scipy.special import stdtrit  # late: it costs a tenth of a second

        return float(stdtrit(self.df, 1 - LEVEL / 2)) * self.error

    def p_value(self, gap: float) -> float:
        """Return the two-sided probability of a gap this large where there is none."""
        from scipy.special import stdtr

        return float(2 * stdtr(self.df, -abs(gap) / self.error))


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


def margin(
    board: Noise, own: Noise, seeds: int, reference_seeds: int, t2_entry: float = 0.0, t2_reference: float = 0.0
) -> Margin | None:
    """Return the margin of a mean of seeds against a ladder of reference_seeds; None where noise is unknown.

    The entry's own variance is v = max(s2, (6 s2 + k s_own2) / (6 + k)), k its degrees of freedom (protocol D, 3).

    Degrees of freedom by Welch and Satterthwaite over the estimates that are separate: the board's variance
    enters both arms and counts once, an entry's own counts with its own df, and both tuning variances are one tau.
    """
    if no_interval(board) is not None:
        return None
    assert board.variance is not None
    of_board, of_own = board.variance * (1 / seeds + 1 / reference_seeds), 0.0
    if own.variance is not None and own.variance > board.variance:  # never taken for quieter
        weight = own.df / (PRIOR + own.df)
        of_board = board.variance * ((1 - weight) / seeds + 1 / reference_seeds)
        of_own = weight * own.variance / seeds
    parts = [(of_board, board.df), (of_own, own.df), (t2_entry + t2_reference, TAU_DF)]
    total = sum(part for part, _ in parts)
    shares = sum((part / total) ** 2 / df for part, df in parts if part > 0)
    return Margin(math.sqrt(total), 1 / shares)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values adjusted for being many (Holm 1979): below 0.05 holds with all claims taken together."""
    adjusted, least = [1.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = least
    return adjusted
