"""Common losses: the first point of a run's curve at or below each loss that its task names (arXiv 2509.23500).

The losses are the task's, so no entry moves another's comparison. Runs of the rung where entries are tuned are looked
at, and no others.
"""

from bench.record import Log, Point, Record
from bench.task import Task


def thresholds_of(task: Task, budget: float) -> tuple[float, ...]:
    return task.common_losses if budget == task.budget.compared[0] else ()


def crossings(record: Record, log: Log, task: Task) -> dict[float, Point]:
    """Return the first point of a finished run's curve at or below each loss that it passed."""
    if record.outcome != "finished":
        return {}
    found: dict[float, Point] = {}
    for threshold in thresholds_of(task, record.inputs.budget):
        below = [point for point in log.curve if point.loss is not None and point.loss <= threshold]
        found |= {threshold: below[0]} if below else {}
    return found
