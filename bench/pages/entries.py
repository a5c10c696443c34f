"""The page of an entry: what it is, what it trains, how it was tuned, all its results, how to cite it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from markupsafe import Markup

from bench.digest import digest_of
from bench.entry import Entry
from bench.pages.plot import Axis, Series, legend, plot
from bench.pages.propagation import ErrorView, error_views
from bench.pages.shell import Page
from bench.pages.tuning import TuningView, tuning_views
from bench.pages.views import BoardView, Material, runs_by_entry
from bench.pages.words import speedup
from bench.record import Record
from bench.score.board import Board, Row
from bench.task import rung_name

CURVE_POINTS = 49


@dataclass(frozen=True)
class Share:
    """Parameters of one role on one task, by who trains them."""

    task: str
    role: str
    entry: int
    harness: int


@dataclass(frozen=True)
class Result:
    """The entry on one board."""

    view: BoardView
    row: Row
    is_reference: bool


@dataclass(frozen=True)
class EntryView:
    name: str
    title: str
    entry: Entry | None  # a placebo's is its twin; None where this clone does not hold it
    placebo_of: str | None
    partition: tuple[Share, ...]
    tunings: tuple[TuningView, ...]
    results: tuple[Result, ...]
    errors: tuple[ErrorView, ...]  # where those of rounded models come from, by task
    runs: tuple[Record, ...]
    failed: int  # runs that did not finish
    citation: str


def entry_pages(material: Material, boards: Sequence[BoardView]) -> list[Page]:
    """Return one page for every entry that is in the clone or has left a record."""
    runs = runs_by_entry(material)
    return [
        Page(f"entries/{name}.html", "entry.html",
             make_facts=partial(_facts, name, material, boards, runs.get(name, [])))
        for name in material.entry_names
    ]  # fmt: skip


def _facts(name: str, material: Material, boards: Sequence[BoardView], runs: Sequence[Record]) -> dict[str, Any]:
    return {"view": entry_view(name, material, boards, runs)}


def entry_view(name: str, material: Material, boards: Sequence[BoardView], runs: Sequence[Record]) -> EntryView:
    return EntryView(
        name=name,
        title=material.title(name),
        entry=material.entry(name),
        placebo_of=material.twin(name),
        partition=partition(runs),
        tunings=tuple(tuning_views(name, material)),
        results=tuple(
            Result(view, row, row is view.board.reference)
            for view in boards
            for row in (view.board.reference, *view.board.rows)
            if row.entry == name
        ),
        errors=tuple(error_views(material, runs)),
        runs=tuple(runs),
        failed=sum(run.outcome != "finished" for run in runs),
        citation=citation(name, material, runs),
    )


def partition(runs: Sequence[Record]) -> tuple[Share, ...]:
    """Return who trains what on each task, as the newest run that says so has it."""
    newest: dict[str, Record] = {}
    for run in sorted(runs, key=lambda run: (run.made, run.run_id)):
        if run.facts.partition:
            newest[run.task] = run
    return tuple(
        Share(task, role, count.entry, count.harness)
        for task, run in sorted(newest.items())
        for role, count in sorted(run.facts.partition.items())
    )


def citation(name: str, material: Material, runs: Sequence[Record]) -> str:
    """Return BibTeX that pins these results: the source's digest and one over the records, which anybody can check."""
    records = digest_of(sorted(run.digest for run in runs))
    year = max((run.made[:4] for run in runs), default="")
    entry = material.entry(name)
    source = f"source {entry.digest[:16]}, " if entry else ""
    note = f"{source}{len(runs)} records, digest {records[:16]}"
    lines = [
        f"@misc{{isoloss-{_key(name)}-{records[:8]},",
        f"  title  = {{Isoloss: {_latex(material.title(name))} ({_latex(name)})}},",
        "  author = {{The Isoloss contributors}},",
        *([f"  year   = {{{year}}},"] if year else []),
        f"  note   = {{{note}}},",
        "}",
    ]
    return "\n".join(lines)


def _key(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in name)


def _latex(text: str) -> str:
    """Return text that LaTeX prints as it is."""
    signs = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    signs |= {sign: rf"\{sign}" for sign in "&%$#_{}"}
    return "".join(signs.get(letter, letter) for letter in " ".join(text.split()))


def result_chart(board: Board, row: Row, number: str) -> Markup:
    """Return the reference's ladder and the entry's runs; a line at equal loss, as long as the speedup."""
    ladder = [rung for rung in board.reference.rungs if rung.losses]
    own = [rung for rung in row.rungs if rung.losses]
    if not ladder or not own or board.curve is None:
        return Markup("")
    first, last = board.curve.tokens[0], board.curve.tokens[-1]
    tokens = [first * (last / first) ** (i / (CURVE_POINTS - 1)) for i in range(CURVE_POINTS)]
    reference = board.reference.entry
    losses = board.curve.loss_at(tokens).tolist()
    drawn = [
        Series(f"{reference}, the reference", list(zip(tokens, losses, strict=True))),
        Series("", [(rung.charged_tokens, rung.mean) for rung in ladder], "dots"),
        Series(row.entry, [(rung.charged_tokens, rung.mean) for rung in own], "dashed", 1, dots=True),
    ]
    told: list[str] = []
    for rung in own:
        found = row.speedups.get(rung.budget)
        if found is not None and rung.mean is not None:
            end = rung.charged_tokens * found.figure
            name = "equal loss: its length is the speedup" if not told else ""
            drawn.append(Series(name, [(rung.charged_tokens, rung.mean), (end, rung.mean)], "thin", 1))
            told.append(f"{speedup(found)} at {rung_name(rung.budget)}")
    ticks = tuple((rung.charged_tokens, rung_name(rung.budget)) for rung in ladder)
    title = f"Final loss over charged tokens: {row.entry} against {reference} on {board.task}, mode {board.mode}"
    x, y = Axis("charged tokens, as budgets of the reference", log=True, ticks=ticks), Axis("loss (nats per token)")
    chart = plot(title, f"Speedups: {', '.join(told) or 'none'}.", x, y, drawn, number, height=280)
    return chart + legend(drawn)
