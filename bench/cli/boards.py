"""Verbs about what comes of records: score, site."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from bench.cli.app import Records, TaskPath, app, example
from bench.places import PUBLISHED, RUNS
from bench.task import read_task


class Format(StrEnum):
    plain = "plain"
    github = "github"
    latex = "latex"
    csv = "csv"
    json = "json"


@app.command(**example("score tasks/nano.toml --format github"))
def score(
    task: TaskPath,
    records: Records = None,
    mode: Annotated[str, typer.Option(help="a mode")] = "bf16",
    track: Annotated[str | None, typer.Option(help="tuned, transfer or declared; the first that has records")] = None,
    output: Annotated[Format, typer.Option("--format", help="of the tables")] = Format.plain,
) -> None:
    """Print speedups at equal loss, with intervals, from records alone."""
    from bench.index import load_index
    from bench.score.board import make_board
    from bench.score.cells import best_track
    from bench.score.table import render

    definition = read_task(task)
    rows = load_index(records or [PUBLISHED / "records"], RUNS / "index")
    board = make_board(rows, definition, definition.reference, mode, track or best_track(rows, definition.digest))
    print(render(board, definition, output.value), end="")


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
