"""The chart of a board: the reference's ladder, and the line at equal loss that is a speedup."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from bench.pages import words
from bench.pages.drawing import INK, Drawn, chart_of, draw, rounded
from bench.pages.views import headline_budget
from bench.pages.words import speedup, times
from bench.score.board import Board, Row, Rung
from bench.task import rung_name

LEADING = 6  # entries in one ladder chart; more cannot be told apart
# Each has its own shape and stands 3:1 against the light and the dark page; the first three are Okabe and Ito's.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#b5679a", "#9a7b00", "#7a7a7a")
SHAPES = ("square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right")
WIDTH, HEIGHT = 640, 380
ARROWS = {"low": "M-1-1L0 0L1-1", "high": "M-1 1L0 0L1 1"}  # at an open end, tip at the edge: down and up
ARROWS_ACROSS = {"low": "M1-1L0 0L1 1", "high": "M-1-1L0 0L-1 1"}  # to the left and to the right
LABEL_GAP = 15  # pixels between the labels of two lines
RATIOS = alt.Axis(labelExpr="format(datum.value, '.3~g')", labelOverlap=True)  # by itself a log axis leaves 0.9 bare
TIP = alt.Tooltip("say:N")  # shown where a reader points at a mark
CURVE_POINTS = 97


@dataclass(frozen=True)
class EqualLoss:
    """A line at an entry's loss, from its charged tokens to the reference's: their ratio is the speedup."""

    loss: float
    charged: float
    reference: float
    label: str
    measured: bool  # False: a bound, drawn dashed to the ladder's end


def equal_loss(board: Board, row: Row) -> EqualLoss | None:
    """Return the line at the budget that the board orders the row by; None where it has no speedup there."""
    budget = headline_budget(board, row)
    found = row.speedups.get(budget)
    if found is None:
        return None
    rung = next(rung for rung in row.rungs if rung.budget == budget)
    assert rung.mean is not None
    charged = rung.charged_tokens
    label = f"{row.entry} {speedup(found)}"
    return EqualLoss(rung.mean, charged, charged * found.figure, label, found.value is not None)


def ladder_chart(board: Board, rows: tuple[Row, ...], number: str) -> Drawn:
    """Return the reference's ladder and the rows' against charged tokens; number makes the ids unique in a page."""
    low, high = _losses(board, rows)
    drawn = [row for row in rows if any(rung.mean is not None and rung.mean <= high for rung in row.rungs)]
    lines = [equal_loss(board, row) for row in drawn]
    layers = [*_reference_layers(board), *_label_layers(board, drawn, lines, low, high)]
    for row, line, colour, shape in zip(drawn, lines, COLOURS, SHAPES, strict=False):
        layers += _row_layers(row, line, colour, shape, high)
    ends = [rung.charged_tokens for row in (board.reference, *drawn) for rung in row.rungs if rung.losses]
    x = alt.X("tokens:Q", title="charged training tokens (budget of the reference below)",
              scale=alt.Scale(type="log", domain=[min(ends) / 1.15, max(ends) * 1.15], nice=False),
              axis=_budget_axis(board.reference))  # fmt: skip
    y = alt.Y(
        "loss:Q", title="scoring loss (nats per token)", scale=alt.Scale(domain=[low, high], nice=False, zero=False)
    )
    chart = alt.layer(*(layer.encode(x=x, y=y) for layer in layers)).properties(width=WIDTH, height=HEIGHT)
    title = f"Loss against charged tokens: {board.task}, mode {board.mode}, track {board.track}"
    return draw(chart, title, _describe(board, drawn, lines), number, zoom=True)


def _losses(board: Board, rows: tuple[Row, ...]) -> tuple[float, float]:
    """Return the drawn range: the reference's ladder with some room above, and whatever reaches lower."""
    ladder = [loss for rung in board.reference.rungs for loss in rung.losses]
    low = min([*ladder, *(loss for row in rows for rung in row.rungs for loss in rung.losses)])
    room = max(max(ladder) - low, 1e-3)
    return low - 0.08 * room, max(ladder) + 0.15 * room


def not_drawn(board: Board, rows: tuple[Row, ...]) -> list[str]:
    """Return the entries that lie wholly above the chart."""
    high = _losses(board, rows)[1]
    return [row.entry for row in rows if not any(r.mean is not None and r.mean <= high for r in row.rungs)]


def _budget_axis(reference: Row) -> alt.Axis:
    ticks = [rounded(rung.charged_tokens) for rung in reference.rungs if rung.losses]
    names = " : ".join(f"datum.value == {tick!r} ? '{rung_name(rung.budget)}'" for tick, rung in
                       zip(ticks, (r for r in reference.rungs if r.losses), strict=True))  # fmt: skip
    return alt.Axis(
        values=ticks, labelExpr=f"[format(datum.value, '.3~s'), {names} : '']", labelOverlap=True, grid=True
    )


def _reference_layers(board: Board) -> list[alt.Chart]:
    measured = [rung for rung in board.reference.rungs if rung.losses]
    means = _means(board.reference, measured)
    seeds = [{"tokens": rung.charged_tokens, "loss": loss} for rung in measured for loss in rung.losses]
    curve = means
    if board.curve is not None:
        first, last = board.curve.tokens[0], board.curve.tokens[-1]
        tokens = [first * (last / first) ** (i / (CURVE_POINTS - 1)) for i in range(CURVE_POINTS)]
        curve = [
            {"tokens": t, "loss": loss} for t, loss in zip(tokens, board.curve.loss_at(tokens).tolist(), strict=True)
        ]
    return [
        chart_of(curve).mark_line(color=INK, strokeWidth=2),
        chart_of(seeds).mark_tick(color=INK, orient="horizontal", size=12, thickness=1, opacity=0.6),
        chart_of(means).mark_point(color=INK, shape="circle", filled=True, size=60, opacity=1).encode(TIP),
    ]


def _means(row: Row, rungs: Sequence[Rung]) -> list[dict[str, Any]]:
    return [
        {"tokens": rung.charged_tokens, "loss": rung.mean,
         "say": f"{row.entry} at {rung_name(rung.budget)}: {words.loss(rung.mean)} nats, {len(rung.seeds)} seeds"}
        for rung in rungs
    ]  # fmt: skip


def _row_layers(row: Row, line: EqualLoss | None, colour: str, shape: str, high: float) -> list[alt.Chart]:
    drawn = [rung for rung in row.rungs if rung.mean is not None and rung.mean <= high]
    means = _means(row, drawn)
    layers = [
        chart_of(means).mark_line(color=colour, strokeWidth=1.5, strokeDash=[2, 3]),
        chart_of(means).mark_point(color=colour, shape=shape, filled=True, size=80, opacity=1).encode(TIP),
    ]
    if line is not None and line.loss <= high:
        say = f"{row.entry} ends at {line.loss:.4f} nats: {line.reference:,.0f} ÷ {line.charged:,.0f} tokens = "
        say += times(line.reference / line.charged) if line.measured else line.label.removeprefix(f"{row.entry} ")
        ends = [{"tokens": tokens, "loss": line.loss, "say": say} for tokens in (line.charged, line.reference)]
        dash = [1, 0] if line.measured else [6, 4]
        layers.append(chart_of(ends).mark_line(color=colour, strokeWidth=2.5, strokeDash=dash).encode(TIP))
        layers.append(chart_of(ends).mark_line(color=colour, strokeWidth=14, opacity=0.001).encode(TIP))
    return layers


def arrows(edges: Sequence[dict[str, Any]], paths: Mapping[str, str] = ARROWS, **encoded: Any) -> list[alt.Chart]:
    """Return a layer for each "side" at which intervals are open, with an arrow at every edge that is given."""
    return [
        chart_of([edge for edge in edges if edge["side"] == side])
        .mark_point(shape=path, strokeWidth=1.5, size=90).encode(**encoded)
        for side, path in paths.items() if any(edge["side"] == side for edge in edges)
    ]  # fmt: skip


def _label_layers(
    board: Board, rows: list[Row], lines: list[EqualLoss | None], low: float, high: float
) -> list[alt.Chart]:
    """Return one label per entry at its line's right end, moved up or down where two would touch."""
    last = [rung for rung in board.reference.rungs if rung.losses][-1]
    wanted = [(last.mean, last.charged_tokens, board.reference.entry)]
    for row, line in zip(rows, lines, strict=True):
        rung = _last_drawn(row, high)
        if line is not None and line.loss <= high:
            wanted.append((line.loss, max(line.charged, line.reference), line.label))
        else:
            wanted.append((rung.mean, rung.charged_tokens, row.entry))
    per_pixel = (high - low) / HEIGHT
    labels, lowest = [], low
    for loss, tokens, text in sorted(wanted, key=lambda label: (label[0] or 0.0, label[2])):
        lowest = max(loss or 0.0, lowest)
        labels.append({"tokens": tokens, "loss": lowest, "text": text})
        lowest += LABEL_GAP * per_pixel
    text = chart_of(labels).mark_text(color=INK, clip=False, align="left", dx=8, dy=-7, fontSize=12)
    return [text.encode(text=alt.Text("text:N"))]


def _last_drawn(row: Row, high: float) -> Rung:
    return [rung for rung in row.rungs if rung.mean is not None and rung.mean <= high][-1]


def _describe(board: Board, rows: list[Row], lines: list[EqualLoss | None]) -> str:
    said = [f"The ladder of {board.reference.entry} falls with tokens."]
    for row, line in zip(rows, lines, strict=True):
        if line is None:
            said.append(f"{row.entry} has no speedup.")
        else:
            ratio = times(line.reference / line.charged) if line.measured else line.label.removeprefix(f"{row.entry} ")
            said.append(f"{row.entry} ends at {line.loss:.4f} nats with {line.charged:,.0f} charged tokens: {ratio}.")
    return " ".join(said)
