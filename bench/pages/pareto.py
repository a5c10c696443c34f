"""What a speedup costs in step time and memory, and who is dominated by whom: a page over all boards with costs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import altair as alt

from bench.pages.charts import RATIOS, arrows
from bench.pages.drawing import INK, Drawn, chart_of, draw
from bench.pages.marks import closed_ends, drawn_ends, open_ends
from bench.pages.shell import Page
from bench.pages.views import BoardView, Line, Material, read_at
from bench.pages.words import beside, interval, speedup
from bench.score.cost import Beside
from bench.score.rows import Standing
from bench.score.speedup import Speedup

FRONTS = {True: "nobody dominates it", False: "dominated, not ranked, or not timed"}
FRONT, BEHIND = "#0072b2", "#7a7a7a"  # of Okabe and Ito's; the mark's filling says the same
WIDTH, HEIGHT = 640, 380
NAMED = 18  # points with a name in the chart; those on the front come first
RADIUS, LETTER = 9.0, 6.5  # pixels of a point, and of a letter of its name


@dataclass(frozen=True)
class ParetoLine:
    """One entry at its headline budget, with what stands beside it."""

    line: Line
    beside: Beside
    standing: Standing | None  # None: a reference, a placebo, or not ranked there

    @property
    def on_front(self) -> bool:
        """Whether nobody dominates it, in so far as the tests of pairs and the costs say."""
        return self.standing is not None and self.standing.dominated_by == ()


@dataclass(frozen=True)
class ParetoView:
    view: BoardView
    budgets: str
    lines: tuple[ParetoLine, ...]
    chart: Drawn | None
    unmeasured: tuple[str, ...]  # entries without a step time


def pareto_pages(material: Material, boards: Sequence[BoardView]) -> list[Page]:
    return [Page("pareto.html", "pareto.html", make_facts=partial(_facts, boards))] if material.boards else []


def _facts(boards: Sequence[BoardView]) -> dict[str, Any]:
    return {"views": [view for view in map(pareto_view, boards) if view.lines]}


def pareto_view(view: BoardView) -> ParetoView:
    lines, unmeasured = [], []
    for line in view.headline:
        beside = line.row.beside.get(line.rung.budget)
        if beside is None or beside.step is None or line.speedup is None:
            unmeasured.append(line.row.entry)
        else:
            lines.append(ParetoLine(line, beside, line.row.standings.get(line.rung.budget)))
    return ParetoView(
        view=view,
        budgets=read_at(view.board, (one.line for one in lines)),
        lines=tuple(lines),
        chart=pareto_chart(view, lines) if lines else None,
        unmeasured=tuple(unmeasured),
    )


def pareto_chart(view: BoardView, lines: Sequence[ParetoLine]) -> Drawn:
    """Return token speedup over step time: above the diagonal an entry saves time as well as tokens."""
    lines = [one for one in lines if one.line.row.placebo_of is None]
    across = _domain([one.beside.step or 1.0 for one in lines])
    up = _domain([end for one in lines for end in closed_ends(_speedup(one))])
    points = [
        {
            "entry": one.line.row.entry, "step": one.beside.step, "speedup": _figure(one), "low": low, "high": high,
            "interval": interval(_speedup(one)), "memory": one.beside.memory or 1.0,
            "said": speedup(_speedup(one)), "time": beside(one.beside.time, _speedup(one)),
            "front": FRONTS[one.on_front],
        }
        for one in lines for low, high in [drawn_ends(_speedup(one), *up)]
    ]  # fmt: skip
    edges = [
        {"step": one.beside.step, "speedup": edge, "side": side, "front": FRONTS[one.on_front]}
        for one in lines for edge, side in open_ends(_speedup(one), *up)
    ]  # fmt: skip
    x = alt.X("step:Q", title="step time over the reference’s", axis=RATIOS,
              scale=alt.Scale(type="log", domain=across, nice=False))  # fmt: skip
    y, low = (alt.Y(f"{name}:Q", title="token speedup", axis=RATIOS, scale=alt.Scale(type="log", domain=up, nice=False))
              for name in ("speedup", "low"))  # fmt: skip
    tooltip = [alt.Tooltip("entry:N"), alt.Tooltip("said:N", title="token speedup"), alt.Tooltip("interval:N"),
               alt.Tooltip("time:N", title="time speedup"),
               *(alt.Tooltip(f"{name}:Q", format=".2f") for name in ("step", "memory"))]  # fmt: skip
    ends = max(across[0], up[0]), min(across[1], up[1])
    diagonal = [{"step": end, "speedup": end} for end in ends]
    base = chart_of(points)
    shade = alt.condition(f"datum.front == '{FRONTS[True]}'", alt.value(FRONT), alt.value(BEHIND))
    colour = alt.ColorValue(**shade)
    layers = [
        chart_of(diagonal).mark_line(color=INK, strokeDash=[4, 4], opacity=0.6, clip=True).encode(
            x=x, y=y),
        base.mark_rule(strokeWidth=1.5, opacity=0.6, clip=True).encode(
            x=x, y=low, y2=alt.Y2("high:Q"), color=colour),
        base.mark_point(filled=False, strokeWidth=2, fill="transparent", opacity=1).encode(
            x=x, y=y, stroke=alt.StrokeValue(**shade), tooltip=tooltip,
            size=alt.Size("memory:Q", title="peak memory over the reference’s", scale=alt.Scale(range=[60, 260]),
                          legend=alt.Legend(orient="bottom", values=_memories(lines), titleLimit=400,
                                            symbolFillColor="transparent"))),
        *arrows(edges, x=x, y=y, color=colour),
        chart_of(_names(lines, across, up)).mark_text(align="left", dx=11, color=INK, fontSize=12)
        .encode(x=x, y=y, text=alt.Text("name:N")),
    ]  # fmt: skip
    chart = alt.layer(*layers).properties(width=WIDTH, height=HEIGHT)
    front = [one.line.row.entry for one in lines if one.on_front]
    told = f"Nobody dominates {', '.join(front)}." if front else "Nothing here is both ranked and timed."
    return draw(chart, f"Token speedup over step time: {view.name}", told, f"pareto-{view.board.task}-{view.anchor}")


def _domain(values: Sequence[float]) -> list[float]:
    """Return the range of an axis, 1 in it, with room about it."""
    low, high = min(*values, 1.0), max(*values, 1.0)
    room = max((high / low) ** 0.08, 1.03)
    return [low / room, high * room]


def _names(lines: Sequence[ParetoLine], across: Sequence[float], up: Sequence[float]) -> list[dict[str, object]]:
    """Return where the names stand: beside their points, moved down where they would touch others or their names."""

    def pixels(one: ParetoLine) -> tuple[float, float]:
        x = WIDTH * math.log((one.beside.step or 1.0) / across[0]) / math.log(across[1] / across[0])
        return x, HEIGHT * math.log(up[1] / _figure(one)) / math.log(up[1] / up[0])

    points = {one.line.row.entry: pixels(one) for one in lines}
    taken = {name: (x - RADIUS, x + RADIUS, y - RADIUS, y + RADIUS) for name, (x, y) in points.items()}
    found: list[dict[str, object]] = []
    chosen = sorted(lines, key=lambda one: not one.on_front)[:NAMED]
    for one in sorted(chosen, key=lambda one: (-_figure(one), one.line.row.entry)):
        name = one.line.row.entry
        x, y = points[name]
        others = [box for other, box in taken.items() if other != name]
        while any(left < x + RADIUS + LETTER * len(name) and right > x + RADIUS and top < y + 6 and low > y - 6
                  for left, right, top, low in others):  # fmt: skip
            y += 1
        taken[f"{name}'s name"] = (x + RADIUS, x + RADIUS + LETTER * len(name), y - 6, y + 6)
        found.append({"step": one.beside.step, "speedup": up[1] * (up[0] / up[1]) ** (y / HEIGHT), "name": name})
    return found


def _memories(lines: Sequence[ParetoLine]) -> list[float]:
    """Return the sizes that the legend shows: the least and the largest."""
    found = [one.beside.memory or 1.0 for one in lines]
    return sorted({round(min(found), 1), round(max(found), 1)})


def _speedup(one: ParetoLine) -> Speedup:
    assert one.line.speedup is not None
    return one.line.speedup


def _figure(one: ParetoLine) -> float:
    return _speedup(one).figure
