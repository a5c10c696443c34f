"""Which records a board is made of: one version of the task, one machine kind, one configuration per cell."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NoReturn

from bench.errors import BenchError
from bench.index import IndexRow
from bench.mode import read_mode
from bench.record import Track
from bench.task import rung_name

MOST_NATS = 1000.0  # no vocabulary's uniform loss is a fiftieth of it
MOST_TOKENS = 1e18
MOST_BUDGET = 1e6
Cells = dict[tuple[str, float], list[IndexRow]]  # by entry and budget; one row per seed, seeds rising


@dataclass(frozen=True)
class Selection:
    task: str
    reference_track: str
    cells: Cells
    machine_kinds: tuple[str, ...]  # the one kept first, then those left out
    notes: tuple[str, ...]  # what was left out, in words


def select(
    records: Iterable[IndexRow], task_digest: str, mode: str, track: str, reference: str, reference_track: str | None
) -> Selection:
    """Return the cells of one board; contradictions between records are refused, never settled by choosing."""
    everything = list(records)
    same = [row for row in everything if row.task_digest == task_digest]
    if not same:
        names = ", ".join(sorted({row.task for row in everything})) or "none at all"
        raise BenchError(
            "no records of this version of the task",
            f"records given: {names}; those of your own runs lie elsewhere (--records runs/records), and a task file "
            "that changed what moves a number starts a new board",
        )
    names_of_task = Counter(row.task for row in same)
    task = min(names_of_task, key=lambda name: (-names_of_task[name], name))
    notes = _other_versions(everything, task, task_digest) + _other_names(names_of_task, task)
    same, older = _of_this_mode([row for row in same if row.task == task], mode)
    notes += older
    reference_track = reference_track or _reference_track(same, mode, track, reference)
    pool = [
        row for row in same if row.mode == mode and row.track == (reference_track if row.entry == reference else track)
    ]
    if not any(row.entry == reference for row in pool):
        _refuse_without_reference(same, task, mode, reference, reference_track)
    pool, kinds, left_out = _one_machine_kind(pool, reference)
    pool, by_hand = _newest_by_hand(pool)
    rows, repeated = _one_row_per_seed(one_record_per_run(pool))
    cells: Cells = defaultdict(list)
    for row in rows:
        _check_numbers(row)
        cells[row.entry, row.budget].append(row)
    _check_configurations(cells)
    notes += left_out + by_hand + repeated + _several_harnesses(rows) + _stood_in(rows)
    return Selection(task, reference_track, dict(cells), kinds, tuple(notes))


def best_track(records: Iterable[IndexRow], task_digest: str) -> Track:
    """Return the track to show where none was asked for: tuned if it has records, else transfer, else declared."""
    there = {row.track for row in records if row.task_digest == task_digest}
    tracks: tuple[Track, ...] = ("tuned", "transfer")
    return next((track for track in tracks if track in there), "declared")


def _many(count: int) -> str:
    return f"{count} record" + "s" * (count != 1)


def _other_versions(rows: list[IndexRow], task: str, digest: str) -> list[str]:
    count = sum(row.task == task and row.task_digest != digest for row in rows)
    return [f"left out: {_many(count)} of other versions of {task}"] if count else []


def _other_names(names: Counter[str], task: str) -> list[str]:
    return [
        f"left out: {_many(count)} of the same task under the name {name}"
        for name, count in sorted(names.items())
        if name != task
    ]


def _of_this_mode(rows: list[IndexRow], mode: str) -> tuple[list[IndexRow], list[str]]:
    """Leave out what other versions of the mode trained: its file or the code that rounds has changed since."""
    digest = read_mode(mode).digest
    kept = [row for row in rows if row.mode != mode or row.mode_digest == digest]
    count = len(rows) - len(kept)
    return kept, [f"left out: {_many(count)} of other versions of the mode {mode}; bench evaluate makes them anew"] * (
        count > 0
    )


def _reference_track(rows: list[IndexRow], mode: str, track: str, reference: str) -> str:
    """Return tuned, whatever the board's track, where the reference has a rung of it: D_ref is the tuned yardstick's.

    Values set by hand, a challenge's among them, are no ladder of their own beside it.
    """
    tracks = {row.track for row in rows if row.entry == reference and row.mode == mode}
    return track if track in tracks and "tuned" not in tracks else "tuned"


def _newest_by_hand(rows: list[IndexRow]) -> tuple[list[IndexRow], list[str]]:
    """Keep what was set by hand last, an entry's code and each cell's values: they are tried one after another, and
    never ranked."""
    ordered = sorted(rows, key=lambda row: (row.made, row.run_id))
    code = {row.entry: row.entry_digest for row in ordered}
    mine = [row for row in ordered if row.track != "declared" or row.entry_digest == code[row.entry]]
    values = {(row.entry, row.budget): row.values_digest for row in mine}
    kept = [row for row in mine if row.track != "declared" or row.values_digest == values[row.entry, row.budget]]
    older = {
        "made by hand with code that changed since": len(rows) - len(mine),
        "of values set by hand before others": len(mine) - len(kept),
    }
    return kept, [f"left out: {_many(count)} {what}" for what, count in older.items() if count]


def _refuse_without_reference(rows: list[IndexRow], task: str, mode: str, reference: str, track: str) -> NoReturn:
    where = sorted({f"{row.mode}/{row.track}" for row in rows if row.entry == reference})
    raise BenchError(
        f"{task}: {reference} has no records in mode {mode}, track {track}, and speedups are read from it",
        f"it has some in {', '.join(where)}"
        if where
        else f"run {reference} at two budgets or more, or name its records too: --records leaderboard/records",
    )


def _one_machine_kind(rows: list[IndexRow], reference: str) -> tuple[list[IndexRow], tuple[str, ...], list[str]]:
    """Keep the kind with most records of the reference: losses of two kinds are not averaged."""
    ladder = Counter(row.machine_kind for row in rows if row.entry == reference)
    total = Counter(row.machine_kind for row in rows)
    kinds = sorted(total, key=lambda kind: (-ladder[kind], -total[kind], kind))
    notes = []
    for kind in kinds[1:]:
        entries = sorted({row.entry for row in rows if row.machine_kind == kind})
        notes.append(f"left out: {_many(total[kind])} made on machine kind {kind[:12]} ({', '.join(entries)})")
    return [row for row in rows if row.machine_kind == kinds[0]], tuple(kinds), notes


def _several_harnesses(rows: list[IndexRow]) -> list[str]:
    """Say so where records were made by several versions of the harness: a replay tells whether that matters."""
    counts = Counter(row.harness for row in rows)
    if len(counts) < 2:
        return []
    said = ", ".join(f"{harness[:12]} ({_many(count)})" for harness, count in counts.most_common())
    return [f"made by {len(counts)} versions of the harness: {said}"]


def _stood_in(rows: list[IndexRow]) -> list[str]:
    """Say whose records another processor made, which was shown to give the same bits (bench stand-in)."""
    notes = []
    for processor in sorted({row.stand_in for row in rows if row.stand_in}):
        mine = [row for row in rows if row.stand_in == processor]
        entries = ", ".join(sorted({row.entry for row in mine}))
        notes.append(f"{_many(len(mine))} made on {processor}, shown to give this kind's bits: {entries}")
    return notes


def one_record_per_run(rows: list[IndexRow]) -> list[IndexRow]:
    """Keep one record per run_id, a finished one first; two finished ones must agree."""
    kept: dict[str, IndexRow] = {}
    for row in sorted(rows, key=lambda row: (not row.finished, row.path)):
        first = kept.setdefault(row.run_id, row)
        if row.finished and (row.score_loss, row.charged_tokens) != (first.score_loss, first.charged_tokens):
            raise BenchError(
                f"{row.path}: differs from {first.path}, a record of the same run",
                "a run replays bit for bit on its machine kind; replay it and remove the wrong one",
            )
    return list(kept.values())


def _one_row_per_seed(rows: list[IndexRow]) -> tuple[list[IndexRow], list[str]]:
    """Keep the newest run of a seed: run again (under a newer harness), it is no second sample."""
    kept: dict[tuple[str, float, int], IndexRow] = {}
    for row in sorted(rows, key=lambda row: (row.made, row.run_id)):
        old = kept.get((row.entry, row.budget, row.seed))
        if old is not None:
            _check_same_configuration(old, row)
        kept[row.entry, row.budget, row.seed] = row
    older = len(rows) - len(kept)
    notes = [f"left out: {_many(older)} of a seed that was run again later"] if older else []
    return [kept[key] for key in sorted(kept)], notes


def _check_numbers(row: IndexRow) -> None:
    if not 0 < row.budget <= MOST_BUDGET:
        raise BenchError(f"{row.path}: a budget of {row.budget}x cannot be")
    if not row.finished:
        return
    if row.score_loss is None or math.isnan(row.score_loss):
        raise BenchError(f"{row.path}: finished without a scoring loss", "a run that diverged says so")
    if not 0 <= row.score_loss <= MOST_NATS:
        raise BenchError(f"{row.path}: a scoring loss of {row.score_loss} nats per token cannot be")
    if not 1 <= row.charged_tokens <= MOST_TOKENS:
        raise BenchError(f"{row.path}: {row.charged_tokens} charged tokens cannot be")


def _check_configurations(cells: Cells) -> None:
    """Refuse a cell of several values, and an entry of several sources; values may differ between rungs."""
    first: dict[str, IndexRow] = {}
    for (entry, _), rows in cells.items():
        for row in rows:
            _check_same_configuration(rows[0], row)
        source = first.setdefault(entry, rows[0])
        if source.entry_digest != rows[0].entry_digest:
            _refuse_pair("two versions of its source", source, rows[0])


def _check_same_configuration(a: IndexRow, b: IndexRow) -> None:
    if a.entry_digest != b.entry_digest:
        _refuse_pair("two versions of its source", a, b)
    if a.values_digest != b.values_digest:
        _refuse_pair(f"two sets of values at {rung_name(a.budget)}", a, b)


def _refuse_pair(what: str, a: IndexRow, b: IndexRow) -> NoReturn:
    raise BenchError(
        f"{a.entry} has records of {what}: {a.path} and {b.path}",
        "a board shows one configuration; score the folder of one plan, or move the other's records away",
    )
