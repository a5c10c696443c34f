"""What modes of finished checkpoints measured: which of it stands, and what outliers and layer errors say of it."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bench.children import AfterTraining, Crossing, Quantized, Rounded
from bench.mode import mode_names, read_mode
from bench.score.cells import Cells
from bench.score.degradation import Cell, Estimate, compare, correlation_with

SIDES = ("weights", "activations")
TAILS = ("max_over_mean", "max_over_median", "kurtosis", "feature_kurtosis")
ERROR = ("network", "error")  # R_L: squared error of the logits, relative
MEASURES = (ERROR, *((side, name) for side in SIDES for name in TAILS))
Children = Mapping[str, Quantized]  # by the parent's run_id


@dataclass(frozen=True)
class Finished:
    """What the modes that there are now measured of one run's weights."""

    modes: Mapping[str, AfterTraining]
    failed: Mapping[str, str]  # causes
    crossings: tuple[tuple[Crossing, str, Rounded], ...]  # each with a mode's name, and what was measured in it


@dataclass(frozen=True)
class Measures:
    """How far an entry's largest weights and activations stand out in a mode, how far its logits are off, and what the
    mode cost; means over layers and seeds.
    """

    entry: str
    mode: str
    budget: float
    degradation: float  # nats
    values: Mapping[tuple[str, str], float]  # by side and measure; none where the mode does not round that side

    def value(self, side: str, measure: str) -> float | None:
        return self.values.get((side, measure))


@dataclass(frozen=True)
class Link:
    """How a measure goes with degradation, across entries at one rung in one mode."""

    mode: str
    budget: float
    side: str  # network, weights or activations
    measure: str
    entries: int
    value: float  # Spearman's
    low: float | None
    high: float | None

    @property
    def sure(self) -> bool:
        """Whether the interval leaves 0 out."""
        return Estimate(self.value, self.low, self.high).sure


@dataclass(frozen=True)
class Crossed:
    """Degradation where curves first passed a common loss, in the middle of their schedules: labelled, never ranked."""

    threshold: float
    mode: str
    entry: str
    budget: float
    tokens: float  # mean over seeds
    float_loss: float  # of the scoring half, mean over seeds: how far from the common loss it is
    degradation: float
    beyond: Estimate | None  # less the reference's, over the seeds that both have
    seeds: int


def finished(cells: Cells, children: Children) -> tuple[dict[str, Finished], list[str]]:
    """Return what stands of the child records of a board's runs, by run_id, and what was left out, in words."""
    current = {name: read_mode(name).digest for name in mode_names()}
    found, left_out = {}, set()

    def stands(name: str, digest: str) -> bool:
        if digest != current.get(name):
            left_out.add(name)
        return digest == current.get(name)

    for row in (row for rows in cells.values() for row in rows if row.run_id in children):
        child = children[row.run_id]
        found[row.run_id] = Finished(
            {name: one for name, one in child.modes.items() if stands(name, one.mode_digest)},
            {name: one.cause for name, one in child.failed.items() if stands(name, one.mode_digest)},
            tuple(
                (crossing, name, one)
                for crossing in child.crossings
                for name, one in crossing.modes.items()
                if stands(name, one.mode_digest)
            ),
        )
    old, gone = sorted(left_out & set(current)), sorted(left_out - set(current))
    notes = [f"left out: what other versions of {', '.join(old)} measured; bench quantize does it anew"] * bool(old)
    notes += [f"left out: what was measured in {', '.join(gone)}: no such mode here"] * bool(gone)
    return found, notes + _fallen(cells, found)


def _fallen(cells: Cells, found: Mapping[str, Finished]) -> list[str]:
    """Say in which modes GPTQ rounded layers of whose models to nearest instead."""
    layers: dict[tuple[str, str], list[str]] = {}
    for (entry, _), rows in cells.items():
        for row in rows:
            for name, one in found[row.run_id].modes.items() if row.run_id in found else ():
                if one.fallen_back:
                    layers.setdefault((name, entry), []).append(one.fallen_back)
    return [
        f"{name}: {entry}: in {len(told)} runs, such as {told[0]}" for (name, entry), told in sorted(layers.items())
    ]


def measures(cells: Cells, found: Mapping[str, Finished]) -> tuple[Measures, ...]:
    """Return what was measured of every entry's finished weights, by mode, rung and entry."""
    seen: dict[tuple[str, float, str], list[AfterTraining]] = {}
    for (entry, budget), rows in cells.items():
        for row in rows:
            for name, one in found[row.run_id].modes.items() if row.run_id in found else ():
                if one.degradation is not None:
                    seen.setdefault((name, budget, entry), []).append(one)
    return tuple(
        Measures(entry, name, budget, mean_of_known(one.degradation for one in ones) or 0.0, _values(ones))
        for (name, budget, entry), ones in sorted(seen.items())
    )


def _values(ones: Sequence[AfterTraining]) -> dict[tuple[str, str], float]:
    found = {ERROR: mean_of_known(one.diagnosis.error for one in ones)}
    for side in SIDES:
        tails = [getattr(one.diagnosis, side) for one in ones]
        found |= {(side, name): mean_of_known(getattr(tail, name) for tail in tails) for name in TAILS}
    return {key: value for key, value in found.items() if value is not None}


def mean_of_known(values: Iterable[float | None]) -> float | None:
    """Return the mean of those that are there; None where none is."""
    there = [value for value in values if value is not None]
    return math.fsum(there) / len(there) if there else None


def links(measured: Sequence[Measures]) -> list[Link]:
    """Return the correlations of each measure with degradation across entries, in each mode at each rung."""
    groups: dict[tuple[str, float], list[Measures]] = {}
    for one in measured:
        groups.setdefault((one.mode, one.budget), []).append(one)
    found = []
    for (mode, budget), ones in groups.items():
        degradation = {one.entry: one.degradation for one in ones}
        for side, measure in MEASURES:
            values = {one.entry: value for one in ones if (value := one.value(side, measure)) is not None}
            linked = correlation_with(values, degradation)
            if linked:
                count, estimate = linked
                found.append(Link(mode, budget, side, measure, count, estimate.value, estimate.low, estimate.high))
    return found


def crossed(cells: Cells, found: Mapping[str, Finished], reference: str) -> list[Crossed]:
    """Return what was measured at common losses, the highest first, each entry beside the reference."""
    seen: dict[tuple[float, str, float, str], list[tuple[int, int, float, float]]] = {}
    for (entry, budget), rows in cells.items():
        for row in rows:
            for crossing, name, one in found[row.run_id].crossings if row.run_id in found else ():
                if one.loss is not None and crossing.float_loss is not None:
                    key = (-crossing.threshold, name, budget, entry)
                    seen.setdefault(key, []).append((row.seed, crossing.tokens, crossing.float_loss, one.loss))
    groups: dict[tuple[float, str, float], list[tuple[Cell, float]]] = {}
    for (below, name, budget, entry), measured in sorted(seen.items()):
        seeds, tokens, floats, losses = zip(*sorted(measured), strict=True)
        cell = Cell(entry, name, budget, seeds, floats, losses)
        groups.setdefault((below, name, budget), []).append((cell, math.fsum(tokens) / len(tokens)))
    return [
        Crossed(-below, name, compared.cell.entry, budget, tokens, compared.cell.float_loss, compared.cell.degradation,
                compared.at_equal_budget, len(compared.cell.seeds))
        for (below, name, budget), group in groups.items()
        for compared, (_, tokens) in zip(compare([cell for cell, _ in group], reference), group, strict=True)
    ]  # fmt: skip
