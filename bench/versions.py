"""Versions of tasks: a task that has records may change only with its version, and a version is never used twice.

A record holds its task's digest, of which the version is a part but from which it cannot be read. So every version that
has published records is written down with its digest, once, beside them: leaderboard/versions.json, {task: {version:
digest}}. Nothing here asks version control, which a shallow clone does not have.
"""

import json
from collections.abc import Collection, Mapping
from pathlib import Path

from bench.errors import BenchError
from bench.places import PUBLISHED
from bench.record import write_atomically
from bench.spec import parse_json, read_text
from bench.task import Task

NAME = "versions.json"
Pins = Mapping[str, Mapping[str, str]]  # task -> version -> digest


def pins_of_task(task_path: Path) -> Path:
    """Return where the versions of a task file are written down: in the leaderboard beside its folder."""
    return task_path.resolve().parents[1] / PUBLISHED / NAME


def pins_of_record(record_path: Path) -> Path | None:
    """Return the versions that govern a record: those in the nearest folder above it, or None for a user's own."""
    return next((up / NAME for up in record_path.resolve().parents if (up / NAME).is_file()), None)


def read_pins(path: Path) -> dict[str, dict[str, str]]:
    """Return what is written down, or nothing where there is no file."""
    if not path.exists():
        return {}
    table = parse_json(read_text(path), str(path))
    whole = isinstance(table, dict) and all(
        isinstance(versions, dict) and all(v.isdigit() and isinstance(digest, str) for v, digest in versions.items())
        for versions in table.values()
    )
    if not whole:
        raise BenchError(f"{path}: must be {{task: {{version: digest}}}}", "restore it from version control")
    return dict(table)


def check_task(name: str, task: Task, pins: Pins) -> None:
    """Raise BenchError where the task's facts or its version contradict a version that has records."""
    known = pins.get(name, {})
    newest = max(map(int, known), default=0)
    if task.version < newest:
        raise BenchError(
            f"{name}: version {task.version} is older than version {newest}, which has records",
            f"a number is not used again: raise version to {newest + 1}",
        )
    if known.get(str(task.version), task.digest) != task.digest:
        raise BenchError(
            f"{name}: the task was changed, and version {task.version} has records of the task as it was",
            f"raise version to {newest + 1}, or take the change back",
        )


def check_record(name: str, digest: str, pins: Pins) -> None:
    """Raise BenchError for a record of a task version that is not written down."""
    if digest not in pins.get(name, {}).values():
        raise BenchError(
            f"a record of a version of {name} that is not written down (digest {digest[:12]})",
            f"with the task as it was run: bench task tasks/{name}.toml --pin",
        )


def check_published(name: str, task: Task, digests: Collection[str], pins: Pins) -> None:
    """Raise BenchError unless the task and the digests of its records fit the versions that are written down."""
    check_task(name, task, pins)
    for digest in sorted(digests):
        check_record(name, digest, pins)


def pin_version(task_path: Path, task: Task, leaderboard: Path | None = None) -> Path:
    """Write down the task's version before its first records are published, and return where; never over another."""
    path, name = leaderboard / NAME if leaderboard else pins_of_task(task_path), task_path.stem
    if not path.parent.is_dir():
        raise BenchError(f"{path.parent}: no such folder", "versions are written down where records are published")
    pins = read_pins(path)
    check_task(name, task, pins)
    if str(task.version) in pins.get(name, {}):
        return path
    versions = {**pins.get(name, {}), str(task.version): task.digest}
    pins = {**pins, name: dict(sorted(versions.items(), key=lambda item: int(item[0])))}
    write_atomically(path, (json.dumps(dict(sorted(pins.items())), indent=1) + "\n").encode())
    return path
