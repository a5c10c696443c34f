"""Releases as their pages show them: what changed and why, and each board as it was on the day."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.release import Release, read_release, releases
from bench.score.speedup import Speedup
from bench.spec import parse_json, read_text


@dataclass(frozen=True)
class Released:
    """One entry at the budget that its board is read at."""

    entry: str
    budget: float
    speedup: Speedup | None
    loss: float | None
    letters: str


@dataclass(frozen=True)
class ReleasedBoard:
    name: str
    task: str
    mode: str
    track: str
    lines: tuple[Released, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class ReleaseView:
    release: Release
    folder: str  # as a clone's root sees it
    boards: tuple[ReleasedBoard, ...]


def read_releases(folder: Path) -> list[ReleaseView]:
    """Return all releases, the newest first."""
    return [release_view(folder, version) for version in reversed(releases(folder))]


def release_view(folder: Path, version: str) -> ReleaseView:
    release = read_release(folder / version)
    names = [name for name in release.files if name.endswith(".json")]
    boards = tuple(_board(Path(name).stem, parse_json(read_text(folder / version / name), name)) for name in names)
    return ReleaseView(release, f"leaderboard/releases/{version}", boards)


def _board(name: str, facts: Any) -> ReleasedBoard:
    common = facts["headline_budget"]
    lines = [_line(row, common) for row in facts["rows"] if row["rungs"]]
    return ReleasedBoard(name, facts["task"], facts["mode"], facts["track"], tuple(lines), tuple(facts["notes"]))


def _line(row: Any, common: float | None) -> Released:
    """Return the row at the common budget, or at its own largest with a speedup."""
    read = [rung for rung in row["rungs"] if rung["speedup"]] or row["rungs"]
    rung = next((rung for rung in read if rung["budget"] == common), read[-1])
    names = ("value", "bound", "low", "high", "fit", "reference_tokens", "limit", "no_interval", "level")
    found = Speedup(**{name: rung["speedup"][name] for name in names}) if rung["speedup"] else None
    letters = "".join(rung["standing"]["letters"]) if rung["standing"] else ""
    return Released(row["entry"], rung["budget"], found, rung["mean_loss"], letters)
