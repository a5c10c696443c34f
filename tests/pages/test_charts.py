"""Charts are the same bytes whatever was drawn before, named for who cannot see them, and true to the board."""

import dataclasses
import json
import re

import altair as alt
import pytest

from bench.pages.charts import equal_loss, ladder_chart, not_drawn
from bench.pages.drawing import unchecked
from bench.pages.pareto import pareto_view
from bench.pages.scale import scale_view
from bench.pages.tasks import forest


@pytest.fixture
def board(material):
    return material.boards[0]


def row_of(board, name):
    return next(row for row in board.rows if row.entry == name)


def test_a_chart_does_not_depend_on_what_was_drawn_before(board):
    first = ladder_chart(board, board.rows, "a")
    ladder_chart(board, board.rows[:1], "b")
    assert ladder_chart(board, board.rows, "a") == first


def test_a_build_holds_no_chart_to_its_schema_draws_the_same_and_tests_do_hold_it(board):
    checked = ladder_chart(board, board.rows, "a")
    with unchecked():
        alt.Chart("nothing").mark_point(opacity="much")
        assert ladder_chart(board, board.rows, "a") == checked
    with pytest.raises(alt.utils.schemapi.SchemaValidationError):
        alt.Chart("nothing").mark_point(opacity="much")


def test_the_line_at_equal_loss_is_the_speedup(board):
    quick = row_of(board, "quick")
    line = equal_loss(board, quick)
    assert line.reference / line.charged == pytest.approx(quick.speedups[board.headline_budget].value)
    assert float(board.curve.loss_at(line.reference)) == pytest.approx(line.loss)
    assert line.label in ladder_chart(board, (quick,), "a").svg


def test_an_entry_without_a_finished_run_has_no_line_and_is_said_to_be_missing(board):
    gone = row_of(board, "gone")
    assert equal_loss(board, gone) is None
    assert not_drawn(board, (gone,)) == ["gone"]
    assert "<svg" in ladder_chart(board, (gone,), "a").svg


def test_a_chart_has_a_name_a_description_and_no_colour_that_a_dark_page_hides(board):
    svg = ladder_chart(board, board.rows, "n").svg
    assert svg.startswith("<svg ") and 'role="img"' in svg
    assert '<title id="n-t">' in svg and '<desc id="n-d">' in svg
    assert set(re.findall(r'(?:fill|stroke)="(#000|#000000|black|white|#fff|#ffffff)"', svg)) == set()
    assert "currentColor" in svg


def of_intervals(view, evidence):
    """Return every chart of intervals as its specification, and the axis that they lie along."""
    drawn = {"forest": forest(view, "f"), "pareto": pareto_view(view).chart,
             "scale": scale_view("bf16", "tuned", evidence, [view]).charts[0]}  # fmt: skip
    return {name: (json.loads(chart.spec)["layer"], "x" if name == "forest" else "y") for name, chart in drawn.items()}


def arrows(layers):
    return [layer for layer in layers if layer["mark"].get("shape", "").startswith("M")]


@pytest.mark.parametrize("side", ["low", "high"])
def test_an_open_end_is_drawn_to_the_chart_s_edge_with_an_arrow_there(boards, evidence, side):
    def opened(row):
        found = {at: dataclasses.replace(one, **{side: None}) for at, one in row.speedups.items()}
        return dataclasses.replace(row, speedups=found) if row.entry == "muon" else row

    view = boards[0]
    rows = {row.entry: opened(row) for row in view.board.rows}
    headline = tuple(
        dataclasses.replace(line, row=row, speedup=row.speedups.get(line.rung.budget))
        for line in view.headline for row in [rows[line.row.entry]]
    )  # fmt: skip
    board = dataclasses.replace(view.board, rows=tuple(rows.values()))
    changed = dataclasses.replace(view, board=board, headline=headline)
    for name, (layers, axis) in of_intervals(changed, evidence).items():
        along = (layer["encoding"].get(axis, {}).get("scale", {}) for layer in layers)
        low, high = next(scale["domain"] for scale in along if "domain" in scale)
        edge = {"low": low, "high": high}[side]
        spans = next(points for layer in layers if "low" in (points := layer["data"]["values"])[0])
        assert {point[side] for point in spans if point["entry"] == "muon"} == {edge}, name
        drawn = [at for layer in arrows(layers) for at in layer["data"]["values"] if at["side"] == side]
        assert len(drawn) == sum(point[side] == edge for point in spans) >= 1, name
