"""Entries by modes: which cells there are, each mode's board, and how ranks move (protocol E)."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from bench.children import Quantized
from bench.errors import BenchError
from bench.index import IndexRow
from bench.mode import FLOAT, mode_names, read_mode
from bench.score.board import make_board
from bench.score.cells import Cells, Selection, select
from bench.score.degradation import Cell, Compared, compare, correlation_with
from bench.score.speedup import Speedup
from bench.task import Task

MEASURES = ("max_over_mean", "max_over_median", "kurtosis", "feature_kurtosis")  # of weights and of activations
Children = Mapping[str, Quantized]  # by the parent's run_id


@dataclass(frozen=True)
class ModeRow:
    """One entry at one rung in one mode."""

    compared: Compared
    speedup: Speedup | None  # against the reference in the same mode
    rank: int | None  # in the mode, by mean loss at the rung among those measured in it; of ranked entries
    float_rank: int | None  # of the same entries in bf16

    @property
    def cell(self) -> Cell:
        return self.compared.cell


@dataclass(frozen=True)
class Link:
    """How a measure of outliers goes with degradation, across entries at one rung in one mode."""

    mode: str
    budget: float
    side: str  # weights or activations
    measure: str
    entries: int
    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Crossed:
    """Degradation where curves first passed a common loss, in the middle of their schedules: labelled, never ranked."""

    threshold: float
    mode: str
    entry: str
    budget: float
    tokens: float  # mean over seeds
    degradation: float
    seeds: int


@dataclass(frozen=True)
class ModeTable:
    task: str
    track: str
    reference: str
    rows: dict[str, tuple[ModeRow, ...]]  # by mode: training modes first; the reference's rungs first
    links: tuple[Link, ...] = ()
    crossed: tuple[Crossed, ...] = ()
    notes: tuple[str, ...] = ()


def mode_table(
    rows: Sequence[IndexRow],
    children: Children,
    task: Task,
    track: str,
    tau: float | None = None,
    controls: Collection[str] = (),
    twins: Mapping[str, str] | None = None,
) -> ModeTable:
    """Return entries by modes on one track. tau is the tuning noise of the board in bf16; controls have no ranks."""
    chosen, cells, notes = _cells(rows, children, task, track)
    found = {}
    for name in sorted({cell.mode for cell in cells}, key=lambda name: (read_mode(name).kind != "training", name)):
        mine = sorted(
            (cell for cell in cells if cell.mode == name),
            key=lambda cell: (cell.entry != task.reference, cell.entry, cell.budget),
        )
        speedups = _speedups(rows, chosen, mine, task, name, track, tau, twins, notes)
        unranked = {task.reference, *controls, *(twins or {})}
        found[name] = _ranked(compare(mine, task.reference), speedups, unranked)
    if not found:
        raise BenchError(
            f"{chosen.task}: nothing was measured in any mode but {FLOAT} on the track {track}",
            "bench quantize measures a record's checkpoint; a plan with modes measures all of them: bench plan --modes",
        )
    links = tuple(link for name in found for link in _links(name, chosen.cells, children))
    return ModeTable(
        chosen.task, track, task.reference, found, links, tuple(_crossed(chosen.cells, children)), tuple(notes)
    )


def degradations(
    rows: Sequence[IndexRow], children: Children, task: Task, track: str
) -> dict[tuple[str, float], dict[str, float]]:
    """Return the mean degradation in nats in every mode that was measured, by entry and budget."""
    found: dict[tuple[str, float], dict[str, float]] = {}
    for cell in _cells(rows, children, task, track)[1]:
        found.setdefault((cell.entry, cell.budget), {})[cell.mode] = cell.degradation
    return found


def _cells(
    rows: Sequence[IndexRow], children: Children, task: Task, track: str
) -> tuple[Selection, list[Cell], list[str]]:
    """Return the records in bf16, the cells of all other modes, and what was left out, in words."""
    chosen = select(rows, task.digest, FLOAT, track, task.reference, None)
    notes: list[str] = []
    return chosen, _after(chosen.cells, children, notes) + _training(rows, chosen, task, track, notes), notes


def _after(cells: Cells, children: Children, notes: list[str]) -> list[Cell]:
    """Return the cells of modes of finished checkpoints; what an older version of a mode measured is left out."""
    found, old = [], set()
    current = {name: read_mode(name).digest for name in mode_names()}
    for (entry, budget), rows in cells.items():
        by_mode: dict[str, list[tuple[int, float, float]]] = {}
        failed: dict[str, int] = {}
        for row in rows:
            for name, measured in (children[row.run_id].modes if row.run_id in children else {}).items():
                if measured.mode_digest != current.get(name):
                    old.add(name)
                elif measured.loss is None or measured.degradation is None:
                    failed[name] = failed.get(name, 0) + 1
                else:
                    floats = measured.loss - measured.degradation
                    by_mode.setdefault(name, []).append((row.seed, floats, measured.loss))
        for name, measures in by_mode.items():
            seeds, floats_of, losses = zip(*sorted(measures), strict=True)
            found.append(Cell(entry, name, budget, seeds, floats_of, losses, failed.get(name, 0)))
    if old:
        notes.append(f"left out: what other versions of {', '.join(sorted(old))} measured; bench quantize does it anew")
    return found


def _training(rows: Sequence[IndexRow], chosen: Selection, task: Task, track: str, notes: list[str]) -> list[Cell]:
    """Return the cells of training modes: each run beside its twin in bf16."""
    found = []
    for name in sorted({row.mode for row in rows if row.task_digest == task.digest} - {FLOAT}):
        try:
            there = select(rows, task.digest, name, track, task.reference, None).cells
        except BenchError as error:
            notes.append(f"left out: {name}: {error.what}")
            continue
        for (entry, budget), runs in there.items():
            twins = {row.seed: row for row in chosen.cells.get((entry, budget), []) if row.finished}
            pairs = [(run.seed, twins[run.seed].score_loss, run.score_loss) for run in runs
                     if run.finished and run.seed in twins]  # fmt: skip
            whole = [(seed, base, loss) for seed, base, loss in pairs if base is not None and loss is not None]
            if whole:
                seeds, floats, losses = zip(*whole, strict=True)
                failed = sum(not run.finished for run in runs)
                found.append(Cell(entry, name, budget, seeds, floats, losses, failed))
    return found


def _speedups(
    rows: Sequence[IndexRow], chosen: Selection, cells: Sequence[Cell], task: Task, mode: str, track: str,
    tau: float | None, twins: Mapping[str, str] | None, notes: list[str],
) -> dict[tuple[str, float], Speedup]:  # fmt: skip
    """Return the speedups within a mode: those of a board whose losses are the mode's."""
    if read_mode(mode).kind == "after":
        losses = {(cell.entry, cell.budget, seed): loss for cell in cells
                  for seed, loss in zip(cell.seeds, cell.losses, strict=True)}  # fmt: skip
        rows = [
            row._replace(mode=mode, mode_digest=read_mode(mode).digest, score_loss=losses[key])
            for (entry, budget), runs in chosen.cells.items()
            for row in runs
            if (key := (entry, budget, row.seed)) in losses
        ]
    try:
        board = make_board(rows, task, task.reference, mode, track, chosen.reference_track, tau, twins=twins)
    except BenchError as error:
        notes.append(f"no speedups in {mode}: {error.what}")
        return {}
    if board.no_speedup:
        notes.append(f"no speedups in {mode}: {board.no_speedup}")
    return {(row.entry, budget): speedup for row in board.rows for budget, speedup in row.speedups.items()}


def _ranked(
    compared: Iterable[Compared], speedups: Mapping[tuple[str, float], Speedup], unranked: Collection[str]
) -> tuple[ModeRow, ...]:
    """Return the rows with their places at each rung, in the mode and in bf16, among the same entries."""
    compared = list(compared)
    rungs: dict[float, list[Cell]] = {}
    for one in compared:
        if one.cell.entry not in unranked:
            rungs.setdefault(one.cell.budget, []).append(one.cell)
    found = []
    for one in compared:
        cell, others = one.cell, rungs.get(one.cell.budget, [])
        places: tuple[int | None, int | None] = (None, None)
        if cell.entry not in unranked:
            places = (
                1 + sum(other.loss < cell.loss for other in others),
                1 + sum(other.float_loss < cell.float_loss for other in others),
            )
        found.append(ModeRow(one, speedups.get((cell.entry, cell.budget)), *places))
    return tuple(found)


def _links(mode: str, cells: Cells, children: Children) -> list[Link]:
    """Return the correlations of outlier measures with degradation across entries, at each rung."""
    found = []
    for budget in sorted({budget for _, budget in cells}):
        degradation: dict[str, float] = {}
        measures: dict[tuple[str, str], dict[str, float]] = {}
        for (entry, at), rows in cells.items():
            here = [children[row.run_id].modes.get(mode) for row in rows if row.run_id in children]
            told = [one for one in here if one and one.degradation is not None and one.diagnosis is not None]
            if at != budget or not told:
                continue
            degradation[entry] = sum(one.degradation or 0.0 for one in told) / len(told)
            for side in ("weights", "activations"):
                tails = [getattr(one.diagnosis, side) for one in told]
                for measure in MEASURES:
                    values = [value for tail in tails if tail and (value := getattr(tail, measure)) is not None]
                    if values:
                        measures.setdefault((side, measure), {})[entry] = sum(values) / len(values)
        for (side, measure), values_of in sorted(measures.items()):
            linked = correlation_with(values_of, degradation)
            if linked:
                count, estimate = linked
                found.append(Link(mode, budget, side, measure, count, estimate.value, estimate.low, estimate.high))
    return found


def _crossed(cells: Cells, children: Children) -> list[Crossed]:
    found: dict[tuple[float, str, str, float], list[tuple[float, float]]] = {}
    for (entry, budget), rows in cells.items():
        for row in rows:
            for crossing in children[row.run_id].crossings if row.run_id in children else ():
                for name, measured in crossing.modes.items():
                    if measured.degradation is not None:
                        key = (-crossing.threshold, name, entry, budget)
                        found.setdefault(key, []).append((float(crossing.tokens), measured.degradation))
    return [
        Crossed(-high, mode, entry, budget, sum(t for t, _ in seen) / len(seen), sum(d for _, d in seen) / len(seen),
                len(seen))
        for (high, mode, entry, budget), seen in sorted(found.items())
    ]  # fmt: skip
