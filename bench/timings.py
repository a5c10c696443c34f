"""Step times of entries against the reference, as `bench time` measured them; facts only, one JSON file each."""

import datetime
import json
import statistics
from pathlib import Path
from typing import Any

from pydantic import Field

from bench.digest import digest_of
from bench.errors import BenchError
from bench.record import Digest, Machine, seal, write_atomically
from bench.spec import Spec, parse_json, read_text, validate

SCHEMA = 1


class Turn(Spec):
    """One A B B A: seconds per step, means over the turn's steps."""

    reference: tuple[float, float]
    entry: tuple[float, float]

    @property
    def ratio(self) -> float:
        """The entry's time over the reference's."""
        return sum(self.entry) / sum(self.reference)


class Timing(Spec):
    """One entry timed against the reference of its task, interleaved in one process (protocol F)."""

    schema_version: int = Field(alias="schema")
    task: str
    task_digest: Digest
    mode: str
    entry: str
    entry_digest: Digest
    reference: str
    reference_digest: Digest
    machine: Machine
    who: str
    made: str  # UTC, ISO 8601
    steps: int  # of each of a turn's four parts
    turns: tuple[Turn, ...] = Field(min_length=1)
    canary: tuple[float, float]  # seconds of the same fixed work before and after
    others: float | None = None  # cores that other programs took meanwhile; null where it is not known
    device_peak_bytes: tuple[int, int] | None  # of the reference and the entry, on a GPU
    digest: Digest  # of all of the above

    @property
    def ratio(self) -> float:
        """The median over turns of the entry's step time over the reference's."""
        return statistics.median([turn.ratio for turn in self.turns])

    @property
    def ends(self) -> tuple[float, float]:
        """The least and the largest of the turns' ratios."""
        ratios = [turn.ratio for turn in self.turns]
        return min(ratios), max(ratios)

    @property
    def reference_seconds(self) -> float:
        """The median step of the reference, in seconds."""
        return statistics.median([seconds for turn in self.turns for seconds in turn.reference])


def timing_path(leaderboard: Path, task: str, entry: str, mode: str, machine_kind: str) -> Path:
    return leaderboard / "timings" / task / f"{entry}-{mode}-{machine_kind[:16]}.json"


def write_timing(path: Path, facts: dict[str, Any]) -> None:
    made = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    text = json.dumps(seal({"schema": SCHEMA, **facts, "made": made}), indent=1, allow_nan=False)
    write_atomically(path, (text + "\n").encode())


def read_timing(path: Path) -> Timing:
    """Return a timing whose digest was checked; one edited by hand is refused."""
    table = parse_json(read_text(path), str(path))
    timing = validate(table, Timing, str(path))
    assert isinstance(table, dict)
    if digest_of({name: value for name, value in table.items() if name != "digest"}) != timing.digest:
        raise BenchError(
            f"{path}: the timing was changed after it was written (its digest does not fit)",
            "restore it from version control, or measure again: bench time",
        )
    return timing


def read_timings(leaderboard: Path, task: str, task_digest: str) -> list[Timing]:
    """Return the timings of this version of a task, by file name."""
    found = [read_timing(path) for path in sorted((leaderboard / "timings" / task).glob("*.json"))]
    return [timing for timing in found if timing.task_digest == task_digest]
