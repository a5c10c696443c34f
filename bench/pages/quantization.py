"""What survives rounding: each entry in each mode against the reference, and whether the order of entries changes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import altair as alt

from bench.errors import BenchError
from bench.pages.charts import COLOURS, SHAPES
from bench.pages.drawing import INK, Drawn, chart_of, draw
from bench.pages.shell import Page
from bench.pages.views import Material
from bench.pages.words import signed
from bench.score.boards import rounded_tracks
from bench.score.degradation import Estimate
from bench.score.measured import Link, Measures
from bench.score.modes import Lost, ModeRow, ModeTable
from bench.score.told import told_modes
from bench.score.worth import worths
from bench.task import rung_name

LESS, MORE = "#0072b2", "#d55e00"  # the mode costs the entry less, or more, than the reference
WIDTH, ROW = 74, 26  # pixels of a cell, at least
LINE = 13  # pixels from one line of a name to the next
WHOLE = 520  # of all together, at least: a page draws charts as wide as it is
DRAWN = 24  # entries in one heat map, those of the lowest float losses; the table behind it holds all


@dataclass(frozen=True)
class Gap:
    """A task and track of which modes were measured, and of which there is no table yet."""

    task: str
    track: str
    why: tuple[str, ...]


@dataclass(frozen=True)
class QuantizationView:
    task: str
    track: str
    reference: str
    basis: Literal["loss", "budget"]  # at which entries are compared: losses, where the reference's rungs reach them
    modes: tuple[str, ...]
    entries: tuple[str, ...]  # lowest float loss first
    cells: Mapping[tuple[str, str], ModeRow]  # by entry and mode, the reference's too
    chart: Drawn
    lost: tuple[Lost, ...]  # that no seed came through with
    measures: tuple[Measures, ...]
    links: tuple[Link, ...]
    scatter: Drawn | None  # of outliers of the weights and degradations
    rung: str  # at which entries are shown: the lowest ranked one, where modes of training are run
    table: ModeTable

    @property
    def drawn(self) -> tuple[str, ...]:
        """The entries that the heat map has room for."""
        return self.entries[:DRAWN]

    @property
    def anchor(self) -> str:
        return f"{self.task}-{self.track}"


def quantization_pages(material: Material) -> list[Page]:
    """Return the page where a mode other than float was measured."""
    found = rounded_tracks(material.rows, material.quantized, material.tasks)
    return [Page("quantization.html", "quantization.html", make_facts=partial(_facts, found, material))] * bool(found)


def _facts(places: Sequence[tuple[str, str]], material: Material) -> dict[str, Any]:
    found = [quantization_view(task, track, material) for task, track in places]
    views = [view for view in found if isinstance(view, QuantizationView)]
    return {"views": views, "gaps": [gap for gap in found if isinstance(gap, Gap)],
            "worth": worths((material.tasks[view.task], view.table) for view in views)}  # fmt: skip


def quantization_view(task: str, track: str, material: Material) -> QuantizationView | Gap:
    """Return a task's entries in all modes at the lowest ranked rung, or why there is nothing to show."""
    definition, studies = material.tasks[task], material.studies.get(task, [])
    try:
        table = told_modes(material.rows.get(task, []), material.quantized, definition, track, studies)
    except BenchError as error:
        return Gap(task, track, tuple(filter(None, (error.what, error.hint))))
    rung = definition.budget.compared[0]
    at_rung = [(mode, row) for mode, found in table.rows.items() for row in found if row.cell.budget == rung]
    cells = {(row.cell.entry, mode): row for mode, row in at_rung}
    others = {key: row for key, row in cells.items() if key[0] != table.reference}
    lost = tuple(one for one in table.lost if one.budget == rung)
    basis: Literal["loss", "budget"] = (
        "loss" if any(row.compared.at_equal_loss for row in others.values()) else "budget"
    )
    beyond = {key: found for key, row in others.items() if (found := beyond_reference(row, basis)) is not None}
    if not beyond:
        told = [f"{one.entry} in {one.mode}: no seed came through ({one.why})" for one in lost]
        why = f"no entry stands beside {table.reference} in any mode at {rung_name(rung)} yet"
        return Gap(task, track, (why, *told, *table.notes))
    best = {entry: row.cell.float_loss for (entry, _), row in others.items()}
    entries = sorted(best, key=lambda entry: (best[entry], entry))
    modes = [mode for mode in table.rows if any(other == mode for _, other in others)]
    measured = tuple(one for one in table.measures if one.budget == rung)
    return QuantizationView(
        task=task,
        track=track,
        reference=table.reference,
        basis=basis,
        modes=tuple(modes),
        entries=tuple(entries),
        cells=cells,
        chart=heat_map(task, track, entries[:DRAWN], modes, beyond, basis),
        lost=lost,
        measures=measured,
        links=tuple(link for link in table.links if link.budget == rung),
        scatter=outlier_chart(task, track, measured),
        rung=rung_name(rung),
        table=table,
    )


def beyond_reference(row: ModeRow, basis: str) -> Estimate | None:
    """Return what the mode costs the entry beyond what it costs the reference, at equal loss or at equal budget."""
    return row.compared.at_equal_loss if basis == "loss" else row.compared.at_equal_budget


def heat_map(
    task: str,
    track: str,
    entries: Sequence[str],
    modes: Sequence[str],
    cells: Mapping[tuple[str, str], Estimate],
    basis: str,
) -> Drawn:
    """Return what modes cost entries beyond the reference: colour says the sign, its strength the size, a frame that it
    is told from 0.
    """
    cells = {(entry, mode): cell for (entry, mode), cell in cells.items() if entry in entries}
    largest = max((abs(cell.value) for cell in cells.values()), default=0.0) or 1.0
    points = [
        {"entry": entry, "mode": mode, "nats": signed(cell.value), "share": abs(cell.value) / largest,
         "sign": LESS if cell.value < 0 else MORE, "interval": ends(cell), "told": 1 if cell.sure else 0}
        for (entry, mode), cell in cells.items()
    ]  # fmt: skip
    names = " : ".join(f"datum.value == '{mode}' ? {_in_two(mode)}" for mode in modes)
    room = LINE * any(len(_in_two(mode)) > 1 for mode in modes)  # a second line is drawn below the first
    axis = alt.Axis(orient="top", labelAngle=0, labelLimit=WIDTH, labelExpr=f"{names} : ''", labelPadding=4 + room,
                    ticks=False)  # fmt: skip
    x = alt.X("mode:N", title=None, sort=list(modes), axis=axis)
    y = alt.Y("entry:N", title=None, sort=list(entries))
    tooltip = [alt.Tooltip(f"{name}:N") for name in ("entry", "mode", "nats", "interval")]
    base = chart_of(points).encode(x=x, y=y)
    layers = [
        base.mark_rect().encode(
            color=alt.Color("sign:N", scale=None), tooltip=tooltip,
            opacity=alt.Opacity("share:Q", scale=alt.Scale(domain=[0, 1], range=[0.03, 0.75]), legend=None)),
        base.mark_rect(filled=False, stroke=INK, strokeWidth=1.2).encode(
            strokeOpacity=alt.StrokeOpacity("told:Q", scale=None, legend=None)),
        base.mark_text(color=INK, fontSize=12).encode(text=alt.Text("nats:N")),
    ]  # fmt: skip
    chart = alt.layer(*layers).properties(width=max(WIDTH * len(modes), WHOLE), height=ROW * len(entries))
    told = sum(cell.sure for cell in cells.values())
    said = f"{told} of {len(cells)} differences are told from 0; the largest is {largest:.4f} nats."
    title = f"Degradation beyond the reference's at equal {basis} on {task}, track {track}"
    return draw(chart, title, said, f"heat-{task}-{track}")


def _in_two(mode: str) -> list[str]:
    """Return a mode's name in one line or two: ptq-w4a4, hadamard."""
    parts = mode.split("-", 2)
    return ["-".join(parts[:2]), *parts[2:]]


def outlier_chart(task: str, track: str, measured: Sequence[Measures]) -> Drawn | None:
    """Return degradation over how far the largest weights stand out, one mark for each entry and mode."""
    points = [
        {"entry": one.entry, "mode": one.mode, "outlier": value, "degradation": one.degradation}
        for one in measured if (value := one.value("weights", "max_over_median")) is not None
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
    chart = chart_of(points).mark_point(size=60, opacity=0.9, strokeWidth=1.8)
    chart = chart.encode(x=x, y=y, color=hue, shape=shape, tooltip=tooltip).properties(width=520, height=300)
    said = f"{len(points)} marks: every entry in each of {len(modes)} modes."
    return draw(chart, f"Degradation over outliers of the weights on {task}, track {track}", said,
                f"outliers-{task}-{track}")  # fmt: skip


def _cycled(values: Sequence[str], count: int) -> list[str]:
    return [values[i % len(values)] for i in range(count)]


def ends(found: Estimate | None) -> str:
    """Return the interval in words."""
    if found is None or found.low is None or found.high is None:
        return "no interval"
    return f"{signed(found.low)} to {signed(found.high)}"
