"""From records to a board: rows of measured losses and their speedups. Pure functions; no files, no clock, no torch."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Rung:
    """All runs of one entry at one budget."""

    budget: float  # as a multiple of 1x
    tokens: int
    charged_tokens: float  # mean over runs
    seeds: tuple[int, ...]  # of the finished runs, rising
    losses: tuple[float, ...]  # scoring loss in nats per token, one per seed
    run_ids: tuple[str, ...]  # one per seed
    failures: tuple[tuple[int, str, str], ...]  # (seed, outcome, run_id) of runs that did not finish

    @property
    def mean(self) -> float | None:
        return sum(self.losses) / len(self.losses) if self.losses else None


@dataclass(frozen=True)
class Speedup:
    """Reference tokens over the entry's charged tokens at equal loss."""

    value: float | None  # None where the loss lies outside the reference's measured range
    bound: Literal[">=", "<=", "="]  # with value None: the bound is in low (>=) or high (<=)
    low: float | None  # ends of the 95% interval; None where it is open
    high: float | None
    fit: float | None  # the same figure from the three-parameter fit, shown beside
    reference_tokens: float | None  # D_ref(L): what the reference needs for this loss

    @property
    def beats_reference(self) -> bool:
        return self.low is not None and self.low > 1


@dataclass(frozen=True)
class Row:
    """One entry on one task, in one mode and track."""

    entry: str
    rungs: tuple[Rung, ...]
    speedups: dict[float, Speedup]  # by budget


@dataclass(frozen=True)
class Board:
    task: str
    mode: str
    track: str
    reference: Row  # its ladder; its own speedups are empty
    rows: tuple[Row, ...]  # best speedup at the largest common budget first
    machine_kinds: tuple[str, ...]  # more than one: figures are not comparable, and the board says so
    noise: float | None  # pooled seed standard deviation in nats
    degrees_of_freedom: int
