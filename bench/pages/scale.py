"""Speedup against size and budget: what is known as tasks grow, and where knowledge ends."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import altair as alt

from bench.pages.charts import COLOURS, RATIOS, SHAPES, arrows
from bench.pages.drawing import INK, Drawn, chart_of, draw
from bench.pages.marks import closed_ends, drawn_ends, open_ends
from bench.pages.shell import Page
from bench.pages.views import BoardView, Material, repeats
from bench.pages.words import interval, short, speedup
from bench.score.board import Board
from bench.score.speedup import Speedup
from bench.score.wording import MULTI_EPOCH, UNSTABLE
from bench.task import Task, rung_name

DRAWN = 6  # entries in one chart; more cannot be told apart
PANEL, HEIGHT = 560, 260


@dataclass(frozen=True)
class Size:
    """One task's board, as a place on the scale."""

    task: str
    parameters: int  # of the blocks
    view: BoardView
    budgets: tuple[float, ...]  # at which an entry has a speedup
    tokens_per_parameter: float  # of the largest of them

    @property
    def last(self) -> str:
        return rung_name(self.budgets[-1])


@dataclass(frozen=True)
class Cell:
    """One entry at one task's budget."""

    speedup: Speedup | None
    unstable: bool
    repeats: str  # the tag that heads it where text was repeated


@dataclass(frozen=True)
class ScaleView:
    mode: str
    track: str
    sizes: tuple[Size, ...]  # smallest model first
    rows: Mapping[str, tuple[tuple[Cell, ...], ...]]  # by entry: for each size, for each of its budgets
    charts: tuple[Drawn, ...]  # one for each size
    drawn: tuple[str, ...]
    beyond: str  # where evidence ends, in words


def scale_pages(material: Material, boards: Sequence[BoardView]) -> list[Page]:
    """Return the page where an entry has a speedup."""
    known = any(row.speedups for view in boards for row in view.board.rows)
    return [Page("scale.html", "scale.html", make_facts=partial(_facts, material, boards))] if known else []


def _facts(material: Material, boards: Sequence[BoardView]) -> dict[str, Any]:
    keys = dict.fromkeys((view.board.mode, view.board.track) for view in boards)
    views = [scale_view(mode, track, material, boards) for mode, track in keys]
    return {"views": [view for view in views if view is not None]}


def scale_view(mode: str, track: str, material: Material, boards: Sequence[BoardView]) -> ScaleView | None:
    """Return all tasks' boards of one mode and track together; None where no entry has a speedup there."""
    mine = [view for view in boards if (view.board.mode, view.board.track) == (mode, track)]
    sizes = [_size(view, material.tasks[view.board.task]) for view in mine]
    kept = sorted((size for size in sizes if size is not None), key=lambda size: (size.parameters, size.task))
    if not kept:
        return None
    entries = list(dict.fromkeys(line.row.entry for size in reversed(kept) for line in size.view.headline))
    rows = {entry: tuple(_cells(size, entry) for size in kept) for entry in entries}
    drawn = tuple(leading(kept[-1])[:DRAWN])
    charts = tuple(scale_chart(size, drawn, f"scale-{mode}-{track}-{size.task}") for size in kept)
    largest = kept[-1]
    beyond = (
        f"No evidence beyond {short(largest.parameters)} block parameters ({largest.task}), and none beyond "
        + ", ".join(f"{size.last} on {size.task}" for size in kept)
    )
    return ScaleView(mode, track, tuple(kept), rows, charts, drawn, beyond)


def leading(size: Size) -> list[str]:
    """Return a task's entries in its board's order, those with speedups that are ranked."""
    return [line.row.entry for line in size.view.headline
            if line.row.speedups and line.row.ranked]  # fmt: skip


def _size(view: BoardView, task: Task) -> Size | None:
    budgets = sorted({budget for row in view.board.rows for budget in row.speedups})
    if not budgets:
        return None
    parameters = task.matrix_parameters
    return Size(view.board.task, parameters, view, tuple(budgets), task.tokens(budgets[-1]) / parameters)


def _cells(size: Size, entry: str) -> tuple[Cell, ...]:
    board = size.view.board
    row = next((row for row in board.rows if row.entry == entry), None)
    rungs = {rung.budget: rung for rung in row.rungs} if row else {}
    cells = []
    for budget in size.budgets:
        rung, found = rungs.get(budget), row.speedups.get(budget) if row else None
        cells.append(Cell(found, budget in board.unstable, repeats(board, rung, found) if rung else ""))
    return tuple(cells)


def scale_chart(size: Size, entries: Sequence[str], number: str) -> Drawn:
    """Return speedups over budgets with their intervals; past the last budget stands that nothing is known."""
    board = size.view.board
    drawn = [(row.entry, budget, found) for row in board.rows if row.entry in entries
             for budget, found in sorted(row.speedups.items())]  # fmt: skip
    ends = [1.0, *(end for _, _, found in drawn for end in closed_ends(found))]
    up = [min(ends) / 1.05, max(ends) * 1.05]
    points = [
        {"entry": entry, "budget": budget, "speedup": found.figure, "low": low, "high": high,
         "unstable": budget in board.unstable, "said": speedup(found), "interval": interval(found)}
        for entry, budget, found in drawn for low, high in [drawn_ends(found, *up)]
    ]  # fmt: skip
    edges = [{"entry": entry, "budget": budget, "speedup": edge, "side": side}
             for entry, budget, found in drawn for edge, side in open_ends(found, *up)]  # fmt: skip
    last = size.budgets[-1]
    names = " : ".join(f"datum.value == {budget!r} ? {_axis_lines(board, budget)}" for budget in size.budgets)
    x = alt.X("budget:Q", title=f"budget on {size.task}",
              scale=alt.Scale(type="log", domain=[size.budgets[0] / 1.3, last * 2.2], nice=False),
              axis=alt.Axis(values=list(size.budgets), labelExpr=f"{names} : ''", grid=False))  # fmt: skip
    y, low = (alt.Y(f"{name}:Q", title="speedup at equal loss", axis=RATIOS,
                    scale=alt.Scale(type="log", domain=up, nice=False))
              for name in ("speedup", "low"))  # fmt: skip
    hue = alt.Color("entry:N", title="entry", sort=list(entries),
                    scale=alt.Scale(domain=list(entries), range=list(COLOURS[: len(entries)])))  # fmt: skip
    shape = alt.Shape("entry:N", title="entry", sort=list(entries),
                      scale=alt.Scale(domain=list(entries), range=list(SHAPES[: len(entries)])))  # fmt: skip
    base = chart_of(points)
    chosen = alt.selection_point("chosen", fields=["entry"], bind="legend")  # all where none is

    def shown(opacity: float) -> Any:
        return alt.condition(chosen, alt.value(opacity), alt.value(0.05))

    edge = chart_of([{"from": last * 1.25, "to": last * 2.2, "said": "no evidence beyond"}])
    one = chart_of([{"speedup": 1.0}])
    layers = [
        edge.mark_rect(opacity=0.08, color=INK).encode(x=alt.X("from:Q"), x2=alt.X2("to:Q")),
        edge.mark_text(align="left", dx=6, dy=8, baseline="top", color=INK, opacity=0.8, fontSize=12).encode(
            x=alt.X("from:Q"), y=alt.YValue(0), text=alt.Text("said:N")),
        one.mark_rule(color=INK, strokeDash=[4, 4], opacity=0.6).encode(y=y),
        base.mark_line(strokeWidth=1.5).encode(x=x, y=y, color=hue, opacity=shown(0.7)).add_params(chosen),
        base.mark_rule(strokeWidth=1.5).encode(x=x, y=low, y2=alt.Y2("high:Q"), color=hue, opacity=shown(0.5)),
        *(chart_of(marks).mark_point(filled=not hollow, size=70, strokeWidth=2).encode(
            x=x, y=y, color=hue, shape=shape, opacity=shown(1),
            tooltip=[alt.Tooltip("entry:N"), alt.Tooltip("budget:Q"), alt.Tooltip("said:N", title="speedup"),
                     alt.Tooltip("interval:N")])
          for hollow in (False, True) if (marks := [point for point in points if point["unstable"] == hollow])),
        *arrows(edges, x=x, y=y, color=hue, opacity=shown(1)),
    ]  # fmt: skip
    told = f"{len(entries)} entries on {size.task} at {', '.join(rung_name(budget) for budget in size.budgets)}."
    chart = alt.layer(*layers).properties(width=PANEL, height=HEIGHT)
    return draw(chart, f"Speedup over budgets: {size.view.name}", told, number)


def _axis_lines(board: Board, budget: float) -> list[str]:
    """Return a budget's name, and below it what heads its figures."""
    heads = {MULTI_EPOCH: budget in board.multi_epoch, UNSTABLE: budget in board.unstable}
    return [rung_name(budget), *(word for word, holds in heads.items() if holds)]
