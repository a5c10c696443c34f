"""The light facts of many records, each read and checked once, then remembered until its file changes.

The cache is one file per set of folders: a line with the sha256 of the rest, then JSON. It is only ever a shortcut:
one that is damaged, of another version, or cannot be written changes nothing but the time.
"""

import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from bench.digest import digest_of, digest_of_bytes
from bench.errors import BenchError
from bench.record import Record, is_record_name, read_record, write_atomically

VERSION = 3  # to be raised when a row's meaning changes; a change of its fields is noticed anyway


class IndexRow(NamedTuple):
    """What scoring and listings need of a record; see bench.record for the words."""

    run_id: str
    path: str
    task: str
    task_digest: str
    entry: str
    entry_digest: str
    values_digest: str
    mode: str
    mode_digest: str
    budget: float
    track: str
    seed: int
    machine_kind: str
    harness: str
    outcome: str
    cause: str | None
    tokens: int
    charged_tokens: float
    select_loss: float | None
    score_loss: float | None
    train_seconds: float
    token_seconds: float | None  # of a median step, which no pause moves, over a step's tokens; none of a stand-in
    made: str
    plan: str | None
    epochs: float  # passes over the training text
    step_size: float | None = None  # root mean square of a step in hidden matrices, mean over milestones
    stand_in: str | None = None  # the processor, where it counts as another that it was shown to give the bits of

    @property
    def finished(self) -> bool:
        return self.outcome == "finished"


Known = dict[str, tuple[int, int, IndexRow]]  # by path: size, mtime_ns, row


def _token_seconds(record: Record) -> float | None:
    step = record.cost.step_seconds
    stands_in = record.machine.stands_for is not None  # it gives another's bits, not another's seconds
    return step * record.steps / record.tokens if step and record.tokens and not stands_in else None


def rows_by_task(records: Iterable[Record]) -> dict[str, list[IndexRow]]:
    """Return what scoring needs of records that lie nowhere, or whose places are of no matter."""
    rows: dict[str, list[IndexRow]] = {}
    for record in records:
        rows.setdefault(record.task, []).append(index_row(record, f"{record.run_id}.json"))
    return rows


def index_row(record: Record, path: str) -> IndexRow:
    inputs = record.inputs
    return IndexRow(
        run_id=record.run_id,
        path=path,
        task=inputs.task,
        task_digest=inputs.task_digest,
        entry=inputs.entry,
        entry_digest=inputs.entry_digest,
        values_digest=digest_of(inputs.values),
        mode=inputs.mode,
        mode_digest=inputs.mode_digest,
        budget=inputs.budget,
        track=inputs.track,
        seed=inputs.seed,
        machine_kind=inputs.machine_kind,
        harness=inputs.harness,
        outcome=record.outcome,
        cause=record.cause,
        tokens=record.tokens,
        charged_tokens=record.charged_tokens,
        select_loss=record.select_loss,
        score_loss=record.score_loss,
        train_seconds=record.cost.train_seconds,
        token_seconds=_token_seconds(record),
        made=record.made,
        plan=record.plan,
        epochs=record.facts.epochs,
        step_size=record.facts.update_rms.get("hidden"),
        stand_in=record.machine.processor if record.machine.stands_for else None,
    )


def load_index(folders: list[Path], cache: Path | None) -> list[IndexRow]:
    """Return a row for every record below the folders, by path; a record that does not hold up is refused.

    The cache is a folder, or None to read everything anew.
    """
    roots = sorted({os.path.abspath(folder) for folder in folders})
    found = {path: facts for root in roots for path, *facts in _files(root)}
    store = None if cache is None else cache / f"index-{digest_of(roots)[:16]}.json"
    known = {} if store is None else _read_cache(store)
    fresh: Known = {}
    refused: list[BenchError] = []
    changed = len(known) != len(found)
    for path, (size, mtime_ns) in found.items():
        old = known.get(path)
        if old is not None and old[:2] == (size, mtime_ns):
            fresh[path] = old
            continue
        changed = True
        try:
            fresh[path] = (size, mtime_ns, index_row(read_record(Path(path)), path))
        except BenchError as error:
            refused.append(error)
    if store is not None and changed:
        _write_cache(store, fresh)  # before any refusal, so that the good ones are not read again
    if refused:
        more = f" (and {len(refused) - 1} more records are refused)" if len(refused) > 1 else ""
        raise BenchError(refused[0].what + more, refused[0].hint)
    return [fresh[path][2] for path in sorted(fresh)]


def _files(root: str) -> Iterator[tuple[str, int, int]]:
    """Yield path, size and mtime of the records that bench.record.find_records finds, at one stat each."""
    if not os.path.isdir(root):
        raise BenchError(f"{root}: no such folder of records")
    pending = [root]
    while pending:
        with os.scandir(pending.pop()) as items:
            for item in items:
                if item.is_dir(follow_symlinks=False):
                    pending.append(item.path)
                elif is_record_name(item.name) and item.is_file():
                    status = item.stat()
                    yield item.path, status.st_size, status.st_mtime_ns


def _header() -> list[Any]:
    return [VERSION, *IndexRow._fields]


def _read_cache(store: Path) -> Known:
    """Return what the cache holds; nothing if it is missing, damaged or of another version."""
    try:
        digest, _, body = store.read_bytes().partition(b"\n")
        if digest.decode() != digest_of_bytes(body):
            return {}
        table = json.loads(body)
        if table["header"] != _header():
            return {}
        return {row[3]: (row[0], row[1], IndexRow._make(row[2:])) for row in table["rows"]}
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return {}


def _write_cache(store: Path, known: Known) -> None:
    rows = [[size, mtime_ns, *row] for size, mtime_ns, row in known.values()]
    body = json.dumps({"header": _header(), "rows": rows}, separators=(",", ":"), allow_nan=False).encode()
    with contextlib.suppress(OSError):  # a read-only or full folder costs time, nothing else
        write_atomically(store, digest_of_bytes(body).encode() + b"\n" + body)
