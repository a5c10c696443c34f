"""The rows of a board scored: speedups read off the ladder, the tuning noise that placebos show, the pairs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bench.score.curve import Curve, Fit
from bench.score.placebo import Tau, measure_tau
from bench.score.rows import Row, Rung, mean_of
from bench.score.speedup import Speedup, speedups
from bench.score.statistics import (
    LEVEL,
    Arm,
    Margin,
    Noise,
    arm,
    correlation,
    holm,
    level_of_look,
    margin,
    no_interval,
    pool,
)


@dataclass(frozen=True)
class Scorer:
    """The ladder and its noise: what a loss is read against."""

    curve: Curve
    fit: Fit | None
    noise: Noise
    seeds: list[int]  # of the ladder's rungs, in the curve's order
    tau: Tau | None
    looks: Mapping[str, int]
    reference_look: int = 0  # of the ladder's own seeds, which every speedup rests on

    def score(self, rows: list[Row]) -> list[Row]:
        """Return the rows with speedups, all read off the ladder at once.

        P-values are adjusted for the number of claims; rows that are not ranked make none.
        """
        cells = [(row, rung) for row in rows for rung in row.rungs if rung.losses]
        losses, charged = [mean_of(rung) for _, rung in cells], [rung.charged_tokens for _, rung in cells]
        tokens = self.curve.tokens_for(losses)[0].tolist()
        slopes = self.curve.slope_at(tokens).tolist()
        own = {row.entry: pool(rung.losses for rung in row.rungs) for row in rows}
        margins = [
            self._margin(row, rung, own[row.entry], at, slope)
            for (row, rung), at, slope in zip(cells, tokens, slopes, strict=True)
        ]
        found = speedups(self.curve, self.fit, losses, charged, margins, no_interval(self.noise))
        found = self._adjusted(found, [row for row, _ in cells])
        by_row: dict[str, dict[float, Speedup]] = {row.entry: {} for row in rows}
        for (row, rung), speedup in zip(cells, found, strict=True):
            by_row[row.entry][rung.budget] = speedup
        return [replace(row, speedups=by_row[row.entry]) for row in rows]

    def _margin(self, row: Row, rung: Rung, own: Noise, equal_loss_tokens: float, slope: float) -> Margin | None:
        """n_ref is the fewer seeds of the two rungs about the equal-loss point; both arms carry the tuning noise."""
        before, after = self.curve.neighbours(equal_loss_tokens)
        seeds = min(self.seeds[before], self.seeds[after])
        look = max(self.looks.get(row.entry, 0), self.reference_look)
        t2, level = self._t2(slope), level_of_look(look)
        return margin(self.noise, own, len(rung.losses), seeds, t2, t2, level, self.tau_df)

    def _adjusted(self, found: list[Speedup], rows: list[Row]) -> list[Speedup]:
        """Return the speedups with Holm's p-values, looks counted: p 2^look is held against 0.05."""
        claims = [i for i, row in enumerate(rows) if row.ranked and found[i].p_value is not None]
        p_values = [min(1.0, (found[i].p_value or 0.0) * LEVEL / found[i].level) for i in claims]
        adjusted = dict(zip(claims, holm(p_values), strict=True))
        return [replace(speedup, p_holm=adjusted.get(i)) for i, speedup in enumerate(found)]

    def _t2(self, slope: float) -> float:
        return 0.0 if self.tau is None else (self.tau.value * slope) ** 2

    @property
    def tau_df(self) -> int:
        return 1 if self.tau is None else self.tau.df

    def at_equal_charge(self, cells: Sequence[tuple[Row, Rung]]) -> list[tuple[float, Arm] | None]:
        """Return the loss by which each entry is compared at one budget, with its variance: of seeds and of tuning.

        It is the measured one where charged tokens are the budget's. Else it is the loss that the reference has at
        the same speedup and the budget's tokens, so that extra passes are not free here either. It then moves as many
        times as far as the measured one as the ladder is steeper there, and so does its error. None where the ladder
        does not reach that, or is flat at the measured loss or there: how far a loss then moves nothing tells.
        """
        losses, change = [mean_of(rung) for _, rung in cells], [rung.tokens / rung.charged_tokens for _, rung in cells]
        at, sides = self.curve.tokens_for(losses)
        there = np.where(np.abs(np.subtract(change, 1)) < 1e-9, at, at * change)
        here, slopes = self.curve.slope_at(at).tolist(), self.curve.slope_at(there).tolist()
        moved = self.curve.loss_at(there).tolist()
        low, high = self.curve.tokens[0], self.curve.tokens[-1]
        found: list[tuple[float, Arm] | None] = []
        for i, (row, rung) in enumerate(cells):
            own = pool(other.losses for other in row.rungs)
            measured = arm(self.noise, own, len(rung.losses), self._t2(slopes[i]))
            if there[i] == at[i]:
                found.append((losses[i], measured))
            elif sides[i] or not low <= there[i] <= high or 0.0 in (here[i], slopes[i]):
                found.append(None)
            else:
                found.append((moved[i], measured.stretched(slopes[i] / here[i])))
        return found


def tau_of(
    rows: Sequence[Row], curve: Curve, budgets: frozenset[float], beyond_one_pass: frozenset[float]
) -> Tau | None:
    """Return the tuning noise that the placebos show at these budgets, those beyond one pass only where no other is."""
    families: dict[str, list[dict[float, float]]] = {}
    for row in rows:
        if row.placebo_of is not None:
            families.setdefault(row.placebo_of, []).append(_figures(row, curve, budgets))
    once = [[_kept(figures, budgets - beyond_one_pass) for figures in family] for family in families.values()]
    return measure_tau(once) or measure_tau(families.values())


def _kept(figures: dict[float, float], budgets: frozenset[float]) -> dict[float, float]:
    return {budget: figure for budget, figure in figures.items() if budget in budgets}


def _figures(row: Row, curve: Curve, budgets: frozenset[float]) -> dict[float, float]:
    """Return the row's speedups by budget, bounds left out."""
    cells = [rung for rung in row.rungs if rung.losses and rung.budget in budgets]
    if not cells:
        return {}
    tokens, sides = curve.tokens_for([mean_of(rung) for rung in cells])
    return {
        rung.budget: at / rung.charged_tokens
        for rung, at, side in zip(cells, tokens.tolist(), sides.tolist(), strict=True)
        if not side
    }


def with_correlation(row: Row, reference: Row) -> Row:
    """Return the row with the correlation of its losses with the reference's, seeds paired, pooled over rungs."""
    ladder = {rung.budget: dict(zip(rung.seeds, rung.losses, strict=True)) for rung in reference.rungs}
    cells = [
        (dict(zip(rung.seeds, rung.losses, strict=True)), ladder[rung.budget])
        for rung in row.rungs
        if rung.budget in ladder
    ]
    return replace(row, correlation=correlation(cells))


def mean_correlation(rows: Sequence[Row]) -> float | None:
    """Return the mean of the rows' correlations, each weighing as many as its degrees of freedom; those of the same
    runs count once."""
    found = dict.fromkeys(row.correlation for row in rows if row.correlation is not None)
    df = sum(one.df for one in found)
    return math.fsum(one.value * one.df for one in found) / df if df else None
