"""Charts are the same bytes whatever was drawn before, named for who cannot see them, and true to the board."""

import re

import pytest

from bench.pages.charts import equal_loss, ladder_chart, not_drawn, run_chart


@pytest.fixture
def board(material):
    return material.boards[0]


def row_of(board, name):
    return next(row for row in board.rows if row.entry == name)


def test_a_chart_does_not_depend_on_what_was_drawn_before(board, material):
    first = ladder_chart(board, board.rows, "a")
    record = material.records[0]
    run_chart(record, material.logs[record.run_id], "b")
    assert ladder_chart(board, board.rows, "a") == first


def test_the_line_at_equal_loss_is_the_speedup(board):
    quick = row_of(board, "quick")
    line = equal_loss(quick)
    assert line.reference / line.charged == pytest.approx(quick.speedups[2.0].value)
    assert float(board.curve.loss_at(line.reference)) == pytest.approx(line.loss)
    assert line.label in ladder_chart(board, (quick,), "a").svg


def test_an_entry_without_a_finished_run_has_no_line_and_is_said_to_be_missing(board):
    gone = row_of(board, "gone")
    assert equal_loss(gone) is None
    assert not_drawn(board, (gone,)) == ["gone"]
    assert "<svg" in ladder_chart(board, (gone,), "a").svg


def test_a_chart_has_a_name_a_description_and_no_colour_that_a_dark_page_hides(board):
    svg = ladder_chart(board, board.rows, "n").svg
    assert svg.startswith("<svg ") and 'role="img"' in svg
    assert '<title id="n-t">' in svg and '<desc id="n-d">' in svg
    assert set(re.findall(r'(?:fill|stroke)="(#000|#000000|black|white|#fff|#ffffff)"', svg)) == set()
    assert "currentColor" in svg


def test_losses_that_were_no_numbers_are_left_out_of_a_run_s_line(material):
    record = next(record for record in material.records if record.outcome == "finished")
    log = material.logs[record.run_id]
    holes = log.model_copy(update={"loss": (None, *log.loss[1:]), "curve": ()})
    assert "NaN" not in run_chart(record, holes, "a").spec
    assert "NaN" not in run_chart(record, holes.model_copy(update={"loss": ()}), "a").spec
