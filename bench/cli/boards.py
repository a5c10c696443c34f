"""Verbs about what comes of records: score, site, release."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.app import Format, Records, TaskPath, app, err, example
from bench.errors import BenchError
from bench.places import PUBLISHED, RUNS, check_folder
from bench.record import Track
from bench.task import read_task

if TYPE_CHECKING:
    from bench.index import IndexRow
    from bench.record import Log, Record
    from bench.score.modes import ModeTable
    from bench.task import Task


@app.command(**example("score tasks/nano.toml --format github"))
def score(
    task: TaskPath,
    records: Records = None,
    mode: Annotated[str | None, typer.Option(help="a mode of training; bf16 by default")] = None,
    track: Annotated[Track | None, typer.Option(help="the first that has records, if none is named")] = None,
    modes: Annotated[bool, typer.Option("--modes", help="entries by modes instead: what rounding costs them")] = False,
    output: Annotated[Format, typer.Option("--format", help="of the tables")] = Format.plain,
    leaderboard: Annotated[Path, typer.Option(help="folder of plans and ledgers")] = PUBLISHED,
) -> None:
    """Print speedups at equal loss, with intervals; exit 1 where a placebo differs from its twin."""
    from bench.index import load_index
    from bench.ledger import read_studies
    from bench.mode import FLOAT
    from bench.score.cells import best_track
    from bench.score.table import render
    from bench.score.told import told_board
    from bench.timings import read_timings

    if modes and mode is not None:
        raise BenchError(f"--modes shows all modes, and --mode {mode} asks for one", "leave one of the two out")
    definition = read_task(task)
    rows = load_index(records or [leaderboard / "records"], RUNS / "index")
    track = track or best_track(rows, definition.digest)
    studies = read_studies(leaderboard, task.stem, definition.digest)
    if modes:
        _print_modes(rows, task, track, leaderboard, output)
        return
    timings = read_timings(leaderboard, task.stem, definition.digest)
    board, searches = told_board(rows, definition, mode or FLOAT, track, studies, _read, timings)
    print(render(board, definition, output.value, searches), end="")
    _fail(board.failing)


def _fail(failing: Sequence[str]) -> None:
    """Say why a build fails and exit 1; nothing where it does not."""
    for why in failing:
        err.print(f"this build fails: {why}", markup=False, highlight=False, soft_wrap=True)
    if failing:
        raise typer.Exit(1)


def _print_modes(rows: "list[IndexRow]", path: Path, track: str, leaderboard: Path, output: Format) -> None:
    from bench.score.mode_text import render_modes
    from bench.score.worth import worths

    task, table = _mode_table(rows, path, track, leaderboard)
    sizes = [(task, table)]
    for other in sorted(path.parent.glob("*.toml")):
        if other.stem != path.stem and any(row.task == other.stem for row in rows):
            try:
                sizes.append(_mode_table(rows, other, track, leaderboard))
            except BenchError:  # no table of it yet, which its own call says
                continue
    print(render_modes(table, output.value, [one for one in worths(sizes) if path.stem in one.sizes]), end="")


def _mode_table(rows: "list[IndexRow]", path: Path, track: str, leaderboard: Path) -> "tuple[Task, ModeTable]":
    from bench.children import quantized_path, read_quantized
    from bench.ledger import read_studies
    from bench.score.told import told_modes

    task = read_task(path)
    paths = {row.run_id: quantized_path(Path(row.path)) for row in rows if row.task_digest == task.digest}
    children = {run_id: read_quantized(child) for run_id, child in paths.items() if child.exists()}
    return task, told_modes(rows, children, task, track, read_studies(leaderboard, path.stem, task.digest))


def _read(row: "IndexRow") -> "tuple[Record, Log]":
    from bench.record import read_log, read_record

    path = Path(row.path)
    record = read_record(path)
    return record, read_log(path, record)


@app.command(**example("site --records leaderboard/records --out leaderboard/site"))
def site(
    records: Records = None,
    out: Annotated[Path, typer.Option(help="folder of the pages")] = PUBLISHED / "site",
    tasks: Annotated[Path, typer.Option(help="folder of tasks")] = Path("tasks"),
    baselines: Annotated[Path, typer.Option(help="folder of algorithms")] = Path("baselines"),
    leaderboard: Annotated[Path, typer.Option(help="folder of plans, ledgers and records")] = PUBLISHED,
    address: Annotated[str, typer.Option(help="where the pages are published, https://...: for a sitemap")] = "",
    repository: Annotated[str, typer.Option(help="where a clone is had, https://...: pages lead there")] = "",
) -> None:
    """Build the pages from records, plans and ledgers, the same bytes each time; exit 1 where a placebo differs."""
    from bench.pages.build import build_site

    check_folder(out)
    for folder in (tasks, baselines):
        if not folder.is_dir():
            raise BenchError(f"{folder}: no such folder", "call this from the root of a clone, or name its folders")
    written, failing = build_site(
        records or [leaderboard / "records"], tasks, baselines, leaderboard, out,
        _whole(address, "--address"), _whole(repository, "--repository"),
    )  # fmt: skip
    print(f"{written} pages: {(out / 'index.html').resolve()}")
    _fail(failing)


def _whole(address: str, option: str) -> str:
    """Return the address with one slash at its end; empty for none."""
    if address and not re.fullmatch(r"https?://[^\s\"'<>]+", address):
        raise BenchError(f"{option} {address}: no web address", "it starts with https://")
    return address and address.rstrip("/") + "/"


@app.command(**example("release 1.0 --why 'the first board of nano'"))
def release(
    version: Annotated[str, typer.Argument(help="numbers with dots, rising: 1.0")],
    why: Annotated[list[str] | None, typer.Option(help="why it is made; a paragraph, and again for another")] = None,
    findings: Annotated[Path | None, typer.Option(help="what it says, in plain words with figures named")] = None,
    check: Annotated[bool, typer.Option("--check", help="make an old one again and compare every byte")] = False,
    tasks: Annotated[Path, typer.Option(help="folder of tasks")] = Path("tasks"),
    baselines: Annotated[Path, typer.Option(help="folder of algorithms")] = Path("baselines"),
    leaderboard: Annotated[Path, typer.Option(help="folder of records, plans and ledgers")] = PUBLISHED,
) -> None:
    """Keep what the boards say in a folder that is never rewritten; or --check one, exit 1 where a byte differs."""
    from bench.pages import rebuild
    from bench.pages.build import gather
    from bench.spec import read_text

    if check and (why or findings):
        raise BenchError("--check makes an old release again, with its own words", "leave --why and --findings out")
    text = read_text(findings) if findings else None
    material, folder = gather([leaderboard / "records"], tasks, baselines, leaderboard), leaderboard / "releases"
    if not check:
        print(f"released: {rebuild.release(version, why or [], text, material, folder)}")
    elif wrong := rebuild.unlike(version, material, folder):
        for line in wrong:
            err.print(f"release {version}: {line}", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1)
    else:
        print(f"release {version}: equal byte for byte")
