"""Verbs about what is there before a run: task, data, lint."""

import json
from pathlib import Path
from typing import Annotated

import typer

from bench.cli.app import AsJson, TaskPath, app, err, example
from bench.places import PUBLISHED, data_folder
from bench.task import read_task


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


@app.command(**example("lint tasks baselines leaderboard/records"))
def lint(
    paths: Annotated[list[Path] | None, typer.Argument(help="files or folders; all by default")] = None,
) -> None:
    """Load and validate tasks, entries and records, and say what each would cost. Exit 2 at the first mistake."""
    from bench.lint import lint_paths

    for line in lint_paths(paths or [Path("tasks"), Path("baselines"), PUBLISHED / "records"]):
        print(line)
