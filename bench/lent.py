"""A plan on a machine that is lent for minutes: stop in time, and leave one archive, to be unpacked in a clone."""

import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from bench.errors import BenchError
from bench.ledger import ledger_path
from bench.orders import Paths, scales_path
from bench.plan import Plan, plan_path
from bench.record import write_atomically
from bench.submission.pack import archive
from bench.tuned import tuned_path


class OutOfTime(KeyboardInterrupt):
    """Ends a plan as Ctrl-C does: what is under way goes on from its checkpoint another time."""


@contextmanager
def time_limit(minutes: float | None) -> Iterator[None]:
    """Raise OutOfTime in the block after so many minutes; never where there is no limit."""

    def over(number: int, frame: FrameType | None) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, 60 * (minutes or 0))  # 0: none
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def parts_of(plan: Plan, paths: Paths) -> list[Path]:
    """Return the files there are of a plan: itself, its ledger, its tuned values, what its transfer track is scaled by,
    its records and their logs."""
    records = sorted(
        path for path in (paths.places.records / plan.task / plan.digest[:16]).rglob("*") if path.is_file()
    )
    single = [
        plan_path(paths.plans, plan), ledger_path(paths.ledgers, plan), tuned_path(paths.entry, plan.task, plan.entry),
        *(scales_path(paths.places.work, plan, rung) for rung in plan.ladder),
    ]  # fmt: skip
    return [path for path in single if path.exists()] + records


def pack(target: Path, files: Iterable[Path]) -> None:
    """Write the files under their paths from here; the same files give the same bytes."""
    held = {}
    for path in files:
        name = os.path.relpath(path)
        if name.startswith(".."):
            raise BenchError(f"{path}: lies outside of this folder", "pack an archive from the root of a clone")
        held[name] = path.read_bytes()
    write_atomically(target, archive(held))
