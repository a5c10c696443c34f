"""From records to a board: rows of measured losses and their speedups. Pure functions; no files, no clock, no torch."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NoReturn

from bench.errors import BenchError
from bench.index import IndexRow
from bench.mode import FLOAT
from bench.score.cells import Selection, select
from bench.score.curve import Curve, Fit, fit_ladder
from bench.score.ladder import judge_ladder, unstable_budgets
from bench.score.placebo import MOST_TAU, Tau
from bench.score.rows import Row as Row
from bench.score.rows import Rung as Rung
from bench.score.rows import mean_of, multi_epoch, rows_of, with_sizes
from bench.score.scorer import Scorer, tau_of, with_correlation
from bench.score.standings import Costs, Logs, placebos_apart, with_beside, with_standings
from bench.score.statistics import Noise, level_of_look, no_interval, pool
from bench.task import Task, rung_name


@dataclass(frozen=True)
class Board:
    task: str
    mode: str
    track: str
    reference: Row  # its ladder; its own speedups are empty
    rows: tuple[
        Row, ...
    ]  # best speedup at the headline budget first, by name where nothing is ranked; what is not ranked last
    machine_kinds: tuple[str, ...]  # the first is the one shown; the records of any others are left out
    noise: float | None  # pooled seed standard deviation in nats
    degrees_of_freedom: int
    reference_track: str = "tuned"
    curve: Curve | None = None  # through the ladder
    fit: Fit | None = None  # through the ladder's means, tokens in units of 1x
    tau: float | None = None  # tuning noise of ln speedup that the intervals hold; None where none is known
    tau_df: int | None = None  # its degrees of freedom
    unstable: tuple[float, ...] = ()  # budgets at which the reference's own seeds blur tokens by over 5%: not ranked
    no_interval: str | None = None  # why no interval can be given
    no_speedup: str | None = None  # why no speedup can be given
    failing: tuple[str, ...] = ()  # why a build with this board must fail, in words
    notes: tuple[str, ...] = ()  # what was left out and what to know, in words
    departs: tuple[str, ...] = ()  # where the task or its yardstick does not hold to the protocol, in words
    undertuned: tuple[str, ...] = ()  # alarms that five seeds confirmed: the first page says so
    scorer: Scorer | None = None  # what the rows were scored by

    @cached_property
    def multi_epoch(self) -> frozenset[float]:
        """The budgets beyond one pass over the text."""
        return multi_epoch([self.reference, *self.rows])

    @property
    def not_ranked(self) -> str | None:
        """Why nothing on this board is ranked, or None."""
        return _not_ranked(self.track, self.tau, self.no_speedup, self.no_interval)

    @cached_property
    def headline_budget(self) -> float | None:
        """The largest budget that all rows with a speedup share, ranked ones before others; None if they share none."""
        return _headline_budget(self.rows, self.unstable)


def make_board(
    records: Iterable[IndexRow],
    task: Task,
    reference: str,
    mode: str = FLOAT,
    track: str = "tuned",
    reference_track: str | None = None,
    tau: Tau | float | None = None,
    *,
    twins: Mapping[str, str] | None = None,
    looks: Mapping[str, int] | None = None,
    costs: Costs | None = None,
    logs: Logs | None = None,
    controls: Collection[str] = (),
) -> Board:
    """Return the board of one task, mode and track.

    The reference's track defaults to the board's own where it ran there, else to tuned. tau is the task's tuning
    noise where it is known from elsewhere (tuning_noise); else it is what the board's placebos show. twins names the
    entry that each placebo is a further tuning of, by default from their names. looks gives the look that an entry's
    plan is at (0 by default: nothing was added to it), costs what an entry costs beside tokens, logs the runs' logs by
    run_id.
    controls are shown, and take no part where rows are compared.
    """
    given = Tau(tau) if isinstance(tau, float | int) else tau
    if given is not None and not (math.isfinite(given.value) and given.value >= 0):
        raise BenchError(f"tau must be a number from 0 up, got {given.value}")
    looks = looks or {}
    for look in looks.values():
        level_of_look(look)  # refuses a fourth one
    ground = _ground(records, task, reference, mode, track, reference_track, twins, controls)
    chosen, ladder, rows, noise = ground.chosen, ground.ladder, ground.rows, ground.noise
    curve, unstable, stable = ground.curve, ground.unstable, ground.stable
    tokens, means = [rung.charged_tokens for rung in ground.measured], [mean_of(rung) for rung in ground.measured]
    fit = fit_ladder(tokens, means, float(task.budget.tokens))
    no_speedup, rises = judge_ladder(ground.measured, noise)
    found = _tau(given, track, ground)
    seeds = [len(rung.losses) for rung in sorted(ground.measured, key=lambda rung: rung.charged_tokens)]
    scorer = Scorer(curve, fit, noise, seeds, found, looks, looks.get(reference, 0))
    not_ranked = _not_ranked(track, None if found is None else found.value, no_speedup, no_interval(noise))
    scored, failing = _scored(rows, ladder, scorer, sorted(stable), no_speedup, costs or {}, logs or {})
    if not_ranked is None:
        scored = with_standings(scored, scorer, sorted(stable), costs or {}, logs or {}, task.scoring_documents)
    return Board(
        task=chosen.task,
        mode=mode,
        track=track,
        reference=ladder,
        rows=_in_order(scored, unstable, ranked=not_ranked is None),
        machine_kinds=chosen.machine_kinds,
        noise=noise.deviation,
        degrees_of_freedom=noise.df,
        reference_track=chosen.reference_track,
        curve=curve,
        fit=fit,
        tau=None if found is None else found.value,
        tau_df=None if found is None else found.df,
        unstable=unstable,
        no_interval=no_interval(noise),
        no_speedup=no_speedup,
        failing=failing,
        notes=chosen.notes + rises,
        scorer=scorer,
    )


def _refuse_short_ladder(chosen: Selection, task: Task, reference: str, measured: list[Rung]) -> NoReturn:
    there = {rung.budget for rung in measured}
    missing = [rung_name(budget) for budget in task.budget.rungs if budget not in there]
    have = f"only {rung_name(measured[0].budget)}" if measured else "none"
    raise BenchError(
        f"{chosen.task}: a speedup is read between budgets that {reference} finished, and it finished {have}",
        f"run {reference} at {' and '.join(missing[:2]) or 'a second budget'}, with 3 seeds or more",
    )


def tuning_noise(
    records: Iterable[IndexRow],
    task: Task,
    reference: str,
    track: str,
    reference_track: str | None = None,
    twins: Mapping[str, str] | None = None,
) -> Tau | None:
    """Return the tuning noise that a task's placebos show in bf16, where alone they run; None where there is none."""
    if track != "tuned":
        return None
    try:
        return _tau(None, track, _ground(records, task, reference, FLOAT, track, reference_track, twins, ()))
    except BenchError:
        return None


@dataclass(frozen=True)
class _Ground:
    """What a board's speedups are read from."""

    chosen: Selection
    ladder: Row
    rows: list[Row]
    measured: list[Rung]  # of the ladder, those that some run finished
    curve: Curve
    noise: Noise
    unstable: tuple[float, ...]
    stable: frozenset[float]


def _ground(
    records: Iterable[IndexRow], task: Task, reference: str, mode: str, track: str, reference_track: str | None,
    twins: Mapping[str, str] | None, controls: Collection[str],
) -> _Ground:  # fmt: skip
    chosen = select(records, task.digest, mode, track, reference, reference_track)
    by_name = rows_of(chosen, task, None if twins is None else dict(twins), controls)
    ladder, rows = by_name[reference], [row for name, row in by_name.items() if name != reference]
    if track == "transfer":
        rows = [with_sizes(row, ladder) for row in rows]
    measured = [rung for rung in ladder.rungs if rung.losses]
    if len(measured) < 2:
        _refuse_short_ladder(chosen, task, reference, measured)
    curve = Curve.through([rung.charged_tokens for rung in measured], [mean_of(rung) for rung in measured])
    noise = _pooled(by_name.values())
    unstable = unstable_budgets(curve, ladder, rows, noise)
    on_ladder = {r.budget for row in rows for r in row.rungs if curve.tokens[0] <= r.tokens <= curve.tokens[-1]}
    return _Ground(chosen, ladder, rows, measured, curve, noise, unstable, frozenset(on_ladder - set(unstable)))


def _pooled(rows: Iterable[Row]) -> Noise:
    """Return the seed noise of all cells; runs that two tunings of an entry share, at the same values, count once."""
    cells = dict.fromkeys((rung.budget, tuple(rung.seeds), tuple(rung.losses)) for row in rows for rung in row.rungs)
    return pool(losses for _, _, losses in cells)


def _tau(given: Tau | None, track: str, ground: _Ground) -> Tau | None:
    """Return the tuning noise of a tuned board; the other tracks have none."""
    if track != "tuned":
        return None
    beyond = multi_epoch([ground.ladder, *ground.rows])
    return tau_of(ground.rows, ground.curve, ground.stable, beyond) if given is None else given


def _not_ranked(track: str, tau: float | None, no_speedup: str | None, without_interval: str | None) -> str | None:
    if track == "declared":
        return "declared values are never ranked"
    if tau is not None and tau > MOST_TAU:
        return f"tuning noise {tau:.3f} is above {MOST_TAU}"
    return no_speedup or (without_interval and f"no interval: {without_interval}")


def _scored(
    rows: list[Row],
    ladder: Row,
    scorer: Scorer,
    stable: Sequence[float],
    no_speedup: str | None,
    costs: Costs,
    logs: Logs,
) -> tuple[list[Row], tuple[str, ...]]:
    """Return the rows with all that is read of each alone, and what must fail a build."""
    paired = [with_correlation(row, ladder) for row in rows]
    if no_speedup is not None:
        return paired, ()
    scored = with_beside(scorer.score(paired), ladder, costs, logs)
    if no_interval(scorer.noise) is not None:
        return scored, ()
    failing = tuple(
        f"placebo {placebo} differs from its twin {twin} at {rung_name(budget)}"
        for placebo, twin, budget in placebos_apart(scored, scorer, stable)
    )
    return scored, failing


def _headline_budget(rows: Sequence[Row], unstable: Sequence[float]) -> float | None:
    budgets = [set(row.speedups) for row in rows if row.speedups and row.ranked]
    shared = set.intersection(*budgets) if budgets else set()
    return max(shared - set(unstable), default=max(shared, default=None))


def _in_order(rows: Sequence[Row], unstable: Sequence[float], *, ranked: bool) -> tuple[Row, ...]:
    """Order by speedup at the headline budget, else at each row's largest; by name where nothing is ranked."""
    common = _headline_budget(rows, unstable)

    def key(row: Row) -> tuple[bool, bool, float, float, str]:
        last = not row.ranked
        if last or not ranked or not row.speedups:
            return last, ranked and not row.speedups, 0.0, 0.0, row.entry
        stable = set(row.speedups) - set(unstable)
        budget = max(stable or row.speedups) if common is None else common
        loss = next(mean_of(rung) for rung in row.rungs if rung.budget == budget)
        return False, False, -row.speedups[budget].figure, loss, row.entry

    return tuple(sorted(rows, key=key))
