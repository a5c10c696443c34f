"""Placebos: an entry tuned again under other scrambles and seeds, named `<twin>@1` and so on (protocol B).

They are rows like others, but no competitors: they are not ranked and make no claim. What they differ by among
themselves is tuning noise, tau; a placebo that differs from its twin is a benchmark that finds what is not there.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

PLACEBO = re.compile(r"(.+)@[1-9][0-9]*")
MOST_TAU = 0.05  # of ln speedup; above it nothing on the task is ranked (protocol B)
TAU_DF = 4  # of two families of three placebos


@dataclass(frozen=True)
class Tau:
    """The tuning noise of a task: a standard deviation of ln speedup."""

    value: float
    df: int = TAU_DF


def placebo_twin(entry: str) -> str | None:
    """Return the entry that this one is a further tuning of, by its name; None for an entry of its own."""
    found = PLACEBO.fullmatch(entry)
    return found.group(1) if found else None


def twins_of(entries: Iterable[str]) -> dict[str, str]:
    """Return the twin of every placebo among the entries."""
    return {entry: twin for entry in entries if (twin := placebo_twin(entry)) is not None}


def measure_tau(families: Iterable[Sequence[Mapping[float, float]]]) -> Tau | None:
    """Return tau from each family's placebos, given as speedups by budget; None without two in a family.

    The twin is not among them: three placebos leave two degrees of freedom a family, four in all. Budgets that all
    of a family's placebos share give one variance each, whose mean is the family's; budgets add no degrees of
    freedom, since a tuning carries over from one to the next. The seeds' noise is in it, as protocol B has it.
    """
    squares, df = 0.0, 0
    for placebos in families:
        shared = set.intersection(*map(set, placebos)) if len(placebos) > 1 else set()
        if shared:
            logs = [[math.log(placebo[budget]) for placebo in placebos] for budget in sorted(shared)]
            squares += math.fsum(_squares(cell) for cell in logs) / len(shared)
            df += len(placebos) - 1
    return Tau(math.sqrt(squares / df), df) if df else None


def _squares(numbers: Sequence[float]) -> float:
    mean = math.fsum(numbers) / len(numbers)
    return math.fsum((number - mean) ** 2 for number in numbers)
