"""What a row's records prove: who ran them, and which rules of the protocol they hold (protocol A and G)."""

from collections.abc import Sequence

from bench.pages.views import Material
from bench.record import Record
from bench.verify import lint_record


def tier(records: Sequence[Record], material: Material) -> str:
    """Return the row's tier as text (protocol G).

    What counts is a record of a rerun's plan, at seeds that nobody chose, by another than made the author's records.
    """
    plans = {study.plan.digest: study.plan for studies in material.studies.values() for study in studies}
    parties: set[str] = set()
    for record in records:
        plan = plans.get(record.plan or "")
        if plan is not None and plan.rerun is not None:
            parties |= {record.who} - material.authors.get(plan.rerun.of, {record.who})
    if parties & material.maintainers:
        return "rerun by maintainers"
    return "rerun by another party" if parties else "author-run"


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
