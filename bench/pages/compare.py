"""Two entries of a board side by side, with the test between them. The numbers are the board's; a script only picks."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import itemgetter
from typing import Any

from markupsafe import Markup

from bench.pages import words
from bench.pages.drawing import inline_json
from bench.pages.shell import Page
from bench.pages.views import BoardView, Material, headline_budget, repeats
from bench.score.board import Board, Row
from bench.score.search import Search
from bench.score.statistics import LEVEL
from bench.score.versus import Versus, versus_at
from bench.score.wording import dominated, percent
from bench.task import rung_name

SMALLEST_P = 0.001  # below it a p-value is only said to be


@dataclass(frozen=True)
class Side:
    """One entry as it can be picked."""

    entry: str
    title: str
    cells: tuple[str, ...]  # one for each of the view's quantities
    losses: tuple[tuple[tuple[int, float], ...], ...]  # (seed, loss) at each of the view's budgets


@dataclass(frozen=True)
class Test:
    """The test of the two entries at one budget, in words; the difference is the first's loss less the second's."""

    budget: str
    gap: str
    interval: str
    p_value: str
    p_holm: str
    verdict: str


@dataclass(frozen=True)
class Seeds:
    """The two entries' losses at one budget and seed: same initial weights, same data."""

    budget: str
    seed: int
    one: float | None
    other: float | None

    @property
    def gap(self) -> float | None:
        return None if self.one is None or self.other is None else self.one - self.other


@dataclass(frozen=True)
class CompareView:
    board: Board
    name: str
    path: str
    budgets: tuple[str, ...]
    quantities: tuple[str, ...]
    sides: tuple[Side, ...]  # ranked order, the unranked last
    tests: tuple[tuple[tuple[int, int, Versus], ...], ...]  # at each budget, by places in sides, smaller first
    untested: str | None  # why there is no test at all

    @property
    def default(self) -> tuple[Side, Side]:
        """The pair that is shown without script: the first two of the board."""
        return self.sides[0], self.sides[1]

    @property
    def data(self) -> Markup:
        """All that the script picks from, as JSON that is safe inside a script element."""
        facts: dict[str, Any] = {
            "budgets": self.budgets,
            "untested": self.untested,
            "sides": [[side.entry, side.title, side.cells, side.losses] for side in self.sides],
            "tests": [
                [[i, j, *(float(f"{v:.6g}") for v in (pair.gap, pair.margin, pair.p_value, pair.p_holm)),
                  *[pair.level] * (pair.level != LEVEL)]
                 for i, j, pair in at]
                for at in self.tests
            ],
        }  # fmt: skip
        return inline_json(facts)


def compare_pages(material: Material, boards: Sequence[BoardView]) -> list[Page]:
    """Return one page for every board that has two entries; the first board's is the section's own."""
    shown = [view for view in boards if sum(any(rung.losses for rung in row.rungs) for row in view.board.rows) > 1]
    paths = ["compare.html", *(f"compare/{view.board.task}-{view.anchor}.html" for view in shown[1:])]
    others = [(_name(view.board), path) for view, path in zip(shown, paths, strict=False)]
    return [
        Page(path, "compare.html", make_facts=partial(_facts, view, material, path, others))
        for view, (_, path) in zip(shown, others, strict=True)
    ]


def _facts(view: BoardView, material: Material, path: str, others: Sequence[tuple[str, str]]) -> dict[str, Any]:
    return {"view": compare_view(view, material, path), "about": view.about, "others": others}


def _name(board: Board) -> str:
    return f"{board.task}, mode {board.mode}, track {board.track}"


def compare_view(view: BoardView, material: Material, path: str) -> CompareView:
    board = view.board
    rows = [line.row for line in view.headline if any(rung.losses for rung in line.row.rungs)]
    budgets = sorted({rung.budget for row in rows for rung in row.rungs if rung.losses})
    searches = {search.entry: search for search in material.searches.get((board.task, board.mode, board.track), [])}
    places = {row.entry: place for place, row in enumerate(rows)}
    return CompareView(
        board=board,
        name=_name(board),
        path=path,
        budgets=tuple(rung_name(budget) for budget in budgets),
        quantities=QUANTITIES,
        sides=tuple(_side(board, row, budgets, material, searches.get(row.entry)) for row in rows),
        tests=tuple(_tests(board, budget, places) for budget in budgets),
        untested=board.not_ranked,
    )


def _tests(board: Board, budget: float, places: dict[str, int]) -> tuple[tuple[int, int, Versus], ...]:
    found = []
    for (one, other), pair in versus_at(board, budget).items():
        i, j = places[one], places[other]
        found.append((i, j, pair) if i < j else (j, i, turned(pair)))
    return tuple(sorted(found, key=itemgetter(0, 1)))


def turned(pair: Versus) -> Versus:
    """Return the same test seen from the other side."""
    return replace(pair, one=pair.other, other=pair.one, gap=-pair.gap)


QUANTITIES = (
    "Speedup", "95% interval", "Read at", "Mean loss", "Tie group", "Probability of being first", "Speedup in time",
    "Step time over the reference’s", "Peak memory over the reference’s", "Speedup on the curve",
    "Speedup with its tuning", "Dominated by", "Tuning trials", "Tuning tokens", "Tuning tokens charged",
    "Learning-rate tolerance", "Learning-rate sensitivity", "Runs that did not finish", "Scope", "Family",
)  # fmt: skip


def _side(board: Board, row: Row, budgets: Sequence[float], material: Material, search: Search | None) -> Side:
    by_budget = {rung.budget: rung for rung in row.rungs}
    return Side(
        entry=row.entry,
        title=material.title(row.entry),
        cells=_cells(board, row, material, search),
        losses=tuple(
            tuple(zip(by_budget[budget].seeds, by_budget[budget].losses, strict=True)) if budget in by_budget else ()
            for budget in budgets
        ),
    )


def _cells(board: Board, row: Row, material: Material, search: Search | None) -> tuple[str, ...]:
    budget = headline_budget(board, row)
    rung = next(rung for rung in row.rungs if rung.budget == budget)
    found, standing, beside = row.speedups.get(budget), row.standings.get(budget), row.beside.get(budget)
    entry = material.entry(row.entry)
    told = {
        "Speedup": words.speedup(found),
        "95% interval": words.interval(found),
        "Read at": ", ".join(filter(None, (rung_name(budget), repeats(board, rung, found)))),
        "Mean loss": words.loss(rung.mean),
        "Runs that did not finish": words.failures(row.rungs),
        "Scope": material.scope(row.entry),
        "Family": entry.facts.family if entry else words.MISSING,
    }
    if standing:
        told["Tie group"] = "".join(standing.letters)
        told["Probability of being first"] = probability(standing.first)
        told["Dominated by"] = dominated(standing) or words.MISSING
    if beside:
        told["Speedup in time"] = words.indicative(words.beside(beside.time, found), beside)
        told["Step time over the reference’s"] = words.indicative(words.times(beside.step), beside)
        told["Peak memory over the reference’s"] = words.times(beside.memory)
        told["Speedup on the curve"] = words.times(beside.on_curve)
        told["Speedup with its tuning"] = words.beside(beside.tuning_inclusive, found)
    if search:
        told["Tuning trials"] = str(search.spent.trials)
        told["Tuning tokens"] = words.short(search.spent.tokens)
        told["Tuning tokens charged"] = words.short(search.charged)
        told["Learning-rate tolerance"] = words.extent(search.tolerance, "octaves", 1)
        told["Learning-rate sensitivity"] = words.extent(search.sensitivity, "nats", 3)
    return tuple(told.get(name, words.MISSING) for name in QUANTITIES)


def probability(share: float) -> str:
    return "< 0.01" if share < 0.005 else f"{share:.2f}"


def p_value(p: float) -> str:
    return f"< {SMALLEST_P:g}" if p < SMALLEST_P else f"{p:.3f}"


def compared(view: CompareView, one: int, other: int) -> list[Test]:
    """Return the tests of two sides by their places, at every budget."""
    found = []
    for budget, at in zip(view.budgets, view.tests, strict=True):
        pairs = {(i, j): pair for i, j, pair in at}
        pair = pairs.get((min(one, other), max(one, other)))
        if pair is None:
            why = view.untested or "not ranked at this budget"
            found.append(Test(budget, words.MISSING, words.MISSING, words.MISSING, words.MISSING, f"no test: {why}"))
            continue
        pair = pair if one < other else turned(pair)
        better = view.sides[one if pair.gap < 0 else other].entry
        said = f"told apart: {better} ends lower" if pair.apart else "not told apart"
        ends = f"{words.signed(pair.gap - pair.margin)} to {words.signed(pair.gap + pair.margin)}"
        ends += f" ({percent(pair.level)})" * (pair.level != LEVEL)
        found.append(Test(budget, words.signed(pair.gap), ends, p_value(pair.p_value), p_value(pair.p_holm), said))
    return found


def seed_by_seed(view: CompareView, one: int, other: int) -> list[Seeds]:
    """Return the losses of two sides, seed by seed."""
    found = []
    for budget, ours, theirs in zip(view.budgets, view.sides[one].losses, view.sides[other].losses, strict=True):
        left, right = dict(ours), dict(theirs)
        found += [Seeds(budget, seed, left.get(seed), right.get(seed)) for seed in sorted({*left, *right})]
    return found
