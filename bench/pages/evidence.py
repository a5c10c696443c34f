"""What a row's records prove: who ran them, and which rules of the protocol they hold (protocol A and G)."""

from collections.abc import Sequence

from bench.pages.views import Material
from bench.record import Record
from bench.verify import lint_record


def tier(records: Sequence[Record]) -> str:
    """Return the row's tier as text: runs of a second party beside the first's are a rerun."""
    parties = {record.who for record in records}
    return "author-run" if len(parties) == 1 else "rerun by another party"


def ticks_said(records: Sequence[Record], material: Material) -> tuple[str, int]:
    """Return '9 ✓' or '8 ✓ 1 ✗', rules that all records hold and rules that some record breaks; and the latter."""
    held: dict[str, bool] = {}
    for record in records:
        task = material.tasks.get(record.task)
        own = lint_record(record, task, material.logs.get(record.run_id)) if task else []
        for tick in [*own, *material.siblings.get(record.run_id, [])]:
            if tick.ok is not None:
                held[tick.title] = held.get(tick.title, True) and tick.ok
    broken = sum(not ok for ok in held.values())
    return f"{len(held) - broken} ✓" + (f" {broken} ✗" if broken else ""), broken
