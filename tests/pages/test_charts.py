"""Charts are the same bytes whatever was drawn before, named for who cannot see them, and true to the board."""

import re

import pytest

from bench.pages.charts import equal_loss, ladder_chart, not_drawn


@pytest.fixture
def board(material):
    return material.boards[0]


def row_of(board, name):
    return next(row for row in board.rows if row.entry == name)


def test_a_chart_does_not_depend_on_what_was_drawn_before(board):
    first = ladder_chart(board, board.rows, "a")
    ladder_chart(board, board.rows[:1], "b")
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
