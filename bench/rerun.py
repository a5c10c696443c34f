"""Reruns: another party's plan, at a submission's tuned values and with seeds that nobody could choose (protocol G).

They are drawn from the digest of the commit that fixed the submission, so that neither its author nor who runs it again
had a say. The records pool with the rest; who made them stands in each, and on the board as evidence.
"""

from hashlib import sha256
from pathlib import Path

from bench.errors import BenchError
from bench.mode import FLOAT
from bench.plan import Plan, Rerun
from bench.record import Track
from bench.spec import Spec, read_toml
from bench.task import rung_name

MAINTAINERS = "maintainers.toml"  # beside the plans
FIRST_SEED, SEEDS = 10_000, 2**31  # above those of scoring and of tuning


class Maintainers(Spec):
    """Who keeps a board."""

    names: tuple[str, ...]


def read_maintainers(leaderboard: Path) -> frozenset[str]:
    """Return who keeps the board, as their records say who made them; none where there is no list."""
    path = leaderboard / MAINTAINERS
    return frozenset(read_toml(path, Maintainers).names) if path.exists() else frozenset()


def rerun_plan(of: Plan, merge: str, machine_kind: str, rung: float, track: Track, count: int) -> Plan:
    """Return the plan of so many further seeds of one rung and track; the rest is the plan that is run again."""
    if of.rerun is not None:
        raise BenchError(f"the plan {of.digest[:16]} is a rerun itself", "rerun a record of the submission's own plan")
    if of.adds_modes:
        raise BenchError(f"the plan {of.digest[:16]} only adds modes", "rerun a record of the plan that it comes after")
    name = rung_name(rung)
    if name not in of.rungs or track not in of.tracks:
        raise BenchError(f"the plan {of.digest[:16]} has no runs at {name} on the {track} track")
    seeds = tuple(drawn_seed(of.digest, merge, name, place) for place in range(count))
    rerun = Rerun(of=of.digest, merge=merge)
    changed = {"machine_kind": machine_kind, "rungs": {name: seeds}, "tracks": (track,), "after": of.digest,
               "adds_rungs": False, "modes": (FLOAT,), "mode_rungs": {}}  # fmt: skip
    return of.model_copy(update={**changed, "rerun": rerun})


def drawn_seed(plan: str, merge: str, rung: str, place: int) -> int:
    number = int.from_bytes(sha256(f"{merge}/{plan}/{rung}/{place}".encode()).digest()[:8], "big")
    return FIRST_SEED + number % (SEEDS - FIRST_SEED)
