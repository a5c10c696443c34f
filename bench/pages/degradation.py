"""What an entry loses by quantization, budget by budget: for the board's columns; nothing where it was not measured."""

import math
from collections import defaultdict
from collections.abc import Mapping

from bench.pages.views import Material
from bench.record import Record
from bench.score.board import Board

Lost = dict[str, float]  # nats above the float loss, by mode


def degradations(board: Board, material: Material) -> dict[tuple[str, float], Lost]:
    """Return the mean degradation by entry and budget, over seeds that have both losses.

    Modes of training come from the boards of the same task and track, modes of a finished checkpoint from the child
    records of the board's own runs. A board of a mode that rounds has none: its losses are in the mode already.
    """
    by_id = {record.run_id: record for record in material.records if record.task == board.task}
    others = [other for other in material.boards if (other.task, other.track) == (board.task, board.track)]
    if _rounds(board, by_id):
        return {}
    rounding = [other for other in others if _rounds(other, by_id)]
    found: dict[tuple[str, float], Lost] = defaultdict(dict)
    for row in (board.reference, *board.rows):
        for rung in row.rungs:
            float_losses = dict(zip(rung.seeds, rung.losses, strict=True))
            for other in rounding:
                losses = _losses(other, row.entry, rung.budget)
                gaps = [losses[seed] - float_losses[seed] for seed in sorted(set(losses) & set(float_losses))]
                if gaps:
                    found[row.entry, rung.budget][other.mode] = math.fsum(gaps) / len(gaps)
            for mode, gaps in _after_training(rung.run_ids, material).items():
                found[row.entry, rung.budget][mode] = math.fsum(gaps) / len(gaps)
    return dict(found)


def _rounds(board: Board, by_id: Mapping[str, Record]) -> bool:
    """Return whether the board's runs were trained in a mode that quantizes, by what their records prove."""
    runs = (run for rung in board.reference.rungs for run in rung.run_ids)
    return any(by_id[run].facts.quantization is not None for run in runs if run in by_id)


def _losses(board: Board, entry: str, budget: float) -> dict[int, float]:
    return {seed: loss for row in (board.reference, *board.rows) if row.entry == entry
            for rung in row.rungs if rung.budget == budget
            for seed, loss in zip(rung.seeds, rung.losses, strict=True)}  # fmt: skip


def _after_training(runs: tuple[str, ...], material: Material) -> dict[str, list[float]]:
    found: dict[str, list[float]] = defaultdict(list)
    for run in runs:
        child = material.quantized.get(run)
        for mode, measured in child.modes.items() if child else ():
            if measured.degradation is not None:
                found[mode].append(measured.degradation)
    return found
