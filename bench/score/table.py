"""A board as text: plain, GitHub and LaTeX tables to read; CSV and JSON, in full precision, for machines."""

import json
from collections.abc import Sequence

from tabulate import tabulate

from bench.errors import BenchError, did_you_mean
from bench.score.board import Board, Row, Rung
from bench.score.export import board_facts, csv_text
from bench.score.rows import Standing
from bench.score.search import Extent, Search
from bench.score.speedup import Speedup
from bench.score.wording import UNEQUAL, bounded, caveats, dominated, heading, levelled, notes
from bench.score.wording import sentences as sentences
from bench.task import Task, rung_name

FORMATS = ("plain", "github", "latex", "csv", "json")
LADDER = ("rung", "charged tokens", "seeds", "mean loss", "s.d.", "failures", "notes")
ENTRIES = (
    "entry", "rung", "mean loss", "seeds", "speedup", "95% interval", "by fit", "step size", "tie", "P(first)",
    "failures", "notes",
)  # fmt: skip
BESIDE = ("entry", "rung", "on curve", "in time", "with tuning", "step time", "memory", "dominated by")
TUNING = ("entry", "trials", "failed", "tokens", "charged", "best", "tolerance", "sensitivity")
OF_TUNING = (
    "tuning: tokens of all trials; charged are those of the trials that the values here rest on, with the reference's "
    "where it lends values; tolerance in octaves of learning rate, sensitivity in nats:"
)
TO_THE_LEFT = ("entry", "rung", "95% interval", "tie", "failures", "notes", "dominated by")


def render(board: Board, task: Task, format: str = "plain", searches: Sequence[Search] = ()) -> str:
    """Return the board in one of FORMATS, with the searches that found its entries' values."""
    if format not in FORMATS:
        raise BenchError(f"no table format {format}{did_you_mean(format, FORMATS)}", f"known: {', '.join(FORMATS)}")
    if format == "json":
        return json.dumps(board_facts(board, task, searches), indent=1, allow_nan=False) + "\n"
    if format == "csv":
        return csv_text(board)
    said = sentences(board, task, searches)
    ladder = [_ladder_line(rung, board) for rung in board.reference.rungs]
    lines = [_entry_line(row, rung, board) for row in board.rows for rung in row.rungs]
    blocks = [_prose([heading(board)], format), _grid(ladder, LADDER, format)]
    if lines:
        blocks += [_grid(lines, ENTRIES, format), _prose(said, format)]
    if beside := [_beside_line(row, rung) for row in board.rows for rung in row.rungs if rung.budget in row.beside]:
        blocks += [_prose(["beside the headline, not ranked; step time and memory over the reference's:"], format)]
        blocks += [_grid(beside, BESIDE, format)]
    if searches:
        blocks += [_prose([OF_TUNING], format)]
        blocks += [_grid([_tuning_line(search) for search in searches], TUNING, format)]
    blocks.append(_prose([f"note: {note}" for note in notes(board)], format))
    return "\n\n".join(block for block in blocks if block) + "\n"


def _failures(rung: Rung) -> str:
    """Return '2 diverged, 1 timeout'; an empty text for none."""
    outcomes = [outcome for _, outcome, _ in rung.failures]
    return ", ".join(f"{outcomes.count(outcome)} {outcome}" for outcome in sorted(set(outcomes)))


def _flags(row: Row | None, rung: Rung, speedup: Speedup | None, board: Board) -> str:
    said = list(caveats(board, rung, speedup))
    if row is not None:
        said += ["placebo"] * (row.placebo_of is not None) + [UNEQUAL] * (not row.of_equal_size)
    return ", ".join(said)


def _ladder_line(rung: Rung, board: Board) -> list[str]:
    tokens = f"{rung.charged_tokens:,.0f}" if rung.losses else ""
    return [
        rung_name(rung.budget),
        tokens,
        str(len(rung.seeds)),
        _loss(rung.mean),
        _loss(rung.deviation),
        _failures(rung),
        _flags(None, rung, None, board),
    ]


def _entry_line(row: Row, rung: Rung, board: Board) -> list[str]:
    speedup = row.speedups.get(rung.budget)
    shown = ["", "", ""]
    if speedup is not None:
        sign = "" if speedup.bound == "=" else f"{speedup.bound} "
        shown = [
            f"{sign}{bounded(speedup.figure, speedup.bound)}x",
            f"no interval: {speedup.no_interval}" if speedup.no_interval else levelled(speedup),
            "" if speedup.fit is None else f"{speedup.fit:.2f}x",
        ]
    return [
        row.entry,
        rung_name(rung.budget),
        _loss(rung.mean),
        str(len(rung.seeds)),
        *shown,
        f"{row.sizes[rung.budget]:.2f}x" if rung.budget in row.sizes else "",
        *_standing(row.standings.get(rung.budget)),
        _failures(rung),
        _flags(row, rung, speedup, board),
    ]


def _standing(found: Standing | None) -> list[str]:
    if found is None:
        return ["", ""]
    first = "< 0.01" if found.first < 0.005 else f"{found.first:.2f}"
    return ["".join(found.letters), first]


def _beside_line(row: Row, rung: Rung) -> list[str]:
    found, speedup, standing = row.beside[rung.budget], row.speedups[rung.budget], row.standings.get(rung.budget)
    sign = "" if speedup.bound == "=" else f"{speedup.bound} "
    return [
        row.entry,
        rung_name(rung.budget),
        "" if found.on_curve is None else f"{found.on_curve:.2f}x",
        *("" if figure is None else f"{sign}{bounded(figure, speedup.bound)}x"
          for figure in (found.time, found.tuning_inclusive)),
        *("" if ratio is None else f"{ratio:.2f}" for ratio in (found.step, found.memory)),
        dominated(standing) or "",
    ]  # fmt: skip


def _tuning_line(search: Search) -> list[str]:
    spent = search.spent
    return [
        search.entry,
        str(spent.trials),
        str(spent.failed or ""),
        f"{spent.tokens:,.0f}",
        f"{search.charged:,.0f}",
        _loss(search.after_k[-1].best if search.after_k else None),
        _extent(search.tolerance, 1),
        _extent(search.sensitivity, 3),
    ]


def _extent(found: Extent | None, digits: int) -> str:
    return "" if found is None else f"{'>= ' * found.open}{found.value:.{digits}f}"


def _loss(number: float | None) -> str:
    return "" if number is None else f"{number:.4f}"


def _grid(lines: list[list[str]], names: tuple[str, ...], format: str) -> str:
    """Return the table without the columns that are empty throughout."""
    kept = [i for i in range(len(names)) if any(line[i] for line in lines)]
    cells = [[_one_line(line[i], format) for i in kept] for line in lines]
    align = ["left" if names[i] in TO_THE_LEFT else "right" for i in kept]
    table: str = tabulate(cells, [names[i] for i in kept], tablefmt=format, disable_numparse=True, colalign=align)
    return table


def _one_line(text: str, format: str) -> str:
    text = " ".join(text.split())
    return text.replace("|", r"\|") if format == "github" else text


def _prose(lines: list[str], format: str) -> str:
    """Return the lines as paragraphs of the format; LaTeX gets comments, since names may hold its special signs."""
    texts = [_one_line(line, format) for line in lines]
    if format == "latex":
        return "\n".join(f"% {text}" for text in texts)
    return ("\n\n" if format == "github" else "\n").join(texts)
