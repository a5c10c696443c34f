"""Releases as their pages show them: what changed and why, and each board as it was on the day."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from bench.findings import Section, sections
from bench.mode import FLOAT
from bench.record import Track
from bench.release import FINDINGS, Release, read_release, releases
from bench.score.speedup import Speedup
from bench.spec import parse_json, read_text

TRACKS = get_args(Track)  # the leading one first


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
class ReleasedModes:
    """What modes cost each entry at the lowest budget that all of them have: nats above its float loss."""

    task: str
    track: str
    budget: float
    modes: tuple[str, ...]
    lines: tuple[tuple[str, tuple[float | None, ...]], ...]  # an entry, and its degradation in each mode


@dataclass(frozen=True)
class ReleaseView:
    release: Release
    folder: str  # as a clone's root sees it
    findings: tuple[Section, ...]
    boards: tuple[ReleasedBoard, ...]
    tables: tuple[ReleasedModes, ...]


def read_releases(folder: Path) -> list[ReleaseView]:
    """Return all releases, the newest first."""
    return [release_view(folder, version) for version in reversed(releases(folder))]


def release_view(folder: Path, version: str) -> ReleaseView:
    release = read_release(folder / version)

    def read(part: str) -> Iterator[tuple[str, Any]]:
        for name in release.files:
            if name.startswith(part) and name.endswith(".json"):
                yield Path(name).stem, parse_json(read_text(folder / version / name), name)

    text = read_text(folder / version / FINDINGS) if FINDINGS in release.files else ""
    boards = sorted((_board(name, facts) for name, facts in read("boards/")), key=_leading_first)
    tables = sorted(
        (_modes(facts) for _, facts in read("modes/") if any(facts["modes"].values())),
        key=lambda one: (one.task, TRACKS.index(one.track)),
    )
    return ReleaseView(release, f"leaderboard/releases/{version}", sections(text), tuple(boards), tuple(tables))


def _leading_first(board: ReleasedBoard) -> tuple[str, bool, str, int]:
    return board.task, board.mode != FLOAT, board.mode, TRACKS.index(board.track)


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


def _modes(facts: Any) -> ReleasedModes:
    found = {(row["entry"], row["budget"], mode): row["degradation"]["value"]
             for mode, rows in facts["modes"].items() for row in rows}  # fmt: skip
    budgets: dict[str, set[float]] = {}
    for entry, budget, _ in found:
        budgets.setdefault(entry, set()).add(budget)
    common = set[float].intersection(*budgets.values()) or set[float].union(*budgets.values())
    budget, modes = min(common), tuple(facts["modes"])
    lines = tuple((entry, tuple(found.get((entry, budget, mode)) for mode in modes)) for entry in sorted(budgets))
    return ReleasedModes(facts["task"], facts["track"], budget, modes, lines)
