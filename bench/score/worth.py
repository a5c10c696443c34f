"""What rounded parameters are worth: efficiencies over tasks that are sizes of one family, on one text."""

from collections.abc import Iterable
from dataclasses import dataclass

from bench.score.efficiency import Efficiency, efficiency
from bench.score.modes import ModeRow, ModeTable
from bench.task import HubText, Task


@dataclass(frozen=True)
class Worth:
    """The share of its parameters that an entry's model is worth in a mode, over sizes of one family."""

    family: str
    track: str
    entry: str
    mode: str
    sizes: tuple[str, ...]  # tasks, smallest first
    efficiency: Efficiency  # its pairs in the order of sizes


def worths(tables: Iterable[tuple[Task, ModeTable]]) -> list[Worth]:
    """Return the efficiency of every entry and mode that three tasks of one family, vocabulary, context and text have.

    They are read at each task's lowest ranked rung.
    """
    groups: dict[tuple[str, ...], list[tuple[int, str, ModeRow]]] = {}
    for task, table in tables:
        for mode, rows in table.rows.items():
            for row in rows:
                if row.cell.budget == task.budget.compared[0]:
                    key = (*_alike(task), table.track, row.cell.entry, mode)
                    groups.setdefault(key, []).append((task.matrix_parameters, table.task, row))
    found = []
    for key, sizes in sorted(groups.items()):
        ordered = sorted(sizes, key=lambda one: one[:2])
        worth = efficiency(
            [float(n) for n, _, _ in ordered],
            [row.cell.float_loss for *_, row in ordered],
            [row.cell.loss for *_, row in ordered],
        )
        if worth is not None:
            family, track, entry, mode = key[0], *key[-3:]
            found.append(Worth(family, track, entry, mode, tuple(name for _, name, _ in ordered), worth))
    return found


def _alike(task: Task) -> tuple[str, ...]:
    """Return what two tasks must share for their losses to lie on one law: a loss depends on text and context."""
    model, data = task.model, task.data
    text = (data.dataset, data.revision) if isinstance(data, HubText) else ("generated", "")
    return model.family, str(model.vocabulary), str(task.training.context), data.tokenizer, *text
