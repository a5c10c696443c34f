"""What survives rounding: each entry in each mode against the reference, and whether the order of entries changes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import altair as alt

from bench.children import AfterTraining, Tails
from bench.pages.charts import COLOURS, SHAPES
from bench.pages.compare import signed
from bench.pages.drawing import INK, Drawn, draw
from bench.pages.shell import Page
from bench.pages.views import Material
from bench.record import Record
from bench.score.interaction import Interaction, Rounded, interaction, ranks

LESS, MORE = "#0072b2", "#d55e00"  # the mode costs the entry less, or more, than the reference
FLOAT = "bf16"
BUDGET = 1.0  # modes of training are run at 1x alone
WIDTH, ROW = 90, 26  # pixels of a cell, at least
WHOLE = 520  # of all together, at least: a page draws charts as wide as it is
Cells = dict[tuple[str, str], Rounded]  # by entry and mode


@dataclass(frozen=True)
class Place:
    """An entry's place by mean loss among those that ran in a mode: in float, and in the mode."""

    floating: int
    rounded: int

    @property
    def moved(self) -> int:
        """Places gained, below 0 lost."""
        return self.floating - self.rounded


@dataclass(frozen=True)
class Outlying:
    """How far an entry's largest weights and activations stand out in a mode, and what the mode cost; means over seeds.

    Measures are None where the mode does not round that side, or nothing was measured.
    """

    entry: str
    mode: str
    degradation: float  # nats
    error: float | None  # of the logits, squared, relative
    weights: tuple[float | None, float | None, float | None]  # max over mean, max over median, excess kurtosis
    activations: tuple[float | None, float | None, float | None]


@dataclass(frozen=True)
class QuantizationView:
    task: str
    track: str
    reference: str
    modes: tuple[str, ...]
    entries: tuple[str, ...]  # lowest float loss first
    cells: Mapping[tuple[str, str], Interaction]  # by entry and mode
    places: Mapping[tuple[str, str], Place]
    chart: Drawn
    outlying: tuple[Outlying, ...]
    scatter: Drawn | None  # of outliers of the weights and degradations

    @property
    def anchor(self) -> str:
        return f"{self.task}-{self.track}"


def quantization_pages(material: Material) -> list[Page]:
    """Return the page where a mode other than float was measured."""
    views = [view for task in material.tasks for track in ("tuned", "transfer", "declared")
             if (view := quantization_view(task, track, material)) is not None]  # fmt: skip
    return [Page("quantization.html", "quantization.html", {"views": views})] if views else []


def quantization_view(task: str, track: str, material: Material) -> QuantizationView | None:
    """Return a task's entries in all modes at 1x; None where the reference was not measured in any."""
    reference = material.tasks[task].reference
    rounded = cells_of(task, track, material)
    modes = sorted({mode for entry, mode in rounded if entry == reference})
    found: dict[tuple[str, str], Interaction] = {}
    for (entry, mode), cell in rounded.items():
        if entry != reference and mode in modes:
            told = interaction(cell, rounded[reference, mode])
            if told is not None:
                found[entry, mode] = told
    if not found:
        return None
    best = {entry: min(cell.float_losses.values()) for (entry, _), cell in rounded.items()}
    entries = sorted({entry for entry, _ in found}, key=lambda entry: (best[entry], entry))
    outlying = outlying_of(task, track, material)
    return QuantizationView(
        task=task,
        track=track,
        reference=reference,
        modes=tuple(modes),
        entries=tuple(entries),
        cells=found,
        places=places_of(rounded, modes),
        chart=heat_map(task, track, entries, modes, found),
        outlying=outlying,
        scatter=outlier_chart(task, track, outlying),
    )


def cells_of(task: str, track: str, material: Material) -> Cells:
    """Return the losses at 1x in float and in every mode, of training and of finished checkpoints, by seed."""
    floats: dict[tuple[str, int], float] = {}
    rounded: dict[tuple[str, str, int], float] = {}
    for record in _finished(task, track, material):
        assert record.score_loss is not None
        if record.inputs.mode != FLOAT:
            rounded[record.entry, record.inputs.mode, record.inputs.seed] = record.score_loss
            continue
        floats[record.entry, record.inputs.seed] = record.score_loss
        child = material.quantized.get(record.run_id)
        for mode, measured in child.modes.items() if child else ():
            if measured.degradation is not None:  # against the float loss that was measured in the same way
                rounded[record.entry, mode, record.inputs.seed] = record.score_loss + measured.degradation
    cells: Cells = {}
    for entry, mode in sorted({(entry, mode) for entry, mode, _ in rounded}):
        seeds = sorted(seed for name, other, seed in rounded if (name, other) == (entry, mode))
        both = [seed for seed in seeds if (entry, seed) in floats]
        if both:
            cells[entry, mode] = Rounded({seed: floats[entry, seed] for seed in both},
                                         {seed: rounded[entry, mode, seed] for seed in both})  # fmt: skip
    return cells


def _finished(task: str, track: str, material: Material) -> Iterator[Record]:
    """Yield the runs of this version of the task at 1x, a yardstick's tuned ones on every track but the declared."""
    definition = material.tasks[task]
    for record in material.records:
        inputs = record.inputs
        own = inputs.track == track or (record.entry == definition.reference and (track, inputs.track)
                                        == ("transfer", "tuned"))  # fmt: skip
        if (inputs.task_digest == definition.digest and own and inputs.budget == BUDGET
                and record.outcome == "finished"):  # fmt: skip
            yield record


def places_of(rounded: Cells, modes: Sequence[str]) -> dict[tuple[str, str], Place]:
    found: dict[tuple[str, str], Place] = {}
    for mode in modes:
        there = {entry: cell for (entry, other), cell in rounded.items() if other == mode}
        before = ranks({entry: list(cell.float_losses.values()) for entry, cell in there.items()})
        after = ranks({entry: list(cell.losses.values()) for entry, cell in there.items()})
        found |= {(entry, mode): Place(before[entry], after[entry]) for entry in there}
    return found


def heat_map(
    task: str, track: str, entries: Sequence[str], modes: Sequence[str], cells: Mapping[tuple[str, str], Interaction]
) -> Drawn:
    """Return the interactions as a grid: the colour says the sign, its strength the size, a border that it is told."""
    largest = max((abs(cell.value) for cell in cells.values()), default=0.0) or 1.0
    points = [
        {"entry": entry, "mode": mode, "nats": signed(cell.value), "share": abs(cell.value) / largest,
         "sign": LESS if cell.value < 0 else MORE, "interval": ends(cell), "told": 1 if cell.told else 0}
        for (entry, mode), cell in cells.items()
    ]  # fmt: skip
    x = alt.X("mode:N", title=None, sort=list(modes), axis=alt.Axis(orient="top", labelAngle=0, labelLimit=WIDTH))
    y = alt.Y("entry:N", title=None, sort=list(entries))
    tooltip = [alt.Tooltip(f"{name}:N") for name in ("entry", "mode", "nats", "interval")]
    base = alt.Chart(alt.Data(values=points)).encode(x=x, y=y)
    layers = [
        base.mark_rect().encode(
            color=alt.Color("sign:N", scale=None), tooltip=tooltip,
            opacity=alt.Opacity("share:Q", scale=alt.Scale(domain=[0, 1], range=[0.03, 0.75]), legend=None)),
        base.mark_rect(filled=False, stroke=INK, strokeWidth=1.2).encode(
            strokeOpacity=alt.StrokeOpacity("told:Q", scale=None, legend=None)),
        base.mark_text(color=INK, fontSize=12).encode(text="nats:N"),
    ]  # fmt: skip
    chart = alt.layer(*layers).properties(width=max(WIDTH * len(modes), WHOLE), height=ROW * len(entries))
    told = sum(cell.told for cell in cells.values())
    said = f"{told} of {len(cells)} interactions are told from 0; the largest is {largest:.4f} nats."
    return draw(chart, f"Interaction of entries and modes on {task}, track {track}", said, f"heat-{task}-{track}")


def outlying_of(task: str, track: str, material: Material) -> tuple[Outlying, ...]:
    """Return what was measured of the finished weights of each entry, the reference too, by mode and entry."""
    found: dict[tuple[str, str], list[AfterTraining]] = {}
    for record in _finished(task, track, material):
        child = material.quantized.get(record.run_id) if record.inputs.mode == FLOAT else None
        for mode, measured in child.modes.items() if child else ():
            if measured.degradation is not None:
                found.setdefault((mode, record.entry), []).append(measured)
    return tuple(
        Outlying(
            entry=entry,
            mode=mode,
            degradation=_mean([one.degradation for one in ones]) or 0.0,
            error=_mean([one.diagnosis.error for one in ones]),
            weights=_tails([one.diagnosis.weights for one in ones]),
            activations=_tails([one.diagnosis.activations for one in ones]),
        )
        for (mode, entry), ones in sorted(found.items())
    )


def _tails(tails: Sequence[Tails]) -> tuple[float | None, float | None, float | None]:
    return (_mean([one.max_over_mean for one in tails]), _mean([one.max_over_median for one in tails]),
            _mean([one.kurtosis for one in tails]))  # fmt: skip


def _mean(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if there else None


def outlier_chart(task: str, track: str, outlying: Sequence[Outlying]) -> Drawn | None:
    """Return degradation over how far the largest weights stand out, one mark for each entry and mode."""
    points = [
        {"entry": one.entry, "mode": one.mode, "outlier": one.weights[1], "degradation": one.degradation}
        for one in outlying if one.weights[1] is not None
    ]  # fmt: skip
    if not points:
        return None
    modes = sorted({str(point["mode"]) for point in points})
    hue = alt.Color("mode:N", title="mode", scale=alt.Scale(domain=modes, range=_cycled(COLOURS, len(modes))))
    shape = alt.Shape("mode:N", title="mode", scale=alt.Scale(domain=modes, range=_cycled(SHAPES, len(modes))))
    x = alt.X(
        "outlier:Q", title="largest weight over the median, mean over layers", scale=alt.Scale(zero=False, padding=12)
    )
    y = alt.Y("degradation:Q", title="degradation (nats)", scale=alt.Scale(type="symlog", constant=0.01))
    tooltip = [alt.Tooltip("entry:N"), alt.Tooltip("mode:N"),
               *(alt.Tooltip(f"{name}:Q", format=".4f") for name in ("outlier", "degradation"))]  # fmt: skip
    chart = alt.Chart(alt.Data(values=points)).mark_point(size=60, opacity=0.9, strokeWidth=1.8)
    chart = chart.encode(x=x, y=y, color=hue, shape=shape, tooltip=tooltip).properties(width=520, height=300)
    said = f"{len(points)} marks: every entry in each of {len(modes)} modes."
    return draw(chart, f"Degradation over outliers of the weights on {task}, track {track}", said,
                f"outliers-{task}-{track}")  # fmt: skip


def _cycled(values: Sequence[str], count: int) -> list[str]:
    return [values[i % len(values)] for i in range(count)]


def ends(cell: Interaction) -> str:
    """Return the interval in words."""
    if cell.margin is None:
        return f"no interval: {cell.seeds} seed{'s' * (cell.seeds > 1)}"
    return f"{signed(cell.value - cell.margin)} to {signed(cell.value + cell.margin)}"
