"""The app that all verbs belong to, and the arguments that several of them take."""

import os
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

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


def _say_version(asked: bool) -> None:
    if asked:
        print(f"isoloss {version('isoloss')}")
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[bool, typer.Option("--version", help="say which version this is", callback=_say_version)] = False,
) -> None:
    """What comes before a verb."""


def speaks() -> bool:
    """Return whether this process prints what several ranks would print alike."""
    return not is_rank() or os.environ.get("RANK") == "0"


def is_rank() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ


def example(command: str) -> dict[str, Any]:
    return {"epilog": f"Example: bench {command}"}
