"""Releases: what the board said on a day, in a folder that is never rewritten and can be made again byte for byte.

leaderboard/releases/<version>/ holds release.json, which lists by digest all that it was computed from, each board and
each table of modes as JSON and CSV in full precision, and the findings (bench.findings) with their figures filled in.
Made again from those records and ledgers by the same source it is equal.
"""

import platform
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

from pydantic import Field

from bench.children import Quantized
from bench.digest import digest_of, digest_of_bytes, digest_of_sources
from bench.errors import BenchError
from bench.ledger import Study
from bench.record import Digest, Record, seal
from bench.score.board import Board
from bench.score.modes import ModeTable
from bench.score.search import Search
from bench.spec import Spec, parse_json, read_text, validate
from bench.task import Task
from bench.timings import Timing

SCHEMA = 1
NAME, FINDINGS = "release.json", "findings.md"
VERSION = re.compile(r"\d{1,4}(\.\d{1,4}){0,2}")
READ = (
    "children", "digest", "domains", "entry", "errors", "index", "ledger", "memory", "mode", "passes", "plan", "record",
    "spec", "task", "timings", "trials", "tuning",
)  # fmt: skip  # what the code that scores imports, and what that does: facts come through them
MADE = ("findings", "release", "releasing", "pages/rebuild")  # what else the files of a release are made by
LOCKED = ("numpy", "scipy")  # beside Python: what a board's figures rest on
Boards = Mapping[str, tuple[Board, list[Search]]]  # by file name, without its ending


@dataclass(frozen=True)
class Kept:
    """What a release keeps of a day."""

    boards: Boards
    tables: Mapping[str, ModeTable]  # of modes, by file name, without its ending


@dataclass(frozen=True)
class Ground:
    """All that boards and tables of modes are computed from."""

    records: tuple[Record, ...]
    studies: Mapping[str, list[Study]]  # by task
    timings: Mapping[str, list[Timing]]  # by task
    tasks: Mapping[str, Task]
    quantized: Mapping[str, Quantized]  # by the record's run_id


class ModesHeld(Spec):
    """What a release rests on of a record's modes after training, which may come to be more."""

    modes: tuple[str, ...]  # that were tried
    crossings: tuple[tuple[float, tuple[str, ...]], ...]  # common losses, and the modes that were tried at each
    digest: Digest  # of what those say


class Release(Spec):
    schema_version: int = Field(alias="schema")
    version: str
    before: str | None  # the release that this one follows
    why: tuple[str, ...]  # by the maintainers, a paragraph each
    what: tuple[str, ...]  # computed: what changed since the one before
    findings: str | None  # by the maintainers, with figures named; filled in, they are a file of their own
    records: dict[str, Digest]  # digest by run_id
    quantized: dict[str, ModesHeld]  # by run_id
    ledgers: dict[str, Digest | None]  # digest of the last line, by the plan's digest; null where there is none yet
    timings: tuple[Digest, ...]
    tasks: dict[str, Digest]
    source: Digest  # of the code that computes boards
    lock: dict[str, str]  # versions of what it rests on
    files: dict[str, Digest]  # of everything beside this file
    digest: Digest  # of all of the above


def source_digest() -> str:
    """Return the digest of the code that a release is computed by: prose left out."""
    folder = Path(__file__).parent
    paths = sorted([*folder.glob("score/*.py"), *(folder / f"{name}.py" for name in (*READ, *MADE))])
    return digest_of_sources({path.relative_to(folder).as_posix(): path for path in paths})


def lock() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: version_of(name) for name in LOCKED}}


def modes_held(child: Quantized) -> ModesHeld:
    """Return a child record by what it says now."""
    said = {name: part.model_dump(mode="json") for name, part in (child.modes | child.failed).items()}
    there = [crossing.model_dump(mode="json") for crossing in child.crossings]
    crossings = tuple((crossing.threshold, tuple(sorted(crossing.modes))) for crossing in child.crossings)
    digest = digest_of([child.weights, said, there])
    return ModesHeld(modes=tuple(sorted(child.mode_digests)), crossings=crossings, digest=digest)


def releases(folder: Path) -> list[str]:
    """Return the versions that are there, oldest first."""
    names = [path.parent.name for path in folder.glob(f"*/{NAME}")]
    return sorted((name for name in names if VERSION.fullmatch(name)), key=order)


def latest(folder: Path) -> str | None:
    return next(reversed(releases(folder)), None)


def order(version: str) -> tuple[int, ...]:
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
    children = {run_id: _as_then(release, run_id, now.quantized.get(run_id)) for run_id in release.quantized}
    return Ground(tuple(there[run_id] for run_id in sorted(release.records)), kept, timings, now.tasks, children)


def _named(found: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {name: part for name, part in found.items() if name in names}


def _as_then(release: Release, run_id: str, now: Quantized | None) -> Quantized:
    """Return a child record without what was measured after the release."""
    then = release.quantized[run_id]
    if now is not None:
        modes, failed = (_named(mine, then.modes) for mine in (now.modes, now.failed))
        crossings = tuple(crossing.model_copy(update={"modes": _named(crossing.modes, names)})
                          for crossing in now.crossings
                          if (names := dict(then.crossings).get(crossing.threshold)) is not None)  # fmt: skip
        kept = now.model_copy(update={"modes": modes, "failed": failed, "crossings": crossings})
        if modes_held(kept) == then:
            return kept
    raise BenchError(f"release {release.version}: what rounding did to {run_id[:16]} is not here as it was")


def _cut(study: Study, last: str | None, version: str) -> Study:
    ends = [None, *(trial.digest for trial in study.trials)]
    if last not in ends:
        raise BenchError(f"release {version}: the ledger of {study.plan.entry} is not the one it was made from")
    return replace(study, trials=study.trials[: ends.index(last)])
