"""The Board: one row per entry for a task, mode, track and budget, with everything that is known of it in cells.

The page shows one view; the others lie beside it as data that its script reads, so that the page stays small.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from markupsafe import Markup

from bench.digest import digest_of
from bench.mode import FLOAT, read_mode
from bench.pages import words
from bench.pages.cells import Cell, Column, Line, filled, missing
from bench.pages.drawing import inline_json
from bench.pages.evidence import ticks_said, tier
from bench.pages.marks import bar_of, span_of
from bench.pages.views import BoardView, Material, repeats
from bench.record import Record
from bench.score.board import Row, Rung
from bench.score.cost import Beside
from bench.score.export import board_facts
from bench.score.modes import degradations
from bench.score.search import Extent, Search
from bench.score.speedup import Speedup
from bench.score.wording import dominated
from bench.task import rung_name

ROWS = 60  # that a page holds at first; a script shows more of them
COLUMNS = (
    Column("rank", "Rank", "number", "By speedup at this budget; entries that share a letter are not told apart."),
    Column("entry", "Entry", "name", "One variant of an algorithm."),
    Column("speedup", "Speedup", "number", "Tokens the reference needs for the same loss, over the tokens charged."),
    Column("interval", "Interval", "interval", "Of the speedup, 95% unless it says otherwise; drawn about 1×."),
    Column("first", "First", "number", "Probability of having the lowest true loss at this budget."),
    Column("time", "In time", "number", "Speedup in seconds instead of tokens; ≈ where not timed side by side."),
    Column("memory", "Memory", "number", "Peak memory over the reference’s."),
    Column("size", "Step size", "number", "Of its steps over the reference’s, which this track holds equal."),
)
MORE = (
    Column("tuning", "Tuning", "number", "Tokens of the trials that its values rest on, the lent ones too."),
    Column("tolerance", "LR tolerance", "number", "Octaves of learning rate within 5% of tokens of the best."),
    Column("diverged", "Diverged", "number", "Share of the entry’s scored runs that diverged."),
    Column("tier", "Evidence", "text", "Who ran it."),
    Column("ticks", "Protocol", "number", "Rules of the protocol that its records prove, and those that they break."),
    Column("loss", "Loss", "number", "Mean scoring loss, nats per token.", shown=False),
    Column("seeds", "Seeds", "number", "Finished runs at this budget.", shown=False),
    Column("charged", "Charged tokens", "number", "Tokens times passes.", shown=False),
    Column("fit", "By fit", "number", "The speedup by the three-parameter fit.", shown=False),
    Column("curve", "On curve", "number", "Speedup on the training curve; biased against slow starters.", shown=False),
    Column(
        "step", "Step time", "number", "Seconds per token over the reference’s; ≈ if not side by side.", shown=False
    ),
    Column("inclusive", "With tuning", "number", "Speedup with the tokens of the trials charged.", shown=False),
    Column("trials", "Trials", "number", "Configurations tried, those that are only shown among them.", shown=False),
    Column(
        "sensitivity", "LR sensitivity", "number", "Mean loss above the best over 32x of learning rate.", shown=False
    ),
    Column("scope", "Scope", "text", "What the entry trains; the harness trains the rest.", shown=False),
    Column("family", "Family", "text", "As its author calls it.", shown=False),
    Column("dominated", "Dominated by", "text", "Entries better in tokens, no worse in time and memory.", shown=False),
)


@dataclass(frozen=True)
class Rows:
    """A board at one budget."""

    budget: float
    heading: str
    lines: tuple[Line, ...]

    @property
    def name(self) -> str:
        return rung_name(self.budget)


@dataclass(frozen=True)
class Sheet:
    """A board as the page shows it."""

    view: BoardView
    columns: tuple[Column, ...]
    budgets: tuple[Rows, ...]
    headline: Rows
    facts: dict[str, Any]  # the board for machines, in full precision
    date: str  # of its newest record

    @cached_property
    def digest(self) -> str:
        """What a citation names: any figure of the board that moves, moves it."""
        return digest_of(self.facts)

    @property
    def file(self) -> str:
        board = self.view.board
        return f"boards/{board.task}.{board.mode}.{board.track}.js"

    @cached_property
    def shown(self) -> list[int]:
        """The places of the columns that the page shows at first: what this budget has nothing of is left out."""
        return [place for place in filled(self.columns, [self.headline.lines]) if self.columns[place].shown]

    def script(self) -> str:
        """Return the file that a page's script reads: a call, since a page opened from a disk may fetch no data."""
        board = self.view.board
        facts = {
            "file": self.file, "task": board.task, "mode": board.mode, "track": board.track,
            "reference": board.reference.entry,
            "digest": self.digest, "date": self.date, "headline": self.headline.name, "about": self.view.about,
            "departs": board.departs, "notes": self.view.notes,
            "columns": [[c.key, c.title, c.kind, c.says, int(c.shown)] for c in self.columns],
            "budgets": [[rows.name, rows.heading, [[cell.packed() for cell in line.cells] for line in rows.lines]]
                        for rows in self.budgets],
        }  # fmt: skip
        return f"isoloss.show({json.dumps(facts, separators=(',', ':'), allow_nan=False, ensure_ascii=False)});\n"


def files(sheets: Sequence[Sheet]) -> Markup:
    """Return which boards there are, for the page's script."""
    return inline_json([
        {"task": one.view.board.task, "mode": one.view.board.mode, "track": one.view.board.track, "file": one.file,
         "budgets": [rows.name for rows in one.budgets], "headline": one.headline.name}
        for one in sheets
    ])  # fmt: skip


def sheet(view: BoardView, material: Material) -> Sheet:
    """Return a board with all its cells."""
    board, task = view.board, material.tasks[view.board.task]
    made = _Cells(view, material)
    rounding = made.modes
    columns = (*COLUMNS, *rounding, *MORE)
    groups = [rows for rows in (made.rows(budget) for budget in _compared(view)) if rows.lines]
    kept = filled(columns, [rows.lines for rows in groups])
    groups = [
        Rows(rows.budget, rows.heading, tuple(Line(tuple(line.cells[i] for i in kept)) for line in rows.lines))
        for rows in groups
    ] or [Rows(1.0, "no entry beside the reference has runs here yet", ())]
    searches = material.searches.get((board.task, board.mode, board.track), [])
    runs = {run for row in (board.reference, *board.rows) for rung in row.rungs for run in rung.run_ids}
    return Sheet(
        view=view,
        columns=tuple(columns[i] for i in kept),
        budgets=tuple(groups),
        headline=next((rows for rows in groups if rows.budget == board.headline_budget), groups[-1]),
        facts=board_facts(board, task, searches),
        date=max((record.made for record in material.records if record.run_id in runs), default="")[:10],
    )


def _compared(view: BoardView) -> list[float]:
    """Return the budgets at which some entry has runs; the reference alone makes no rows."""
    return sorted({rung.budget for row in view.board.rows for rung in row.rungs})


class _Cells:
    """The cells of one board; what does not depend on the budget is found once."""

    def __init__(self, view: BoardView, material: Material) -> None:
        board = view.board
        self.view, self.board, self.material = view, board, material
        self.searches: dict[str, Search] = {
            search.entry: search for search in material.searches.get((board.task, board.mode, board.track), [])
        }
        self.records = {record.run_id: record for record in material.records if record.task == board.task}
        self.span = span_of(found for row in board.rows for found in row.speedups.values())
        self.lost = (
            degradations(material.rows[board.task], material.quantized, material.tasks[board.task], board.track)
            if board.mode == FLOAT
            else {}
        )
        self.modes = [
            Column(
                f"mode {mode}",
                mode,
                "number",
                f"Loss in mode {mode} above the same runs’ in {board.mode}, nats.",
                shown=_telling(mode),
            )
            for mode in sorted({mode for lost in self.lost.values() for mode in lost})
        ]

    def rows(self, budget: float) -> Rows:
        there = [(row, rung) for row in self._ordered() for rung in row.rungs if rung.budget == budget]
        ranks = self._ranks([row for row, _ in there], budget)
        lines = tuple(Line(tuple(self._line(row, rung, ranks.get(row.entry)))) for row, rung in there)
        heading = next(group.heading for group in self.view.groups if group.heading.startswith(f"{rung_name(budget)}:"))
        ranked = [line for line in lines if line.cells[0].value is not None]
        rest = [line for line in lines if line.cells[0].value is None]
        return Rows(budget, heading, (*sorted(ranked, key=lambda line: float(line.cells[0].value or 0)), *rest))

    def _ordered(self) -> list[Row]:
        return [line.row for line in self.view.headline]

    def _ranks(self, rows: Sequence[Row], budget: float) -> dict[str, int]:
        """Return the place of every ranked row; equal figures share one."""
        figures = {row.entry: row.speedups[budget].figure for row in rows if budget in row.standings}
        return {entry: 1 + sum(other > figure for other in figures.values()) for entry, figure in figures.items()}

    def _line(self, row: Row, rung: Rung, rank: int | None) -> list[Cell]:
        """Return the cells in the order of COLUMNS, the modes, MORE."""
        found, standing = row.speedups.get(rung.budget), row.standings.get(rung.budget)
        beside, search = row.beside.get(rung.budget, Beside()), self.searches.get(row.entry)
        runs = [self.records[run] for run in rung.run_ids if run in self.records]
        lost = self.lost.get((row.entry, rung.budget), {})
        letters = "".join(standing.letters) if standing else ""
        entry = self.material.entry(row.entry)
        return [
            missing() if rank is None else Cell(f"{rank} {letters}".strip(), float(rank)),
            Cell(row.entry, row.entry, href=f"entries/{row.entry}.html", tags=self._tags(row, rung)),
            missing() if found is None else Cell(words.speedup(found), found.figure),
            Cell(words.interval(found), _low(found), bar=bar_of(found, self.span)),
            missing() if standing is None else Cell(_chance(standing.first), standing.first),
            _in_time(beside, _beside(beside.time, found)),
            _figure(beside.memory, words.times),
            _figure(row.sizes.get(rung.budget), words.times),
            *(_figure(lost.get(column.title), words.signed) for column in self.modes),
            _figure(search.charged if search else None, words.short),
            _extent(search.tolerance if search else None, 1),
            _diverged(row),
            _word(tier(runs, self.material) if runs else ""),
            self._ticks(runs),
            _figure(rung.mean, words.loss),
            Cell(str(len(rung.seeds)), float(len(rung.seeds))),
            _figure(rung.charged_tokens if rung.losses else None, words.short),
            _figure(found.fit if found else None, words.times),
            _figure(beside.on_curve, words.times),
            _in_time(beside, _figure(beside.step, words.times)),
            _beside(beside.tuning_inclusive, found),
            _figure(float(search.spent.trials) if search else None, words.count),
            _extent(search.sensitivity if search else None, 3),
            _word(self.material.scope(row.entry)),
            _word(entry.facts.family if entry else ""),
            _word(dominated(standing) or ""),
        ]

    def _ticks(self, runs: Sequence[Record]) -> Cell:
        said, broken = ticks_said(runs, self.material)
        return Cell(said, float(-broken)) if runs else missing()

    def _tags(self, row: Row, rung: Rung) -> tuple[str, ...]:
        """Return why the row is not ranked, and where the reference was read on repeated text; the heading has more."""
        once = rung.budget not in self.board.multi_epoch
        read = repeats(self.board, rung, row.speedups.get(rung.budget)) if once else ""
        return tuple(filter(None, (self.material.tag(row), read)))


def _figure(value: float | None, said: Callable[[float], str]) -> Cell:
    """Return a number's cell; a dash where there is none."""
    return missing() if value is None else Cell(said(value), float(value))


def _beside(value: float | None, found: Speedup | None) -> Cell:
    """Return the cell of a figure that was worked out from the speedup, and is a bound where that is one."""
    return missing() if value is None else Cell(words.beside(value, found), float(value))


def _in_time(beside: Beside, cell: Cell) -> Cell:
    """Return a cell of time, marked where it is indicative."""
    return replace(cell, text=words.indicative(cell.text, beside))


def _word(text: str) -> Cell:
    return Cell(text, text) if text and text != words.MISSING else missing()


def _low(found: Speedup | None) -> float | None:
    """Return what an interval is sorted by: its lower end, an open one as nothing."""
    if found is None or found.no_interval is not None:
        return None
    return 0.0 if found.low is None else found.low


def _diverged(row: Row) -> Cell:
    runs = sum(len(rung.seeds) + len(rung.failures) for rung in row.rungs)
    lost = sum(outcome == "diverged" for rung in row.rungs for _, outcome, _ in rung.failures)
    return Cell(f"{lost} of {runs}", lost / runs) if runs else missing()


def _extent(found: Extent | None, digits: int) -> Cell:
    return missing() if found is None else Cell(f"{'≥ ' * found.open}{found.value:.{digits}f}", found.value)


def _chance(share: float) -> str:
    return "< 1%" if share < 0.005 else f"{100 * share:.0f}%"


def _telling(name: str) -> bool:
    """Return whether a mode is shown at first: one that rounds weights to nearest and to fewer than 8 bits.

    What rotation or an algorithm gains over it, and what 8 bits cost, which is next to nothing, a reader asks for.
    """
    mode = read_mode(name)
    few = mode.weights is not None and (mode.weights.bits or 8) < 8
    return few and mode.algorithm in (None, "round") and not mode.hadamard
