"""A board, and a table of modes, with all that plans, ledgers and logs say about their records: what `bench score`
prints, pages show and releases keep."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from bench.index import IndexRow
from bench.ledger import Study
from bench.mode import FLOAT
from bench.record import Log, Record
from bench.score import evidence
from bench.score.alarm import alarm_note, alarms_of, judged
from bench.score.board import Board, make_board, tuning_noise
from bench.score.cells import select
from bench.score.measured import Children
from bench.score.modes import ModeTable, mode_table
from bench.score.search import Search
from bench.score.yardstick import batches, end_notes
from bench.task import Task
from bench.timings import Timing

Read = Callable[[IndexRow], tuple[Record, Log]]


def told_board(
    rows: Sequence[IndexRow],
    task: Task,
    mode: str,
    track: str,
    studies: Sequence[Study],
    read: Read,
    timings: Sequence[Timing] = (),
) -> tuple[Board, list[Search]]:
    """Return the board, and the searches behind its rows; where values are declared by hand no plan is asked.

    Trials are runs in float: what their losses say stands on the board in float alone, since the losses and the ladder
    of a mode that rounds are no measure of them. What they cost stands on every board.
    """
    studies = [] if track == "declared" else studies
    chosen = select(rows, task.digest, mode, track, task.reference, None)
    shown = {row.run_id: read(row) for cell in chosen.cells.values() for row in cell}
    records = [record for record, _ in shown.values()]
    logs = {run_id: log for run_id, (record, log) in shown.items() if record.outcome == "finished"}
    hybrids = evidence.hybrids_of(records)
    timed, left_out = evidence.timings_of(timings, mode, chosen, task.reference)
    held = evidence.state_bytes_of(records)
    costs = evidence.costs_of(studies, chosen, task, task.reference, hybrids, held, timed, track)
    twins = evidence.placebos_of(studies, rows)
    tau = None if mode == FLOAT else tuning_noise(rows, task, task.reference, track, twins=twins)
    board = make_board(
        rows, task, task.reference, mode, track, tau=tau, twins=twins, looks=evidence.looks_of(studies), costs=costs,
        logs=logs, controls=evidence.controls_of(studies),
    )  # fmt: skip
    searched = studies if mode == FLOAT else []
    alarms = alarms_of(searched, chosen, task.reference)
    verdicts = judged(alarms, rows, chosen, task.reference, lambda row: read(row)[0])
    tried = batches(searched, task, task.reference)
    notes = [
        *evidence.time_notes(costs, timed),
        *left_out,
        *evidence.plan_notes(studies, rows, board),
        *evidence.value_notes(studies, records, task),
        *(alarm_note(verdict, task.reference) for verdict in verdicts),
        *(said for met, said in tried if met),
    ]
    departs = (*(said for met, said in tried if not met), *end_notes(searched, task, task.reference))
    searches = evidence.searches_of(studies, board, evidence.initial_loss(records, task), hybrids)
    undertuned = tuple(alarm_note(verdict, task.reference) for verdict in verdicts if verdict.holds)
    return replace(board, notes=(*board.notes, *notes), departs=departs, undertuned=undertuned), searches


def told_modes(
    rows: Sequence[IndexRow], children: Children, task: Task, track: str, studies: Sequence[Study]
) -> ModeTable:
    """Return entries by modes on one track; where values are declared by hand no plan is asked."""
    held = [] if track == "declared" else studies
    twins, looks = evidence.placebos_of(held, rows), evidence.looks_of(held)
    return mode_table(rows, children, task, track, evidence.controls_of(held), twins, looks)
