"""The command: verbs and paths. A user's mistake is one clear line; what trains imports torch only when it trains."""

import json
import os
import sys
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from bench.entry import Entry
from bench.errors import BenchError
from bench.places import PUBLISHED, RUNS, data_folder
from bench.task import parse_rung, read_task, rung_name

app = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False,
                  help="Isoloss: how many times fewer tokens than tuned AdamW does an optimizer need?")  # fmt: skip
err = Console(stderr=True)

TaskPath = Annotated[Path, typer.Argument(help="a task, as tasks/nano.toml", show_default=False)]
EntryPath = Annotated[Path, typer.Argument(help="an entry, as baselines/muon/muon.toml", show_default=False)]
Records = Annotated[
    list[Path] | None, typer.Option(help="a folder of records; may be repeated", show_default="leaderboard/records")
]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON for a script")]


class Format(StrEnum):
    plain = "plain"
    github = "github"
    latex = "latex"
    csv = "csv"
    json = "json"


def example(command: str) -> dict[str, Any]:
    return {"epilog": f"Example: bench {command}"}


@app.command(**example("run tasks/smoke.toml baselines/muon/muon.toml --budget 0.5x --budget 1x --seed 0 --seed 1"))
def run(
    task: TaskPath,
    entry: EntryPath,
    budget: Annotated[list[str] | None, typer.Option(help="a rung of the task's ladder; may be repeated")] = None,
    seed: Annotated[list[int] | None, typer.Option(min=0, max=2**32 - 1, help="may be repeated")] = None,
    mode: Annotated[str, typer.Option(help="a mode of bench/quantize/modes")] = "bf16",
    values: Annotated[Path | None, typer.Option(help="TOML of hyperparameters to set by hand")] = None,
    records: Annotated[Path, typer.Option(help="where records go")] = RUNS / "records",
    checkpoint_seconds: Annotated[float, typer.Option(help="least time between two checkpoints")] = 30.0,
    again: Annotated[bool, typer.Option("--again", help="make runs anew that have a record")] = False,
    as_json: AsJson = False,
) -> None:
    """Train a task with an entry: one record for each budget and seed. Killed, it goes on where it was."""
    from bench.mode import read_mode
    from bench.overrides import read_values

    definition, found = read_task(task), Entry(entry)
    read_mode(mode)
    chosen = found.values(read_values(values) if values else {})
    rungs = [parse_rung(name, definition, str(task)) for name in budget or ["1x"]]

    from bench.assemble import Request
    from bench.display import watch_run
    from bench.record import read_record
    from bench.run import Places
    from bench.run import run as make

    places = Places(data_folder(), RUNS / "work", records)
    for one_seed in seed or [0]:
        for rung in rungs:
            request = Request(task.stem, definition, found, chosen, mode, rung, "declared", one_seed)
            title = f"{task.stem} {found.name} {rung_name(rung)} seed {one_seed}"
            try:
                with watch_run(title, err) as watch:
                    path = make(request, places, watch, checkpoint_seconds, again)
            except KeyboardInterrupt:
                err.print("stopped: the same command goes on from the last checkpoint")
                raise
            record = read_record(path)
            if as_json:
                print(json.dumps({"record": str(path), "outcome": record.outcome, "score_loss": record.score_loss}))
            else:
                print(f"{title}: {_ending(record)}  {path}")


def _ending(record: Any) -> str:
    if record.outcome != "finished":
        return f"{record.outcome}: {record.cause}"
    rate = record.tokens / record.cost.train_seconds if record.cost.train_seconds else 0
    memory = f", {record.cost.peak_memory_bytes / 2**20:,.0f} MiB" if record.cost.peak_memory_bytes else ""
    return f"loss {record.score_loss:.4f} ({rate:,.0f} tokens/s{memory})"


@app.command(**example("replay leaderboard/records/nano/declared/<run_id>.json --steps 100"))
def replay(
    record: Annotated[Path, typer.Argument(help="a record", show_default=False)],
    steps: Annotated[int | None, typer.Option(help="only the first so many; all by default")] = None,
    keep_weights: Annotated[
        Path | None, typer.Option(help="folder to export the evaluated weights to; they must match the record")
    ] = None,
    tasks: Annotated[Path, typer.Option(help="folder of tasks")] = Path("tasks"),
    baselines: Annotated[Path, typer.Option(help="folder of algorithms")] = Path("baselines"),
    as_json: AsJson = False,
) -> None:
    """Make a record's run again and say: identical, within band, or different and where first. Exit 1 if different."""
    from bench.record import read_record

    inputs = read_record(record).inputs
    definition = read_task(tasks / f"{inputs.task}.toml")
    paths = sorted(baselines.glob(f"*/{inputs.entry}.toml"))
    if not paths:
        raise BenchError(f"{record}: no entry {inputs.entry} in {baselines}", "name its folder with --baselines")

    from bench.display import watch_run
    from bench.replay import replay as make_again
    from bench.run import Places

    with watch_run(f"replay {inputs.task} {inputs.entry}", err) as watch:
        places = Places(data_folder(), RUNS / "work", RUNS / "records")
        result = make_again(record, definition, Entry(paths[0]), places, watch, steps, keep_weights)
    if as_json:
        print(json.dumps(asdict(result), default=str))
    else:
        where = "" if result.first_difference is None else f", first at step {result.first_difference}"
        gap = "" if result.verdict == "identical" else f" (gap {result.largest_gap:.2g} nats{where})"
        print(f"{result.verdict} over {result.steps} steps{gap}")
        if result.differing:
            print(f"  not given again: {', '.join(result.differing)}")
        for note in result.notes:
            print(f"  {note}")
    raise typer.Exit(1 if result.verdict == "different" else 0)


@app.command(**example("data tasks/nano.toml"))
def data(task: TaskPath, as_json: AsJson = False) -> None:
    """Prepare a task's tokens, once; what is there and whole is left as it is."""
    from bench.data.tokens import prepare

    definition = read_task(task)
    with err.status(f"{task.stem}: preparing") as status:
        sets = prepare(definition.data, definition.model.vocabulary, data_folder(), status.update)
    if as_json:
        print(json.dumps({split: {"tokens": len(tokens), "digest": tokens.digest} for split, tokens in sets.items()}))
        return
    for split, tokens in sets.items():
        print(f"{split:8}{len(tokens):>14,} tokens  {tokens.digest[:16]}")


@app.command(**example("task tasks/nano.toml"))
def task(task: TaskPath, as_json: AsJson = False) -> None:
    """Print what a task costs: parameters, tokens, steps and operations of every rung, and the floor of the loss."""
    from bench.forecast import forecast, render_forecast

    facts = forecast(task.stem, read_task(task))
    print(json.dumps(facts) if as_json else render_forecast(facts))


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


@app.command(**example("lint tasks baselines leaderboard/records"))
def lint(
    paths: Annotated[list[Path] | None, typer.Argument(help="files or folders; all by default")] = None,
) -> None:
    """Load and validate tasks, entries and records, and say what each would cost. Exit 2 at the first mistake."""
    from bench.lint import lint_paths

    for line in lint_paths(paths or [Path("tasks"), Path("baselines"), PUBLISHED / "records"]):
        print(line)


def main() -> None:
    """Run a verb; a user's mistake is printed without a traceback (exit 2). Typer ends at Ctrl-C with 130."""
    try:
        app()
    except BenchError as error:
        err.print(f"error: {error}", markup=False, highlight=False, soft_wrap=True)
        sys.exit(2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # whoever read our output has seen enough
    except OSError as error:
        err.print(f"error: {error.filename or 'the system'}: {error.strerror or error}", markup=False, highlight=False)
        sys.exit(2)
