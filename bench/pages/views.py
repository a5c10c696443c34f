"""From records and boards to what each page shows. Pure functions; words and layout are the templates'."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from bench.children import Quantized
from bench.entry import WARMUP, Entry
from bench.index import IndexRow, rows_by_task
from bench.ledger import Study
from bench.pages import words
from bench.pages.releases import ReleaseView
from bench.record import Log, Record, record_path
from bench.score.board import Board, Row, Rung
from bench.score.boards import Refusal
from bench.score.placebo import placebo_twin
from bench.score.search import Search
from bench.score.speedup import Speedup
from bench.score.wording import UNEQUAL, about, notes, read_beyond_one_pass, sentence
from bench.task import Task, rung_name
from bench.timings import Timing
from bench.verify import Tick, lint_record, lint_siblings

RECORDS = Path("leaderboard/records")  # as a clone's root sees them
TRACKS = {
    "tuned": "tuned: trials by one rule for every entry",
    "transfer": "transfer: the reference’s values, with the size of the update matched",
    "declared": "declared: values set by hand, not tuned, not ranked",
}
SCOPES = {
    "full": "full: it trains every parameter",
    "hidden": "hidden: it trains the blocks’ matrices; the harness trains the rest with AdamW",
    "mixed": "mixed: it trains a part of its own choice; the harness trains the rest with AdamW",
}


@dataclass(frozen=True)
class Material:
    """All that the pages are made of."""

    tasks: Mapping[str, Task]
    entries: Mapping[str, Entry]
    records: tuple[Record, ...]
    boards: tuple[Board, ...]
    logs: Mapping[str, Log] = field(default_factory=dict)  # by run_id
    refusals: tuple[Refusal, ...] = ()
    paths: Mapping[str, Path] = field(default_factory=dict)  # of records, by run_id, where not the published one
    studies: Mapping[str, list[Study]] = field(default_factory=dict)  # plans with their ledgers, by task
    searches: Mapping[tuple[str, str, str], list[Search]] = field(default_factory=dict)  # by task, mode and track
    timings: Mapping[str, list[Timing]] = field(default_factory=dict)  # by task
    releases: Sequence[ReleaseView] = ()  # the newest first
    quantized: Mapping[str, Quantized] = field(default_factory=dict)  # what rounding did after training, by run_id
    maintainers: frozenset[str] = frozenset()  # as their records say who made them

    @cached_property
    def authors(self) -> dict[str, set[str]]:
        """Who made the records of each plan."""
        found: dict[str, set[str]] = {}
        for record in self.records:
            found.setdefault(record.plan or "", set()).add(record.who)
        return found

    @cached_property
    def rows(self) -> dict[str, list[IndexRow]]:
        """What scoring needs of every task's records."""
        return rows_by_task(self.records)

    @cached_property
    def entry_runs(self) -> Counter[str]:
        return Counter(record.entry for record in self.records)

    @cached_property
    def task_runs(self) -> Counter[str]:
        return Counter(record.task for record in self.records)

    @cached_property
    def siblings(self) -> dict[str, list[Tick]]:
        return lint_siblings(self.records)

    @property
    def failing(self) -> tuple[str, ...]:
        """Why a build with these boards fails (protocol B)."""
        return tuple(f"{board.task}, mode {board.mode}, track {board.track}: {why}"
                     for board in self.boards for why in board.failing)  # fmt: skip

    @cached_property
    def entry_names(self) -> list[str]:
        """Every entry that is in the clone or has left a record."""
        return sorted({*self.entries, *(record.entry for record in self.records)})

    def twin(self, name: str) -> str | None:
        """Return the entry that a placebo is a further tuning of; None for an entry of its own."""
        return None if name in self.entries else placebo_twin(name)

    def entry(self, name: str) -> Entry | None:
        """Return the entry, a placebo's being its twin; None where this clone does not hold it."""
        return self.entries.get(self.twin(name) or name)

    def title(self, name: str) -> str:
        entry = self.entry(name)
        return name if entry is None else entry.facts.title + ", tuned again" * (self.twin(name) is not None)

    def label(self, name: str) -> str:
        """Return why an entry is shown and never ranked, in a word; nothing for one that is ranked."""
        if self.twin(name):
            return "placebo"
        entry = self.entry(name)
        if entry and entry.facts.controls_batch:
            return "own batches"
        return "control" if entry and entry.facts.control else ""

    def tag(self, row: Row) -> str:
        """Return why a board's row takes no part where rows are compared, as its plan has it; nothing for others."""
        if row.placebo_of is not None:
            return "placebo"
        if row.control:
            return self.label(row.entry) or "control"
        return "" if row.of_equal_size else UNEQUAL

    def scope(self, name: str) -> str:
        entry = self.entry(name)
        return entry.facts.scope if entry else words.MISSING

    @cached_property
    def text_tokens(self) -> dict[str, float]:
        """Tokens of one pass over a task's training text, by its run with most passes, whose quotient is roundest."""
        found: dict[str, tuple[float, float]] = {}
        for record in self.records:
            task, epochs = self.tasks.get(record.task), record.facts.epochs
            if task and epochs and record.inputs.task_digest == task.digest:
                found[record.task] = max(found.get(record.task, (0.0, 0.0)), (epochs, record.tokens / epochs))
        return {task: tokens for task, (_, tokens) in found.items()}


@dataclass(frozen=True)
class Line:
    """One entry at one budget of a board."""

    row: Row
    rung: Rung
    speedup: Speedup | None
    is_reference: bool
    read_multi_epoch: bool  # the reference's tokens at this loss lie beyond one pass over the text
    repeats: str  # the tag that heads it where text was repeated; empty where it was not


@dataclass(frozen=True)
class RungGroup:
    """All entries of a board at one budget."""

    heading: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class BoardView:
    board: Board
    anchor: str
    name: str
    headline: tuple[Line, ...]  # each row at the budget it is ordered by
    groups: tuple[RungGroup, ...]
    sentences: Mapping[str, str]  # by entry
    about: str  # what its figures are of
    notes: tuple[str, ...]  # those that the page folds away; what departs from the protocol it does not


def board_view(board: Board, material: Material) -> BoardView:
    task = material.tasks[board.task]
    rows, searches = shown_rows(board), material.searches.get((board.task, board.mode, board.track), [])
    return BoardView(
        board=board,
        anchor=f"{board.mode}-{board.track}",
        name=f"{board.task}, mode {board.mode}, track {TRACKS.get(board.track, board.track)}",
        headline=tuple(_line(board, row, headline_budget(board, row)) for row in rows),
        groups=tuple(_group(board, rows, budget, material) for budget in budgets_of(board)),
        sentences={row.entry: sentence(board, row, task, searches) for row in board.rows},
        about=about(board, task),
        notes=tuple(note for note in notes(board) if note not in board.departs),
    )


def shown_rows(board: Board) -> tuple[Row, ...]:
    """Return the board's order, controls last and placebos after them."""
    return tuple(sorted(board.rows, key=lambda row: (row.placebo_of is not None, row.control)))


def budgets_of(board: Board) -> list[float]:
    return sorted({rung.budget for row in (board.reference, *board.rows) for rung in row.rungs})


def headline_budget(board: Board, row: Row) -> float:
    """Return the board's headline budget, or the row's own largest where the row has none there."""
    common = board.headline_budget
    if common is not None and any(rung.budget == common for rung in row.rungs):
        return common
    return max(row.speedups or (rung.budget for rung in row.rungs))


def _line(board: Board, row: Row, budget: float) -> Line:
    rung = next(rung for rung in row.rungs if rung.budget == budget)
    found = row.speedups.get(budget)
    beyond = found is not None and read_beyond_one_pass(rung, found, board)
    return Line(row, rung, found, row is board.reference, beyond, repeats(board, rung, found))


def repeats(board: Board, rung: Rung, found: Speedup | None) -> str:
    """Return the tag of a figure that rests on repeated text, the entry's or the reference's (protocol C)."""
    if rung.budget in board.multi_epoch:
        return "multi-epoch"
    return "reference read multi-epoch" if found and read_beyond_one_pass(rung, found, board) else ""


def read_at(board: Board, lines: Iterable[Line]) -> str:
    """Return the budgets of these lines in words: 1x, 2x (multi-epoch)."""
    budgets = sorted({line.rung.budget for line in lines})
    return ", ".join(rung_name(one) + " (multi-epoch)" * (one in board.multi_epoch) for one in budgets)


def _group(board: Board, rows: tuple[Row, ...], budget: float, material: Material) -> RungGroup:
    task = material.tasks[board.task]
    there = [row for row in (board.reference, *rows) if any(rung.budget == budget for rung in row.rungs)]
    lines = tuple(_line(board, row, budget) for row in there)
    passes = max(line.rung.epochs for line in lines)
    repeated = "multi-epoch, " if budget in board.multi_epoch else ""
    heading = f"{rung_name(budget)}: {task.tokens(budget):,} tokens in {task.steps(budget):,} steps"
    heading += f"; {repeated}{passes:.2g} passes over the text" if passes else ""
    if budget in board.unstable:
        heading += "; unstable: the reference’s own seeds differ too much here, not ranked"
    return RungGroup(heading, lines)


@dataclass(frozen=True)
class Value:
    """One hyperparameter of an entry."""

    name: str
    default: str
    searched: str


def entry_values(entry: Entry) -> list[Value]:
    ranges = entry.facts.search
    found = []
    for name, default in entry.defaults.items():
        searched = "fixed"
        if name in ranges:
            searched = f"{ranges[name].low:g} to {ranges[name].high:g}, {ranges[name].scale}"
        elif name == WARMUP:
            searched = "the protocol’s, the same for every entry"
        found.append(Value(name, words.plain(default), searched))
    return found


@dataclass(frozen=True)
class RunView:
    record: Record
    ticks: tuple[Tick, ...]
    log: Log | None
    path: str  # of the record, as a clone's root sees it
    digests: tuple[tuple[str, str | None], ...]


def run_view(record: Record, material: Material) -> RunView:
    task, log = material.tasks.get(record.task), material.logs.get(record.run_id)
    gone = Tick("task", "the task file is the one that was run", None, "this clone has no such task")
    own = lint_record(record, task, log) if task else [gone]
    ticks = sorted([*own, *material.siblings.get(record.run_id, [])], key=lambda tick: (tick.rule != "task", tick.rule))
    published = record_path(RECORDS, record.task, record.plan, record.run_id)
    path = material.paths.get(record.run_id, published)
    return RunView(record, tuple(ticks), log, path.as_posix(), _digests(record))


def _digests(record: Record) -> tuple[tuple[str, str | None], ...]:
    i, w = record.inputs, record.weights
    return (
        ("run", record.run_id), ("task", i.task_digest), ("entry source", i.entry_digest), ("harness", i.harness),
        ("plan", record.plan), ("initial weights", w.initial), ("final weights", w.final),
        ("evaluated weights", w.evaluated), ("data chain", record.chains.data), ("loss chain", record.chains.loss),
        ("validation tokens", record.facts.validation), ("machine kind", i.machine_kind),
        ("environment lock", record.machine.lock), ("log", record.log), ("record", record.digest),
    )  # fmt: skip


def runs_by_entry(material: Material) -> dict[str, list[Record]]:
    """Return every entry's records, by task, mode, track, budget and seed."""
    found: dict[str, list[Record]] = defaultdict(list)
    for record in sorted(material.records, key=_run_order):
        found[record.entry].append(record)
    return found


def _run_order(record: Record) -> tuple[str, str, str, float, int, str]:
    i = record.inputs
    return i.task, i.mode, i.track, i.budget, i.seed, record.run_id
