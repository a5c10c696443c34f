"""Verbs about what is there before a run: task, entries, data, lint."""

import json
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.cli.app import AsJson, Format, TaskPath, app, err, example
from bench.errors import BenchError
from bench.forecast import MFU, Purchase, forecast, render_forecast
from bench.places import PUBLISHED, data_folder
from bench.task import read_task, rung_name

DEFAULTS = (Path("tasks"), Path("baselines"), PUBLISHED)  # what lint looks at


@app.command(**example("data tasks/nano.toml"))
def data(task: TaskPath, as_json: AsJson = False) -> None:
    """Prepare a task's tokens, once; what is there and whole is left as it is, and what a kill left is gone on with."""
    from bench.data.sequences import Sequences
    from bench.data.tokens import prepare

    definition = read_task(task)
    note = partial(err.print, markup=False, highlight=False, soft_wrap=True)
    with err.status(f"{task.stem}: preparing") as status:
        sets = prepare(definition.data, definition.model.vocabulary, data_folder(), status.update, note)
    context, rung = definition.training.context, definition.budget.rungs[-1]
    passes = definition.tokens(rung) / (len(Sequences(sets["train"], context)) * context)
    if as_json:
        facts: dict[str, dict[str, Any]] = {
            split: {"tokens": len(tokens), "documents": tokens.facts.documents, "digest": tokens.digest}
            for split, tokens in sets.items()
        }
        facts["train"]["passes"] = passes
        print(json.dumps(facts))
        return
    for split, tokens in sets.items():
        print(f"{split:8}{len(tokens):>16,} tokens {tokens.facts.documents:>12,} documents  {tokens.digest[:16]}")
    repeated = "so the text is repeated" if passes > 1 else "nothing is repeated"
    print(f"{rung_name(rung)}, the largest rung, makes {passes:.3g} passes over train: {repeated}")


@app.command(**example("task tasks/gpt2-124m.toml --device h100 --devices 8 --price 2.5"))
def task(
    task: TaskPath,
    device: Annotated[str | None, typer.Option(help="what to train on, as h100; without it no hours")] = None,
    devices: Annotated[int, typer.Option(min=1, help="how many of them")] = 1,
    price: Annotated[float | None, typer.Option(min=0, help="of a device for an hour; without it no cost")] = None,
    mfu: Annotated[float, typer.Option(help="share of the device's peak that training reaches; assumed")] = MFU,
    micro_batch: Annotated[int | None, typer.Option(min=1, help="sequences of a forward pass; the task's")] = None,
    pin: Annotated[bool, typer.Option("--pin", help="before publishing: note this version's digest")] = False,
    as_json: AsJson = False,
) -> None:
    """Print what a task costs: tokens, operations, memory, and on a named device hours and cost, of every rung."""
    from bench.versions import pin_version

    definition = read_task(task)
    facts = forecast(task.stem, definition, Purchase(device, devices, price, mfu, micro_batch))
    if pin:
        err.print(f"pinned in {pin_version(task, definition)}", markup=False, highlight=False, soft_wrap=True)
    print(json.dumps(facts) if as_json else render_forecast(facts))


@app.command(**example("entries baselines --format github"))
def entries(
    path: Annotated[Path, typer.Argument(help="an entry, or a folder of them")] = Path("baselines"),
    task: Annotated[Path, typer.Option(help="whose shapes the state is measured on")] = Path("tasks/nano.toml"),
    output: Annotated[Format, typer.Option("--format", help="of the table")] = Format.plain,
) -> None:
    """List entries: family, scope, state and extra passes as measured in a few steps, proof, deviations."""
    from bench.inventory import entries_at, inventory, render

    found, definition = entries_at(path), read_task(task)
    with err.status("measuring"):
        lines = inventory(found, definition)
    print(render(lines, output.value), end="")


@app.command(**example("lint tasks baselines leaderboard"))
def lint(
    paths: Annotated[list[Path] | None, typer.Argument(help="files or folders; all by default")] = None,
) -> None:
    """Load and validate tasks, entries and records, and say what each would cost. Exit 2 at the first mistake."""
    from bench.lint import lint_paths

    count = 0
    if not paths and (missing := next((path for path in DEFAULTS if not path.is_dir()), None)):
        raise BenchError(f"{missing}: no such folder", "call this from the root of a clone, or name what to look at")
    for line in lint_paths(paths or list(DEFAULTS)):
        print(line)
        count += 1
    if not count:
        raise BenchError(
            f"{', '.join(map(str, paths or DEFAULTS))}: holds nothing that is known here",
            "tasks, entries, plans, ledgers, records and releases are looked at",
        )
    print(f"{count} files hold up")
