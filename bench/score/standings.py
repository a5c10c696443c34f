"""The ranked entries against each other, budget by budget; and what stands beside each headline."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from bench.record import Log
from bench.score.cost import Beside, Cost, beside, dominators, mean_curve, on_curve
from bench.score.pairs import (
    Contender,
    pair_p_values,
    probability_of_first,
    text_error,
    tie_letters,
    told_apart,
)
from bench.score.rows import Row, Rung, Standing
from bench.score.scorer import Scorer
from bench.score.statistics import LEVEL, holm

UNKNOWN = Cost()
Logs = Mapping[str, Log]  # by run_id
Costs = Mapping[str, Cost]  # by entry


def with_standings(
    rows: Sequence[Row], scorer: Scorer, budgets: Sequence[float], costs: Costs, logs: Logs,
    documents: int | None = None,
) -> list[Row]:  # fmt: skip
    """Return the rows with their standings at these budgets; those that are not ranked have none.

    documents: of the scoring text, where their number is known.
    """
    found: dict[str, dict[float, Standing]] = {row.entry: {} for row in rows}
    for budget in budgets:
        there = {row.entry: rung for row in rows for rung in row.rungs if rung.budget == budget and rung.losses}
        ranked = [row for row in rows if row.ranked and row.entry in there]
        for entry, standing in _standings(ranked, there, scorer, costs, logs, documents).items():
            found[entry][budget] = standing
    return [replace(row, standings=found[row.entry]) for row in rows]


def _standings(
    rows: Sequence[Row], rungs: Mapping[str, Rung], scorer: Scorer, costs: Costs, logs: Logs, documents: int | None
) -> dict[str, Standing]:
    """Return the standings of two entries or more, by entry."""
    contenders = sorted(
        contenders_of([(row, rungs[row.entry]) for row in rows], scorer), key=lambda one: (one.loss, one.entry)
    )
    if len(contenders) < 2:
        return {}
    apart = told_apart(pair_p_values(contenders, scorer.noise.df, scorer.tau_df))
    names = [one.entry for one in contenders]
    first = probability_of_first([one.loss for one in contenders], [one.arm.total for one in contenders])
    better = np.triu(apart, 1).tolist()  # losses rise, so i is better than a later j that it is told apart from
    dominated = dominators(names, better, [costs.get(name, UNKNOWN) for name in names])
    leader = rungs[names[0]]
    return {
        name: Standing(letters, share, _text_error(leader, rungs[name], logs, documents), by)
        for name, letters, share, by in zip(names, tie_letters(apart), first, dominated, strict=True)
    }


def contenders_of(cells: Sequence[tuple[Row, Rung]], scorer: Scorer) -> list[Contender]:
    """Return the entries as they are compared at one budget, but for those of which the ladder does not tell it."""
    return [
        Contender(row.entry, *told, scorer.looks.get(row.entry, 0))
        for (row, _), told in zip(cells, scorer.at_equal_charge(cells), strict=True)
        if told is not None
    ]


def _text_error(leader: Rung, rung: Rung, logs: Logs, documents: int | None) -> float | None:
    """Return the text's part of the error of the difference from the leader, over the seeds that both have."""
    if rung is leader:
        return None
    ours, theirs = (
        {seed: logs[run_id].score_blocks for seed, run_id in zip(one.seeds, one.run_ids, strict=True) if run_id in logs}
        for one in (rung, leader)
    )
    shared = sorted(set(ours) & set(theirs))
    return text_error([ours[seed] for seed in shared], [theirs[seed] for seed in shared], documents)


def placebos_apart(rows: Sequence[Row], scorer: Scorer, budgets: Sequence[float]) -> list[tuple[str, str, float]]:
    """Return every (placebo, twin, budget) whose difference is significant, Holm's adjustment over all of them."""
    by_name = {row.entry: row for row in rows}
    tested, p_values = [], []
    for row in rows:
        twin = by_name.get(row.placebo_of or "")
        if twin is None:
            continue
        for budget in budgets:
            cells = [
                (side, rung) for side in (row, twin) for rung in side.rungs if rung.budget == budget and rung.losses
            ]
            both = contenders_of(cells, scorer)
            if len(both) == 2:
                tested.append((row.entry, twin.entry, budget))
                p_values.append(float(pair_p_values(both, scorer.noise.df, scorer.tau_df)[0, 1]))
    return [what for what, p in zip(tested, holm(p_values), strict=True) if p < LEVEL]


def with_beside(rows: Sequence[Row], reference: Row, costs: Costs, logs: Logs) -> list[Row]:
    """Return the rows with what stands beside their speedups, where costs or curves are known."""
    return [replace(row, beside=_beside_of(row, reference, costs, logs)) for row in rows]


def _beside_of(row: Row, reference: Row, costs: Costs, logs: Logs) -> dict[float, Beside]:
    ladder = {rung.budget: rung for rung in reference.rungs}
    found = {}
    for rung in row.rungs:
        if rung.budget in row.speedups:
            curve = _on_curve(rung, ladder.get(rung.budget), logs)
            own, base = costs.get(row.entry, UNKNOWN), costs.get(reference.entry, UNKNOWN)
            figures = beside(row.speedups[rung.budget], rung.tokens, rung.charged_tokens, own, base, curve)
            if figures.known:
                found[rung.budget] = figures
    return found


def _on_curve(rung: Rung, reference: Rung | None, logs: Logs) -> float | None:
    curves = [
        mean_curve([[(point.tokens, point.loss) for point in logs[run].curve] for run in one.run_ids if run in logs])
        for one in (rung, reference)
        if one is not None
    ]
    return on_curve(curves[0], curves[1], rung.charged_tokens / rung.tokens) if len(curves) == 2 else None
