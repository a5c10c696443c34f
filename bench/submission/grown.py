"""What may change of a published child record: modes are added, and those of other versions are measured anew."""

from collections.abc import Mapping
from functools import cache
from typing import TypeVar

from bench.children import QUANTIZED, AfterTraining, Crossing, Failed, Quantized, Rounded, read_quantized
from bench.diagnosis import DIAGNOSIS, read_diagnosis
from bench.errors import BenchError
from bench.mode import mode_names, read_mode
from bench.submission.desk import Desk

Tried = TypeVar("Tried", bound=AfterTraining | Failed | Rounded)  # in a mode


@cache
def current() -> dict[str, str]:
    """Return the digests of the modes that there are, by name."""
    return {name: read_mode(name).digest for name in mode_names()}


def tried(child: Quantized | None) -> dict[str, AfterTraining | Failed]:
    return {**child.modes, **child.failed} if child else {}


def anew(now: Mapping[str, Tried], before: Mapping[str, Tried]) -> dict[str, Tried]:
    """Leave out what is published as it is here and of another version of its mode: it stands on no board any more."""
    return {name: one for name, one in now.items() if before.get(name) != one or one.mode_digest == current().get(name)}


def _kept(before: Mapping[str, Tried], now: Mapping[str, Tried]) -> bool:
    """Return whether all that was there is as it was, or measured anew where it was of another version of its mode."""
    digests = current()
    return all(
        now.get(name) == one
        or (one.mode_digest != digests.get(name) and name in now and now[name].mode_digest == digests.get(name))
        for name, one in before.items()
    )


def grown(desk: Desk, name: str) -> bool:
    """Return whether a published child record, or its diagnosis, has what it had, but for other versions of modes."""
    child = name.removesuffix(DIAGNOSIS) + QUANTIZED if name.endswith(DIAGNOSIS) else name
    try:
        then, now = (read_quantized(root / child) for root in (desk.base, desk.root))
        if child != name:
            old = {mode for mode, digest in then.mode_digests.items() if digest != current().get(mode)}
            were, are = (read_diagnosis(root / name) for root in (desk.base, desk.root))
            same = (were.run_id, were.weights) == (are.run_id, are.weights)
            return same and all(are.modes.get(mode) == one for mode, one in were.modes.items() if mode not in old)
    except BenchError:
        return False
    there = {crossing.threshold: crossing for crossing in now.crossings}
    return (
        (then.run_id, then.weights) == (now.run_id, now.weights)
        and _kept(tried(then), tried(now))
        and all(_holds(there.get(crossing.threshold), crossing) for crossing in then.crossings)
    )


def _holds(now: Crossing | None, then: Crossing) -> bool:
    if now is None:
        return False
    bare = (one.model_copy(update={"modes": {}}) for one in (now, then))
    return len({one.model_dump_json() for one in bare}) == 1 and _kept(then.modes, now.modes)
