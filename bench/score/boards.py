"""Which boards and tables of modes there are, and every board: what pages show and releases keep."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from bench.errors import BenchError
from bench.index import IndexRow, rows_by_task
from bench.ledger import Study
from bench.mode import FLOAT
from bench.record import Log, Record, Track
from bench.score.board import Board
from bench.score.measured import Children
from bench.score.search import Search
from bench.score.told import told_board
from bench.task import Task
from bench.timings import Timing

Rows = Mapping[str, Sequence[IndexRow]]  # by task


@dataclass(frozen=True)
class Refusal:
    """A board that cannot be made yet, and why."""

    task: str
    mode: str
    track: str
    why: str


def make_boards(
    records: Sequence[Record],
    logs: Mapping[str, Log],
    tasks: Mapping[str, Task],
    studies: Mapping[str, list[Study]],
    timings: Mapping[str, list[Timing]],
) -> tuple[tuple[Board, ...], dict[tuple[str, str, str], list[Search]], tuple[Refusal, ...]]:
    """Return the board of every task, mode and track that has records, its searches, and why others have none yet.

    Of a run there is one record. logs: by run_id; the rest by task.
    """
    by_id, rows = {record.run_id: record for record in records}, rows_by_task(records)
    boards, searches, refusals = [], {}, []
    for name in sorted(set(rows) & set(tasks)):
        for mode, track in sorted(_wanted(rows[name], tasks[name].reference), key=_ranked_first):
            try:
                board, searches[name, mode, track] = told_board(
                    rows[name], tasks[name], mode, track, studies[name],
                    lambda row: (by_id[row.run_id], logs[row.run_id]), timings[name],
                )  # fmt: skip
                boards.append(board)
            except BenchError as error:
                refusals.append(Refusal(name, mode, track, "; ".join(filter(None, (error.what, error.hint)))))
    return tuple(boards), searches, tuple(refusals)


def _wanted(rows: Sequence[IndexRow], reference: str) -> set[tuple[str, str]]:
    """Return the modes and tracks that are worth a board: none of the reference alone beside its tuned ladder."""
    entries = {(row.mode, row.track) for row in rows if row.entry != reference}
    own = {(row.mode, row.track) for row in rows if row.entry == reference}
    return entries | {(mode, track) for mode, track in own if track == "tuned" or (mode, "tuned") not in own}


def _ranked_first(board: tuple[str, str]) -> tuple[str, int]:
    mode, track = board
    return mode, get_args(Track).index(track)


def rounded_tracks(rows: Rows, children: Children, tasks: Mapping[str, Task]) -> list[tuple[str, str]]:
    """Return the tasks and tracks of which a run of an entry trained in a mode that rounds, or was measured in one."""
    return [
        (name, track)
        for name, task in tasks.items()
        for track in get_args(Track)
        if any(
            row.mode != FLOAT or row.run_id in children
            for row in rows.get(name, [])
            if row.task_digest == task.digest and row.track == track and row.entry != task.reference
        )
    ]
