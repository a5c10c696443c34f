"""The cells of a board: all runs of one entry at one budget, and an entry's rungs with what was found of each."""

import math
from collections.abc import Collection
from dataclasses import dataclass, field, replace

from bench.index import IndexRow
from bench.score.cells import Selection
from bench.score.cost import Beside
from bench.score.placebo import twins_of
from bench.score.speedup import Speedup
from bench.score.statistics import Correlation, pool
from bench.task import Task

EQUAL_SIZE = 1.25  # factor within which steps of the transfer track have the reference's size


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
    step_size: float | None = None  # of the finished runs' steps in hidden matrices, root mean square

    @property
    def mean(self) -> float | None:
        return math.fsum(self.losses) / len(self.losses) if self.losses else None

    @property
    def deviation(self) -> float | None:
        """The standard deviation over seeds; None for fewer than two."""
        return pool([self.losses]).deviation


@dataclass(frozen=True)
class Standing:
    """Where an entry stands among the ranked entries at one budget."""

    letters: tuple[str, ...]  # tie groups: entries that share one are not told apart
    first: float  # probability of being first
    text_error: float | None  # standard error, from the validation text, of its difference from the leader, nats
    dominated_by: tuple[str, ...] | None  # better in tokens and no worse in step time and memory; None: not timed


@dataclass(frozen=True)
class Row:
    """One entry on one task, in one mode and track."""

    entry: str
    rungs: tuple[Rung, ...]
    speedups: dict[float, Speedup]  # by budget; none where no run finished
    standings: dict[float, Standing] = field(default_factory=dict)  # by budget; at ranked rungs only
    beside: dict[float, Beside] = field(default_factory=dict)  # by budget; where costs or curves are known
    placebo_of: str | None = None  # the entry that this one is another tuning of
    correlation: Correlation | None = None  # of its losses with the reference's, over shared seeds
    control: bool = False  # measured and shown, and never ranked
    sizes: dict[float, float] = field(default_factory=dict)  # by budget: its steps over the reference's; transfer track

    @property
    def ranked(self) -> bool:
        """Whether the row takes part where rows are compared."""
        return self.placebo_of is None and not self.control and self.of_equal_size

    @property
    def of_equal_size(self) -> bool:
        """Whether its steps have the reference's size wherever the track says so."""
        return all(1 / EQUAL_SIZE <= size <= EQUAL_SIZE for size in self.sizes.values())


def rows_of(
    chosen: Selection, task: Task, twins: dict[str, str] | None, controls: Collection[str] = ()
) -> dict[str, Row]:
    """Return a row for every entry, the reference among them, without speedups as yet."""
    rungs: dict[str, list[Rung]] = {}
    for (entry, budget), runs in sorted(chosen.cells.items()):
        rungs.setdefault(entry, []).append(_rung(budget, task.tokens(budget), runs))
    placebos = twins_of(rungs) if twins is None else twins
    return {
        entry: Row(entry, tuple(found), {}, placebo_of=placebos.get(entry), control=entry in controls)
        for entry, found in rungs.items()
    }


def with_sizes(row: Row, ladder: Row) -> Row:
    """Return the row with the size of its steps over the reference's at the same budget, where both are known."""
    theirs = {rung.budget: rung.step_size for rung in ladder.rungs}
    sizes = {rung.budget: rung.step_size / size for rung in row.rungs
             if rung.step_size is not None and (size := theirs.get(rung.budget))}  # fmt: skip
    return replace(row, sizes=sizes)


def _rung(budget: float, tokens: int, runs: list[IndexRow]) -> Rung:
    done, failed = [run for run in runs if run.finished], [run for run in runs if not run.finished]
    charged = math.fsum(run.charged_tokens for run in done) / len(done) if done else float(tokens)
    sizes = [run.step_size for run in done if run.step_size is not None]
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
        step_size=math.fsum(sizes) / len(sizes) if sizes else None,
    )


def mean_of(rung: Rung) -> float:
    """Return the mean of a rung that has runs."""
    assert rung.mean is not None
    return rung.mean


def multi_epoch(rows: list[Row]) -> frozenset[float]:
    """Return the budgets beyond one pass over the text."""
    return frozenset(rung.budget for row in rows for rung in row.rungs if rung.epochs > 1)
