"""Verbs about what comes of records: score, site."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.app import Format, Records, TaskPath, app, err, example
from bench.places import PUBLISHED, RUNS
from bench.task import Task, read_task

if TYPE_CHECKING:
    from bench.index import IndexRow
    from bench.ledger import Study
    from bench.score.board import Board
    from bench.score.search import Search


@app.command(**example("score tasks/nano.toml --format github"))
def score(
    task: TaskPath,
    records: Records = None,
    mode: Annotated[str, typer.Option(help="a mode")] = "bf16",
    track: Annotated[str | None, typer.Option(help="tuned, transfer or declared; the first that has records")] = None,
    output: Annotated[Format, typer.Option("--format", help="of the tables")] = Format.plain,
    leaderboard: Annotated[Path, typer.Option(help="folder of plans and ledgers")] = PUBLISHED,
) -> None:
    """Print speedups at equal loss, with intervals; exit 1 where a placebo differs from its twin."""
    from bench.index import load_index
    from bench.ledger import read_studies
    from bench.score.cells import best_track
    from bench.score.table import render

    definition = read_task(task)
    rows = load_index(records or [leaderboard / "records"], RUNS / "index")
    track = track or best_track(rows, definition.digest)
    studies = [] if track == "declared" else read_studies(leaderboard, task.stem, definition.digest)
    board, searches = _scored(rows, definition, mode, track, studies)
    print(render(board, definition, output.value, searches), end="")
    if board.failing:
        for why in board.failing:
            err.print(f"this build fails: {why}", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1)


def _scored(
    rows: "list[IndexRow]", task: Task, mode: str, track: str, studies: "list[Study]"
) -> "tuple[Board, list[Search]]":
    """Return the board with all that plans, ledgers and logs say about its records; plans there need not be."""
    from bench.record import read_log, read_record
    from bench.score import evidence
    from bench.score.board import make_board
    from bench.score.cells import select

    chosen = select(rows, task.digest, mode, track, task.reference, None)
    shown = [row for cell in chosen.cells.values() for row in cell]
    records = {row.run_id: read_record(Path(row.path)) for row in shown}
    logs = {row.run_id: read_log(Path(row.path), records[row.run_id]) for row in shown if row.finished}
    hybrids = evidence.hybrids_of(records.values())
    costs = evidence.costs_of(studies, chosen, task, task.reference, hybrids)
    board = make_board(
        rows, task, task.reference, mode, track,
        twins=evidence.placebos_of(studies, rows), looks=evidence.looks_of(studies), costs=costs, logs=logs,
    )  # fmt: skip
    notes = [
        *([evidence.INDICATIVE] if any(cost.seconds_per_token for cost in costs.values()) else []),
        *evidence.plan_notes(studies, rows, board),
        *evidence.value_notes(studies, records.values(), task),
        *evidence.alarm_notes(studies, chosen, task.reference),
    ]
    initial = evidence.initial_loss(records.values(), task)
    searches = evidence.searches_of(studies, board, initial, hybrids)
    return replace(board, notes=(*board.notes, *notes)), searches


@app.command(**example("site --records leaderboard/records --out leaderboard/site"))
def site(
    records: Records = None,
    out: Annotated[Path, typer.Option(help="folder of the pages")] = PUBLISHED / "site",
    tasks: Annotated[Path, typer.Option(help="folder of tasks")] = Path("tasks"),
    baselines: Annotated[Path, typer.Option(help="folder of algorithms")] = Path("baselines"),
) -> None:
    """Build the pages from records; the same records give the same bytes."""
    from bench.pages.build import build_site

    written = build_site(records or [PUBLISHED / "records"], tasks, baselines, out)
    print(f"{written} pages: {(out / 'index.html').resolve()}")
