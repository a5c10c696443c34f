"""What an arithmetic costs an entry, and whether it costs it more than the reference (protocol E). Pure functions.

A cell is one entry at one rung in one mode, over the seeds that were measured in the mode and in bf16 alike. Its
degradation is loss in the mode less loss in bf16, by seed. Three figures compare it with the reference's:

at equal loss    the entry's degradation less the reference's at the same bf16 loss, read off the reference's rungs by
                 PCHIP of degradation on bf16 loss: degradation grows as the loss falls, which equal budgets mix in
at equal budget  the difference of differences over the seeds that both have: the interaction
by loss alone    the speedup against the reference in the same mode, which is a board of its own (bench.score.modes)

Intervals hold seed noise, pooled over the mode's cells as a board pools losses (protocol D, lines 2 to 4), and not the
noise of tuning: placebos are measured in bf16 only. As everywhere, seeds are paired and the margin does not lean on it.
What rounding costs scatters more where it costs more: variances are pooled as multiples of a unit that grows with it.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from bench.score.statistics import Arm, Margin, Noise, arm, no_interval, pool

LEAST = 0.1  # of the mean degradation


@dataclass(frozen=True)
class Cell:
    """One entry at one rung in one mode."""

    entry: str
    mode: str
    budget: float  # as a multiple of 1x
    seeds: tuple[int, ...]  # measured in both, rising
    floats: tuple[float, ...]  # scoring loss in bf16, nats per token, one per seed
    losses: tuple[float, ...]  # in the mode
    failed: int = 0  # seeds whose loss in the mode was no number

    @cached_property
    def degradations(self) -> tuple[float, ...]:
        return tuple(loss - base for loss, base in zip(self.losses, self.floats, strict=True))

    @cached_property
    def float_loss(self) -> float:
        return math.fsum(self.floats) / len(self.floats)

    @cached_property
    def loss(self) -> float:
        return math.fsum(self.losses) / len(self.losses)

    @property
    def perplexity(self) -> float | None:
        """Of the mean loss in the mode, per token; None where it is beyond a float."""
        try:
            return math.exp(self.loss)
        except OverflowError:
            return None

    @property
    def degradation(self) -> float:
        return self.loss - self.float_loss


@dataclass(frozen=True)
class Estimate:
    """A figure in nats with its 95% interval; without one where no noise is known."""

    value: float
    low: float | None = None
    high: float | None = None
    p_value: float | None = None  # two-sided, of 0

    @property
    def sure(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


@dataclass(frozen=True)
class Compared:
    """A cell with what is said of it."""

    cell: Cell
    degradation: Estimate
    at_equal_loss: Estimate | None  # None off the reference's losses, and for the reference itself
    at_equal_budget: Estimate | None  # None where no seed is shared with the reference


@dataclass(frozen=True)
class Unit:
    """What the variance of a seed's degradation is a multiple of: the degradation, or 1 where it does not grow with it.

    On nano's finished weights, rounded in nine modes, the deviation of a cell's seeds goes with about the root of its
    degradation: pooled alike, the third of the cells that lose most scatters 1.3 to 1.8 times as much as is said of it.
    """

    least: float | None  # a cell that loses next to nothing is not without noise; None: it is the same everywhere

    @classmethod
    def of(cls, cells: Sequence[Cell], grows: bool) -> "Unit":
        mean = math.fsum(cell.degradation for cell in cells) / max(len(cells), 1)
        return cls(mean * LEAST if grows and mean > 0 else None)

    def at(self, degradation: float) -> float:
        return 1.0 if self.least is None else max(degradation, self.least)

    def pooled(self, cells: Iterable[Cell]) -> Noise:
        """Return the noise of degradations in this unit."""
        return pool([one / math.sqrt(self.at(cell.degradation)) for one in cell.degradations] for cell in cells)

    def arm(self, noise: Noise, own: Noise, seeds: int, degradation: float) -> Arm:
        """Return the variance of a mean of seeds, in nats squared."""
        return arm(noise, own, seeds).stretched(math.sqrt(self.at(degradation)))

    def variance(self, noise: Noise, seeds: int, degradation: float) -> float:
        """Return the variance of the reference's mean of seeds, in nats squared."""
        return (noise.variance or 0.0) * self.at(degradation) / seeds


def compare(cells: Sequence[Cell], reference: str, grows: bool = True) -> list[Compared]:
    """Return the cells of one mode, compared with the reference's.

    grows: whether noise grows with what is lost, as where finished weights are rounded. Where training in the mode is
    compared with training in bf16 it does not: those are other weights, whatever they lose.
    """
    assert len({cell.mode for cell in cells}) <= 1
    by_entry: dict[str, dict[float, Cell]] = {}
    for cell in cells:
        by_entry.setdefault(cell.entry, {})[cell.budget] = cell
    ladder = by_entry.get(reference, {})
    unit = Unit.of(cells, grows)
    noise, float_noise = unit.pooled(cells), pool(cell.floats for cell in cells)
    line = Line.through(ladder.values(), noise, float_noise, unit)
    found = []
    for cell in cells:
        own = unit.pooled(by_entry[cell.entry].values())
        spread = None if no_interval(noise) else unit.arm(noise, own, len(cell.seeds), cell.degradation)
        found.append(
            Compared(
                cell,
                _estimate(cell.degradation, _parts(spread, noise)),
                None if cell.entry == reference or line is None else line.against(cell, spread),
                _at_equal_budget(cell, ladder.get(cell.budget), noise, own, unit),
            )
        )
    return found


def _at_equal_budget(cell: Cell, reference: Cell | None, noise: Noise, own: Noise, unit: Unit) -> Estimate | None:
    """Return the entry's degradation less the reference's over the seeds that both have; None without one."""
    if reference is None or cell.entry == reference.entry:
        return None
    mine, theirs = (dict(zip(one.seeds, one.degradations, strict=True)) for one in (cell, reference))
    gaps = [mine[seed] - theirs[seed] for seed in cell.seeds if seed in theirs]
    if not gaps:
        return None
    value = math.fsum(gaps) / len(gaps)
    if no_interval(noise):
        return Estimate(value)
    (of_board, df), of_own = _parts(unit.arm(noise, own, len(gaps), cell.degradation), noise)
    return _estimate(value, [(of_board + unit.variance(noise, len(gaps), reference.degradation), df), of_own])


@dataclass(frozen=True)
class Line:
    """The reference's degradation over its bf16 loss."""

    losses: tuple[float, ...]  # mean bf16 losses, rising
    degradations: tuple[float, ...]
    seeds: tuple[int, ...]
    noise: Noise  # of degradations, in the unit
    float_noise: Noise
    unit: Unit

    @classmethod
    def through(cls, rungs: Iterable[Cell], noise: Noise, float_noise: Noise, unit: Unit) -> "Line | None":
        """Return the line through two rungs or more of different losses; None where there are fewer."""
        points = sorted({cell.float_loss: cell for cell in rungs}.items())
        if len(points) < 2:
            return None
        cells = [cell for _, cell in points]
        return cls(
            tuple(loss for loss, _ in points), tuple(cell.degradation for cell in cells),
            tuple(len(cell.seeds) for cell in cells), noise, float_noise, unit,
        )  # fmt: skip

    @cached_property
    def curve(self) -> tuple[Callable[[float], Any], Callable[[float], Any]]:
        """The degradation at a bf16 loss, and its derivative."""
        from scipy.interpolate import PchipInterpolator  # late: it costs a tenth of a second

        curve = PchipInterpolator(self.losses, self.degradations)
        return curve, curve.derivative()

    def against(self, cell: Cell, spread: Arm | None) -> Estimate | None:
        """Return the cell's degradation less the reference's at its loss; None where that lies off the rungs.

        The error of the losses enters by the line's slope; the reference's seeds are the fewer of the two rungs about.
        """
        loss = cell.float_loss
        if not self.losses[0] <= loss <= self.losses[-1]:
            return None
        curve, derivative = self.curve
        after = next(i for i, rung in enumerate(self.losses) if rung >= loss)
        seeds = min(self.seeds[max(0, after - 1)], self.seeds[after])
        parts, theirs = _parts(spread, self.noise), float(curve(loss))
        if spread is not None:
            parts[0] = (parts[0][0] + self.unit.variance(self.noise, seeds, theirs), self.noise.df)
            slope = float(derivative(loss))
            along = slope**2 * (self.float_noise.variance or 0.0) * (1 / len(cell.seeds) + 1 / seeds)
            parts.append((along, self.float_noise.df))
        return _estimate(cell.degradation - theirs, parts)


Parts = list[tuple[float, int]]  # variances with the degrees of freedom of the estimates they rest on


def _parts(spread: Arm | None, board: Noise) -> Parts:
    return [] if spread is None else [(spread.board, board.df), (spread.own, spread.own_df)]


def _estimate(value: float, parts: Parts) -> Estimate:
    """Return the figure with its interval by Welch and Satterthwaite."""
    total = math.fsum(part for part, _ in parts)
    if total <= 0:
        return Estimate(value)
    df = 1 / math.fsum((part / total) ** 2 / df for part, df in parts if part > 0)
    found = Margin(math.sqrt(total), df)
    return Estimate(value, value - found.nats, value + found.nats, found.p_value(value))


def correlation_with(measure: Mapping[str, float], degradation: Mapping[str, float]) -> tuple[int, Estimate] | None:
    """Return over how many entries a measure and the degradation correlate, and how (Pearson, on ranks: Spearman).

    The interval is Fisher's, with the variance 1.06 / (n - 3) that ranks need (Fieller, Hartley and Pearson 1957);
    orders that agree wholly are taken for one swap of neighbours short of it, or few entries would seem sure, and the
    interval goes on to the estimate. None for fewer than four entries, or where one of them does not vary.
    """
    from scipy.stats import norm, spearmanr  # late: it costs half a second

    names = sorted(set(measure) & set(degradation))
    x, y = [measure[name] for name in names], [degradation[name] for name in names]
    if len(names) < 4 or len(set(x)) == 1 or len(set(y)) == 1:
        return None
    rho = float(spearmanr(x, y).statistic)
    n = len(names)
    most = 1 - 12 / (n * (n**2 - 1))
    held = max(-most, min(most, rho))
    half = float(norm.ppf(0.975)) * math.sqrt(1.06 / (n - 3))
    low, high = (math.tanh(math.atanh(held) + side * half) for side in (-1, 1))
    return n, Estimate(rho, min(low, rho), max(high, rho))
