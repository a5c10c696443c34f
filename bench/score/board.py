"""From records to a board: rows of measured losses and their speedups. Pure functions; no files, no clock, no torch."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NoReturn

from bench.errors import BenchError
from bench.index import IndexRow
from bench.score.cells import Selection, select
from bench.score.curve import Curve, Fit, fit_ladder
from bench.score.speedup import Speedup as Speedup
from bench.score.speedup import speedups
from bench.score.statistics import Margin, Noise, holm, margin, no_interval, pool
from bench.task import Task, rung_name

UNSTABLE = 0.05  # largest seed deviation of the reference, in ln tokens, of a rung that is ranked (protocol C)


@dataclass(frozen=True)
class Rung:
    """All runs of one entry at one budget."""

    budget: float  # as a multiple of 1x
    tokens: int
    charged_tokens: float  # mean over finished runs; the tokens of the budget where none finished
    seeds: tuple[int, ...]  # of the finished runs, rising
    losses: tuple[float, ...]  # scoring loss in nats per token, one per seed
    run_ids: tuple[str, ...]  # one per seed
    failures: tuple[tuple[int, str, str], ...]  # (seed, outcome, run_id) of runs that did not finish
    causes: tuple[str | None, ...] = ()  # one per failure, as its record tells it
    epochs: float = 0.0  # passes over the training text

    @property
    def mean(self) -> float | None:
        return math.fsum(self.losses) / len(self.losses) if self.losses else None

    @property
    def deviation(self) -> float | None:
        """The standard deviation over seeds; None for fewer than two."""
        return pool([self.losses]).deviation


@dataclass(frozen=True)
class Row:
    """One entry on one task, in one mode and track."""

    entry: str
    rungs: tuple[Rung, ...]
    speedups: dict[float, Speedup]  # by budget; none where no run finished


@dataclass(frozen=True)
class Board:
    task: str
    mode: str
    track: str
    reference: Row  # its ladder; its own speedups are empty
    rows: tuple[Row, ...]  # best speedup at the largest common budget first
    machine_kinds: tuple[str, ...]  # the first is the one shown; the records of any others are left out
    noise: float | None  # pooled seed standard deviation in nats
    degrees_of_freedom: int
    reference_track: str = "tuned"
    curve: Curve | None = None  # through the ladder
    fit: Fit | None = None  # through the ladder's means, tokens in units of 1x
    tau: float | None = None  # tuning noise of ln speedup that the intervals hold; None where none was given
    unstable: tuple[float, ...] = ()  # budgets at which the reference's own seeds blur tokens by over 5%: not ranked
    no_interval: str | None = None  # why no interval can be given
    no_speedup: str | None = None  # why no speedup can be given
    notes: tuple[str, ...] = ()  # what was left out and what to know, in words

    @property
    def multi_epoch(self) -> frozenset[float]:
        """The budgets beyond one pass over the text."""
        return frozenset(rung.budget for row in (self.reference, *self.rows) for rung in row.rungs if rung.epochs > 1)


def make_board(
    records: Iterable[IndexRow],
    task: Task,
    reference: str,
    mode: str = "bf16",
    track: str = "tuned",
    reference_track: str | None = None,
    tau: float | None = None,
) -> Board:
    """Return the board of one task, mode and track; tau is the task's measured tuning noise (protocol B).

    The reference's track defaults to the board's own where it ran there, else to tuned.
    """
    if tau is not None and not (math.isfinite(tau) and tau >= 0):
        raise BenchError(f"tau must be a number from 0 up, got {tau}")
    chosen = select(records, task.digest, mode, track, reference, reference_track)
    rows = _rows(chosen, task)
    ladder = rows.pop(reference)
    measured = [rung for rung in ladder.rungs if rung.losses]
    if len(measured) < 2:
        _refuse_short_ladder(chosen, task, reference, measured)
    tokens, means = [rung.charged_tokens for rung in measured], [_mean(rung) for rung in measured]
    curve, fit = Curve.through(tokens, means), fit_ladder(tokens, means, float(task.budget.tokens))
    noise = pool(rung.losses for row in (ladder, *rows.values()) for rung in row.rungs)
    no_speedup, rises = _judge_ladder(measured, noise)
    tuned = tau is not None and track == "tuned"
    scorer = _Scorer(
        curve, fit, noise, [len(rung.losses) for rung in sorted(measured, key=_charged)], (tau or 0.0) if tuned else 0.0
    )
    scored = list(rows.values()) if no_speedup else scorer.score(list(rows.values()))
    return Board(
        task=chosen.task,
        mode=mode,
        track=track,
        reference=ladder,
        rows=_best_first(scored),
        machine_kinds=chosen.machine_kinds,
        noise=noise.deviation,
        degrees_of_freedom=noise.df,
        reference_track=chosen.reference_track,
        curve=curve,
        fit=fit,
        tau=tau if tuned else None,
        unstable=_unstable(curve, ladder, list(rows.values()), noise),
        no_interval=no_interval(noise),
        no_speedup=no_speedup,
        notes=chosen.notes + rises,
    )


def _rows(chosen: Selection, task: Task) -> dict[str, Row]:
    rungs: dict[str, list[Rung]] = {}
    for (entry, budget), runs in sorted(chosen.cells.items()):
        rungs.setdefault(entry, []).append(_rung(budget, task.tokens(budget), runs))
    return {entry: Row(entry, tuple(found), {}) for entry, found in rungs.items()}


def _rung(budget: float, tokens: int, runs: list[IndexRow]) -> Rung:
    done, failed = [run for run in runs if run.finished], [run for run in runs if not run.finished]
    charged = math.fsum(run.charged_tokens for run in done) / len(done) if done else float(tokens)
    return Rung(
        budget=budget,
        tokens=tokens,
        charged_tokens=charged,
        seeds=tuple(run.seed for run in done),
        losses=tuple(run.score_loss for run in done if run.score_loss is not None),
        run_ids=tuple(run.run_id for run in done),
        failures=tuple((run.seed, run.outcome, run.run_id) for run in failed),
        causes=tuple(run.cause for run in failed),
        epochs=max(run.epochs for run in runs),
    )


def _mean(rung: Rung) -> float:
    assert rung.mean is not None
    return rung.mean


def _charged(rung: Rung) -> float:
    return rung.charged_tokens


def _refuse_short_ladder(chosen: Selection, task: Task, reference: str, measured: list[Rung]) -> NoReturn:
    there = {rung.budget for rung in measured}
    missing = [rung_name(budget) for budget in task.budget.rungs if budget not in there]
    have = f"only {rung_name(measured[0].budget)}" if measured else "none"
    raise BenchError(
        f"{chosen.task}: a speedup is read between budgets that {reference} finished, and it finished {have}",
        f"run {reference} at {' and '.join(missing[:2]) or 'a second budget'}, with 3 seeds or more",
    )


def _judge_ladder(measured: list[Rung], noise: Noise) -> tuple[str | None, tuple[str, ...]]:
    """Return why the ladder gives no speedup, or None; and the places where its means rise beyond noise."""
    ladder = sorted(measured, key=_charged)
    rises, lowest = [], ladder[0]
    for rung in ladder[1:]:
        if _mean(rung) - _mean(lowest) > _told_apart(rung, lowest, noise):
            rises.append(
                f"the reference's loss rises from {rung_name(lowest.budget)} to {rung_name(rung.budget)}; "
                "the running minimum is read"
            )
        lowest = min(lowest, rung, key=_mean)
    fall = _mean(ladder[0]) - _mean(lowest)
    flat = fall <= 0 or fall <= _told_apart(ladder[0], lowest, noise)
    return "the reference's ladder does not fall beyond noise" if flat else None, tuple(rises)


def _told_apart(a: Rung, b: Rung, noise: Noise) -> float:
    found = margin(noise, Noise(None, 0), len(a.losses), len(b.losses))
    return 0.0 if found is None else found.nats


def _unstable(curve: Curve, ladder: Row, rows: list[Row], noise: Noise) -> tuple[float, ...]:
    """Return the budgets where the reference's seed deviation over |dL/dlnD| exceeds what is ranked.

    The deviation is the reference's own at that budget, or the board's where it has none there.
    """
    own = {rung.budget: rung for rung in ladder.rungs if rung.losses}
    found = []
    for rung in {rung.budget: rung for row in (*rows, ladder) for rung in row.rungs}.values():
        cell = own.get(rung.budget)
        tokens = cell.charged_tokens if cell else float(rung.tokens)
        deviation = (cell.deviation if cell else None) or noise.deviation
        if (
            deviation is not None
            and curve.tokens[0] <= tokens <= curve.tokens[-1]
            and deviation > UNSTABLE * -float(curve.slope_at(tokens))
        ):
            found.append(rung.budget)
    return tuple(sorted(found))


@dataclass(frozen=True)
class _Scorer:
    """The ladder and its noise: what a loss is read against."""

    curve: Curve
    fit: Fit | None
    noise: Noise
    seeds: list[int]  # of the ladder's rungs, in the curve's order
    tau: float

    def score(self, rows: list[Row]) -> list[Row]:
        """Return the rows with speedups, all read off the ladder at once, and p-values adjusted for their number."""
        cells = [(row, rung) for row in rows for rung in row.rungs if rung.losses]
        losses, charged = [_mean(rung) for _, rung in cells], [rung.charged_tokens for _, rung in cells]
        tokens = self.curve.tokens_for(losses)[0].tolist()
        slopes = self.curve.slope_at(tokens).tolist()
        own = {row.entry: pool(rung.losses for rung in row.rungs) for row in rows}
        margins = [
            self._margin(rung, own[row.entry], at, slope)
            for (row, rung), at, slope in zip(cells, tokens, slopes, strict=True)
        ]
        found = speedups(self.curve, self.fit, losses, charged, margins, no_interval(self.noise))
        tested = [i for i, speedup in enumerate(found) if speedup.p_value is not None]
        for i, p in zip(tested, holm([found[i].p_value or 0.0 for i in tested]), strict=True):
            found[i] = replace(found[i], p_holm=p)
        by_row: dict[str, dict[float, Speedup]] = {row.entry: {} for row in rows}
        for (row, rung), speedup in zip(cells, found, strict=True):
            by_row[row.entry][rung.budget] = speedup
        return [replace(row, speedups=by_row[row.entry]) for row in rows]

    def _margin(self, rung: Rung, own: Noise, equal_loss_tokens: float, slope: float) -> Margin | None:
        """n_ref is the fewer seeds of the two rungs about the equal-loss point; both arms carry the tuning noise."""
        before, after = self.curve.neighbours(equal_loss_tokens)
        t2 = (self.tau * slope) ** 2
        return margin(self.noise, own, len(rung.losses), min(self.seeds[before], self.seeds[after]), t2, t2)


def _best_first(rows: list[Row]) -> tuple[Row, ...]:
    """Order by speedup at the largest budget that all rows with a speedup share, else at each row's largest."""
    budgets = [set(row.speedups) for row in rows if row.speedups]
    common = max(set.intersection(*budgets), default=None) if budgets else None

    def key(row: Row) -> tuple[bool, float, float, str]:
        if not row.speedups:
            return True, 0.0, 0.0, row.entry
        budget = max(row.speedups) if common is None else common
        loss = next(_mean(rung) for rung in row.rungs if rung.budget == budget)
        return False, -row.speedups[budget].figure, loss, row.entry

    return tuple(sorted(rows, key=key))
