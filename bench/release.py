"""Releases: what the board said on a day, in a folder that is never rewritten and can be made again byte for byte.

leaderboard/releases/<version>/ holds release.json, which lists by digest all that the boards were computed from, and
each board as JSON and CSV in full precision. Made again from those records and ledgers by the same source it is equal.
"""

import json
import platform
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

from pydantic import Field

from bench.digest import digest_of_bytes, digest_of_sources
from bench.errors import BenchError
from bench.ledger import Study
from bench.record import Digest, Record, seal, write_atomically
from bench.score.board import Board
from bench.score.export import board_facts, csv_text
from bench.score.search import Search
from bench.score.wording import bounded
from bench.spec import Spec, parse_json, read_text, validate
from bench.task import Task
from bench.timings import Timing

SCHEMA = 1
NAME = "release.json"
VERSION = re.compile(r"\d{1,4}(\.\d{1,4}){0,2}")
READ = (
    "children", "digest", "domains", "entry", "errors", "index", "ledger", "memory", "mode", "passes", "plan", "record",
    "spec", "task", "timings", "trials", "tuning",
)  # fmt: skip  # what the code that scores imports, and what that does: facts come through them
LOCKED = ("numpy", "scipy")  # beside Python: what a board's figures rest on
Boards = Mapping[str, tuple[Board, list[Search]]]  # by file name, without its ending


@dataclass(frozen=True)
class Ground:
    """All that boards are computed from."""

    records: tuple[Record, ...]
    studies: Mapping[str, list[Study]]  # by task
    timings: Mapping[str, list[Timing]]  # by task
    tasks: Mapping[str, Task]


class Release(Spec):
    schema_version: int = Field(alias="schema")
    version: str
    before: str | None  # the release that this one follows
    why: tuple[str, ...]  # by the maintainers, a paragraph each
    what: tuple[str, ...]  # computed: what changed since the one before
    records: dict[str, Digest]  # digest by run_id
    ledgers: dict[str, Digest | None]  # digest of the last line, by the plan's digest; null where there is none yet
    timings: tuple[Digest, ...]
    tasks: dict[str, Digest]
    source: Digest  # of the code that computes boards
    lock: dict[str, str]  # versions of what it rests on
    files: dict[str, Digest]  # of everything beside this file
    digest: Digest  # of all of the above


def source_digest() -> str:
    """Return the digest of the code that a board is computed by: prose left out."""
    folder = Path(__file__).parent
    paths = sorted([*folder.glob("score/*.py"), *(folder / f"{name}.py" for name in READ)])
    return digest_of_sources({path.relative_to(folder).as_posix(): path for path in paths})


def lock() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: version_of(name) for name in LOCKED}}


def files_of(
    version: str, before: str | None, why: Sequence[str], folder: Path, ground: Ground, boards: Boards
) -> dict[str, bytes]:
    """Return every file of a release by its path: each board as JSON and CSV, then release.json, which lists them."""
    files = {}
    for name, (board, searches) in sorted(boards.items()):
        facts = board_facts(board, ground.tasks[board.task], searches)
        files[f"boards/{name}.json"] = (json.dumps(facts, indent=1, allow_nan=False) + "\n").encode()
        files[f"boards/{name}.csv"] = csv_text(board).encode()
    held = {record.run_id: record.digest for record in sorted(ground.records, key=lambda record: record.run_id)}
    facts = {
        "schema": SCHEMA,
        "version": version,
        "before": before,
        "why": list(why),
        "what": changes(read_release(folder / before) if before else None, folder, held, boards),
        "records": held,
        "ledgers": ledgers_of(ground.studies),
        "timings": sorted(timing.digest for timings in ground.timings.values() for timing in timings),
        "tasks": {board.task: ground.tasks[board.task].digest for board, _ in boards.values()},
        "source": source_digest(),
        "lock": lock(),
        "files": {path: digest_of_bytes(data) for path, data in files.items()},
    }
    return {**files, NAME: (json.dumps(seal(facts), indent=1, allow_nan=False) + "\n").encode()}


def make_release(version: str, why: Sequence[str], folder: Path, ground: Ground, boards: Boards) -> Path:
    """Write a release into its own folder below `folder` and return where; one that is there is never rewritten."""
    if not VERSION.fullmatch(version):
        raise BenchError(f"{version!r} is no version of a release", "numbers with dots are taken: 1.0")
    if not boards:
        raise BenchError("no board can be made yet, so there is nothing to release", "bench score says what is missing")
    home, before = folder / version, latest(folder)
    if home.exists():
        raise BenchError(f"{home}: a release is never rewritten", f"the newest is {before}; give the next version")
    if before is not None and _order(version) < _order(before):
        raise BenchError(f"release {version} would come before {before}", "versions rise")
    if not why:
        raise BenchError(f"release {version}: nothing says why it is made", "give a paragraph or more: --why")
    draft = folder / f".{version}.partial"
    shutil.rmtree(draft, ignore_errors=True)  # of one that was killed
    for path, data in files_of(version, before, why, folder, ground, boards).items():
        write_atomically(draft / path, data)
    return draft.rename(home)  # whole or not at all


def differences(release: Release, home: Path, made: Mapping[str, bytes]) -> list[str]:
    """Return how a release made again differs from the one in its folder, in words; nothing where no byte differs."""
    wrong = [name for name in sorted({*made, *release.files, NAME})
             if made.get(name) != ((home / name).read_bytes() if (home / name).is_file() else None)]  # fmt: skip
    why = [f"{name} was {release.lock.get(name)} and is {now}" for name, now in lock().items()
           if release.lock.get(name) != now]  # fmt: skip
    if release.source != source_digest():
        why.append("the code that computes boards has changed since: check out the commit that added the release")
    return [f"{', '.join(wrong)}: not as released", *why] if wrong else []


def ledgers_of(studies: Mapping[str, Sequence[Study]]) -> dict[str, str | None]:
    return {study.plan.digest: study.trials[-1].digest if study.trials else None
            for _, found in sorted(studies.items()) for study in found}  # fmt: skip


def releases(folder: Path) -> list[str]:
    """Return the versions that are there, oldest first."""
    names = [path.parent.name for path in folder.glob(f"*/{NAME}")]
    return sorted((name for name in names if VERSION.fullmatch(name)), key=_order)


def latest(folder: Path) -> str | None:
    return next(reversed(releases(folder)), None)


def _order(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def read_release(home: Path) -> Release:
    """Return a release whose digests were checked, its own and those of its files."""
    path = home / NAME
    table = parse_json(read_text(path), str(path))
    release = validate(table, Release, str(path))
    if seal(dict(table))["digest"] != release.digest:
        raise BenchError(f"{path}: it was changed after it was written", "restore it from version control")
    there = {file.relative_to(home).as_posix() for file in home.rglob("*") if file.is_file()} - {NAME}
    for name in sorted(there ^ set(release.files)):
        raise BenchError(f"{home / name}: {'not part of' if name in there else 'missing from'} release {home.name}")
    for name, digest in release.files.items():
        if digest_of_bytes((home / name).read_bytes()) != digest:
            raise BenchError(f"{home / name}: it was changed after the release", "restore it from version control")
    return release


def at_release(release: Release, now: Ground) -> Ground:
    """Return what a release was made from: what was added since is left out, what is gone or changed is refused."""
    there = {record.run_id: record for record in now.records}
    for run_id, digest in release.records.items():
        if run_id not in there or there[run_id].digest != digest:
            raise BenchError(f"release {release.version}: its record {run_id[:16]} is not here as it was")
    timed = {timing.digest for timings in now.timings.values() for timing in timings}
    for digest in release.timings:
        if digest not in timed:
            raise BenchError(f"release {release.version}: its timing {digest[:16]} is not here as it was")
    kept: dict[str, list[Study]] = {}
    found = set()
    for task, mine in now.studies.items():
        known = [study for study in mine if study.plan.digest in release.ledgers]
        kept[task] = [_cut(study, release.ledgers[study.plan.digest], release.version) for study in known]
        found |= {study.plan.digest for study in known}
    for plan in sorted(set(release.ledgers) - found):
        raise BenchError(f"release {release.version}: its plan {plan[:16]} is not here")
    timings = {task: [timing for timing in mine if timing.digest in release.timings]
               for task, mine in now.timings.items()}  # fmt: skip
    return Ground(tuple(there[run_id] for run_id in sorted(release.records)), kept, timings, now.tasks)


def _cut(study: Study, last: str | None, version: str) -> Study:
    ends = [None, *(trial.digest for trial in study.trials)]
    if last not in ends:
        raise BenchError(f"release {version}: the ledger of {study.plan.entry} is not the one it was made from")
    return replace(study, trials=study.trials[: ends.index(last)])


def changes(old: Release | None, folder: Path, records: Mapping[str, str], boards: Boards) -> list[str]:
    """Say what differs from the release before: records, boards, entries and figures."""
    if old is None:
        return [f"The first release: {len(records)} records, {len(boards)} boards."]
    new, gone = set(records) - set(old.records), set(old.records) - set(records)
    said = [f"{len(new)} new records, {len(gone)} gone, {len(records)} in all."]
    for name, (board, _) in sorted(boards.items()):
        path = folder / old.version / "boards" / f"{name}.json"
        if not path.exists():
            said.append(f"{name}: a new board.")
            continue
        before = figures(parse_json(read_text(path), str(path)))
        now = {
            row.entry: {budget: _said(found.figure, found.bound) for budget, found in row.speedups.items()}
            for row in board.rows
        }
        said += [f"{name}: {line}" for line in _moved(before, now)]
    gone = {Path(path).stem for path in old.files if path.startswith("boards/")} - set(boards)
    return said + [f"{name}: this board is gone." for name in sorted(gone)]


def figures(facts: Any) -> dict[str, dict[float, str]]:
    """Return the speedups, or their bounds, of a board's JSON, by entry and budget, in words."""
    return {
        row["entry"]: {
            rung["budget"]: _said(found["limit"] if found["value"] is None else found["value"], found["bound"])
            for rung in row["rungs"]
            if (found := rung["speedup"]) is not None
        }
        for row in facts["rows"]
    }


def _said(figure: float, bound: str) -> str:
    return f"{'' if bound == '=' else f'{bound} '}{bounded(figure, bound)}×"


def _moved(before: Mapping[str, Mapping[float, str]], now: Mapping[str, Mapping[float, str]]) -> list[str]:
    said = []
    for word, names in (("new", sorted(set(now) - set(before))), ("gone", sorted(set(before) - set(now)))):
        if names:
            said.append(f"{word}: {', '.join(names)}.")
    for entry in sorted(set(before) & set(now)):
        for budget in sorted(set(before[entry]) | set(now[entry])):
            was, is_ = before[entry].get(budget, "nothing"), now[entry].get(budget, "nothing")
            if was != is_:
                said.append(f"{entry} at {budget:g}x went from {was} to {is_}.")
    return said
