"""Entries by modes: which cells there are, each mode's board, and how ranks move (protocol E)."""

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from bench.errors import BenchError
from bench.index import IndexRow
from bench.mode import FLOAT, read_mode
from bench.score.board import Board, make_board, tuning_noise
from bench.score.cells import Selection, select
from bench.score.degradation import Cell, Compared, compare
from bench.score.measured import Children, Crossed, Finished, Link, Measures, crossed, finished, links, measures
from bench.score.placebo import Tau
from bench.score.rows import rows_of, with_sizes
from bench.score.speedup import Speedup
from bench.score.wording import UNEQUAL, UNSTABLE, caveats
from bench.task import Task


@dataclass(frozen=True)
class ModeRow:
    """One entry at one rung in one mode."""

    compared: Compared
    speedup: Speedup | None  # against the reference in the same mode
    rank: int | None  # in the mode, by mean loss at the rung among those measured in it; of ranked entries
    float_rank: int | None  # of the same entries in bf16
    caveats: tuple[str, ...] = ()  # what the speedup is headed by, as on a board
    letters: tuple[str, ...] = ()  # tie groups in the mode, as on a board: entries that share one are not told apart

    @property
    def cell(self) -> Cell:
        return self.compared.cell


@dataclass(frozen=True)
class Lost:
    """An entry at a rung that no seed came through a mode with: a row with its causes, and nothing to compare."""

    entry: str
    mode: str
    budget: float
    failed: int  # seeds
    why: str


@dataclass(frozen=True)
class ModeTable:
    task: str
    track: str
    reference: str
    rows: dict[str, tuple[ModeRow, ...]]  # by mode: training modes first; the reference's rungs first
    lost: tuple[Lost, ...] = ()
    measures: tuple[Measures, ...] = ()  # of modes of finished checkpoints
    links: tuple[Link, ...] = ()
    crossed: tuple[Crossed, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def modes(self) -> list[str]:
        """Every mode that something is known of, those of training first."""
        return sorted({*self.rows, *(one.mode for one in self.lost)}, key=_training_first)


def _training_first(mode: str) -> tuple[bool, str]:
    return read_mode(mode).kind != "training", mode


@dataclass(frozen=True)
class _Found:
    chosen: Selection  # the records in bf16
    rows: list[IndexRow]  # of all modes, made on the kind of machine that those in bf16 were
    finished: dict[str, Finished]
    cells: list[Cell]
    lost: list[Lost]
    notes: list[str]


def mode_table(
    rows: Sequence[IndexRow],
    children: Children,
    task: Task,
    track: str,
    controls: Collection[str] = (),
    twins: Mapping[str, str] | None = None,
    looks: Mapping[str, int] | None = None,
) -> ModeTable:
    """Return entries by modes on one track; what a board does not rank has no place, and looks are those of a board.

    Placebos run in bf16 alone: the tuning noise that they show there is that of speedups in every mode.
    """
    there = _found(rows, children, task, track)
    chosen, notes = there.chosen, there.notes
    if not there.cells and not there.lost:
        raise BenchError(
            f"{chosen.task}: nothing was measured in any mode but {FLOAT} on the track {track}",
            "; ".join(note for note in notes if note not in chosen.notes)
            or "bench quantize measures a record's "
            "checkpoint; a plan with modes measures all of them: bench plan --modes",
        )
    tau = tuning_noise(there.rows, task, task.reference, track, chosen.reference_track, twins)
    unequal = _unequal(chosen, task) if track == "transfer" else frozenset()
    found, without = {}, dict[str, list[str]]()  # why there are no speedups: in which modes
    for name in sorted({cell.mode for cell in there.cells}, key=_training_first):
        mine = sorted(
            (cell for cell in there.cells if cell.mode == name),
            key=lambda cell: (cell.entry != task.reference, cell.entry, cell.budget),
        )
        read = mine[0].entry == task.reference
        unread = None, f"{task.reference} was not measured there"
        board, why = _board(there, mine, task, name, track, tau, twins, looks, controls) if read else unread
        if why:
            without.setdefault(why, []).append(name)
        unranked = {task.reference, *controls, *(twins or {}), *unequal}
        trained = read_mode(name).kind == "training"
        found[name] = _ranked(compare(mine, task.reference, grows=not trained), board, unranked, unequal)
    notes += [f"no speedups in {', '.join(names)}: {why}" for why, names in without.items()]
    measured = measures(chosen.cells, there.finished)
    distinct = [one for one in measured if one.entry not in (twins or {})]  # a placebo is its twin's once more
    return ModeTable(
        chosen.task, track, task.reference, found, tuple(there.lost), measured, tuple(links(distinct)),
        tuple(crossed(chosen.cells, there.finished, task.reference)), tuple(dict.fromkeys(notes)),
    )  # fmt: skip


def degradations(
    rows: Sequence[IndexRow], children: Children, task: Task, track: str
) -> dict[tuple[str, float], dict[str, float]]:
    """Return the mean degradation in nats in every mode that was measured, by entry and budget."""
    found: dict[tuple[str, float], dict[str, float]] = {}
    for cell in _found(rows, children, task, track).cells:
        found.setdefault((cell.entry, cell.budget), {})[cell.mode] = cell.degradation
    return found


def _found(rows: Sequence[IndexRow], children: Children, task: Task, track: str) -> _Found:
    """Return the records in bf16, the cells of all other modes, and what was left out, in words."""
    chosen = select(rows, task.digest, FLOAT, track, task.reference, None)
    kind = chosen.machine_kinds[0]
    found, notes = finished(chosen.cells, children)
    there = _Found(chosen, [row for row in rows if row.machine_kind == kind], found, [], [], [*chosen.notes, *notes])
    _after(there)
    _training(there, rows, task, track)
    return there


def _after(there: _Found) -> None:
    """Add the cells of modes of finished checkpoints."""
    for (entry, budget), rows in there.chosen.cells.items():
        by_mode: dict[str, list[tuple[int, float, float]]] = {}
        failed: dict[str, list[str]] = {}
        for row in rows:
            found = there.finished.get(row.run_id)
            for name, cause in found.failed.items() if found else ():
                failed.setdefault(name, []).append(cause)
            for name, measured in found.modes.items() if found else ():
                if measured.loss is None or measured.degradation is None:
                    failed.setdefault(name, []).append("loss no number")
                else:
                    floats = measured.loss - measured.degradation
                    by_mode.setdefault(name, []).append((row.seed, floats, measured.loss))
        _add(there, entry, budget, by_mode, failed)


def _training(there: _Found, rows: Sequence[IndexRow], task: Task, track: str) -> None:
    """Add the cells of training modes: each run beside its twin in bf16, made on the same kind of machine."""
    chosen, notes = there.chosen, there.notes
    mine = [row for row in rows if row.task_digest == task.digest and row.mode != FLOAT]
    for name in sorted({row.mode for row in mine}):
        other = sum(row.mode == name and row.machine_kind != chosen.machine_kinds[0] for row in mine)
        if other:
            notes.append(f"left out: {other} runs in {name} on another kind of machine than those in {FLOAT}")
        try:
            there_too = select(there.rows, task.digest, name, track, task.reference, None)
        except BenchError as error:
            notes.append(f"left out: {name}: {error.what}")
            continue
        notes += [f"{name}: {note}" for note in there_too.notes if note not in chosen.notes]
        lone = 0
        for (entry, budget), runs in there_too.cells.items():
            twins = {row.seed: row.score_loss for row in chosen.cells.get((entry, budget), []) if row.finished}
            pairs = [(run.seed, base, run.score_loss) for run in runs
                     if run.score_loss is not None and (base := twins.get(run.seed)) is not None]  # fmt: skip
            lost = [run.outcome for run in runs if not run.finished]
            lone += len(runs) - len(lost) - len(pairs)
            _add(there, entry, budget, {name: pairs} if pairs else {}, {name: lost} if lost else {})
        if lone:
            notes.append(f"left out: {lone} runs in {name} without a run of the same seed in {FLOAT}")


def _add(
    there: _Found, entry: str, budget: float, by_mode: Mapping[str, list[tuple[int, float, float]]],
    failed: Mapping[str, list[str]],
) -> None:  # fmt: skip
    for name, measured in by_mode.items():
        seeds, floats, losses = zip(*sorted(measured), strict=True)
        there.cells.append(Cell(entry, name, budget, seeds, floats, losses, len(failed.get(name, ()))))
    for name in sorted(failed.keys() - by_mode.keys()):
        why = ", ".join(f"{count} {cause}" for cause, count in Counter(failed[name]).most_common())
        there.lost.append(Lost(entry, name, budget, len(failed[name]), why))


def _board(
    there: _Found, cells: Sequence[Cell], task: Task, mode: str, track: str, tau: Tau | None,
    twins: Mapping[str, str] | None, looks: Mapping[str, int] | None, controls: Collection[str],
) -> tuple[Board | None, str | None]:  # fmt: skip
    """Return the board whose losses are the mode's, where it has a ladder, and why it gives no speedup."""
    chosen, rows = there.chosen, there.rows
    definition = read_mode(mode)
    if definition.kind == "after":
        digest = definition.digest
        losses = {(cell.entry, cell.budget, seed): loss for cell in cells
                  for seed, loss in zip(cell.seeds, cell.losses, strict=True)}  # fmt: skip
        rows = [
            row._replace(mode=mode, mode_digest=digest, score_loss=losses[key])
            for (entry, budget), runs in chosen.cells.items()
            for row in runs
            if (key := (entry, budget, row.seed)) in losses
        ]
    try:
        board = make_board(rows, task, task.reference, mode, track, chosen.reference_track, tau, twins=twins,
                           looks=looks, controls=controls)  # fmt: skip
    except BenchError as error:
        return None, error.what
    return board, board.no_speedup


@dataclass(frozen=True)
class _Told:
    """What a mode's board says of an entry at a rung."""

    speedup: Speedup | None = None
    caveats: tuple[str, ...] = ()
    letters: tuple[str, ...] = ()


def _told(board: Board | None) -> dict[tuple[str, float], _Told]:
    """Return what the board says, by entry and rung."""
    told: dict[tuple[str, float], _Told] = {}
    if board is None:
        return told
    for row in (board.reference, *board.rows):
        for rung in row.rungs:
            found, standing = row.speedups.get(rung.budget), row.standings.get(rung.budget)
            letters = standing.letters if standing else ()
            told[row.entry, rung.budget] = _Told(found, caveats(board, rung, found), letters)
    return told


def _unequal(chosen: Selection, task: Task) -> frozenset[str]:
    """Return the entries whose steps have not the reference's size, by their runs in bf16."""
    rows = rows_of(chosen, task, None)
    ladder = rows[task.reference]
    return frozenset(name for name, row in rows.items() if not with_sizes(row, ladder).of_equal_size)


def _ranked(
    compared: Iterable[Compared], board: Board | None, unranked: Collection[str], unequal: Collection[str]
) -> tuple[ModeRow, ...]:
    """Return the rows with their places at each ranked rung, in the mode and in bf16, among the same entries."""
    compared, told = list(compared), _told(board)
    losses: dict[float, list[float]] = {}
    floats: dict[float, list[float]] = {}
    for cell in (one.cell for one in compared if one.cell.entry not in unranked):
        insort(losses.setdefault(cell.budget, []), cell.loss)
        insort(floats.setdefault(cell.budget, []), cell.float_loss)
    found = []
    for one in compared:
        cell = one.cell
        said = told.get((cell.entry, cell.budget), _Told())
        headed = (*said.caveats, *(UNEQUAL,) * (cell.entry in unequal))
        places: tuple[int | None, int | None] = (None, None)
        if cell.entry not in unranked and UNSTABLE not in headed:
            lower = bisect_left(losses[cell.budget], cell.loss), bisect_left(floats[cell.budget], cell.float_loss)
            places = 1 + lower[0], 1 + lower[1]
        found.append(ModeRow(one, said.speedup, *places, headed, said.letters))
    return tuple(found)
