"""Pairs side by side say what the tie letters say, and an interval that the test agrees with."""

import json
import math

import pytest

from bench.score.board import make_board
from bench.score.export import board_facts
from bench.score.statistics import LEVEL
from bench.score.versus import versus_at


@pytest.fixture
def crowd(task, ladder, make_runs):
    rows = [row for number in range(9) for row in make_runs(
        f"entry-{number}", {1.0: [3.53 - number / 250 + d for d in (-0.003, 0.0, 0.002)]})]  # fmt: skip
    return make_board(ladder + rows, task, "adamw-ref")


def test_a_pair_is_told_apart_where_it_shares_no_letter(crowd):
    letters = {row.entry: set(row.standings[1.0].letters) for row in crowd.rows}
    found = versus_at(crowd, 1.0)
    assert len(found) == 9 * 8 / 2
    assert {pair.apart for pair in found.values()} == {True, False}
    for pair in found.values():
        assert pair.apart == (not letters[pair.one] & letters[pair.other])


def test_the_interval_of_a_pair_excludes_zero_where_its_own_test_does(crowd):
    means = {row.entry: row.rungs[0].mean for row in crowd.rows}
    for pair in versus_at(crowd, 1.0).values():
        assert pair.gap == pytest.approx(means[pair.one] - means[pair.other])
        assert (abs(pair.gap) > pair.margin) == (pair.p_value < LEVEL)
        assert pair.p_holm >= pair.p_value


def test_the_interval_of_a_pair_is_of_the_level_that_it_is_tested_at(task, ladder, make_runs):
    """Where seeds were looked at before, its test is harder, and its interval is wider by as much."""
    rows = ladder + make_runs("muon", {1.0: [3.409, 3.41, 3.411]}) + make_runs("soap", {1.0: [3.4125, 3.4135, 3.415]})
    plain, later = (
        versus_at(make_board(rows, task, "adamw-ref", looks={"muon": look}), 1.0)["muon", "soap"] for look in (0, 2)
    )
    assert (plain.level, later.level) == (LEVEL, LEVEL / 4)
    for pair in (plain, later):
        assert (abs(pair.gap) > pair.margin) == (pair.p_value < LEVEL)
    assert plain.p_value < LEVEL < later.p_value and plain.gap == later.gap


def test_where_nothing_is_ranked_no_pair_is_tested(crowd, task, ladder, make_runs):
    assert versus_at(crowd, 0.5) == {}
    declared = [row._replace(track="declared") for row in ladder + make_runs("muon", {1.0: [3.4, 3.41]})]
    assert versus_at(make_board(declared, task, "adamw-ref", track="declared"), 1.0) == {}


def test_a_rise_of_the_ladder_that_is_noise_makes_no_number_of_a_pair(task, make_runs):
    """Where passes are charged, a loss is moved along the ladder: on a flat stretch nothing tells how far."""
    levels = {0.25: 3.6, 0.5: 3.3, 1.0: 3.0, 1.5: 3.003, 2.0: 2.8, 4.0: 2.5}
    rows = make_runs("adamw-ref", {at: [loss - 0.006, loss, loss + 0.006] for at, loss in levels.items()})
    for name, loss, passes in (("a", 2.78, 1.55), ("b", 2.77, 1.6), ("c", 3.01, 1.0), ("d", 2.795, 1.0)):
        rows += make_runs(name, {2.0: [loss - 0.01, loss, loss + 0.01]}, passes=passes)
    board = make_board(rows, task, "adamw-ref")
    assert board.curve.slope_at([float(1.25 * task.budget.tokens)])[0] == 0, "a flat stretch"
    json.dumps(board_facts(board, task), allow_nan=False)
    assert {row.entry for row in board.rows if 2.0 in row.standings} >= {"c", "d"}
    for pair in versus_at(board, 2.0).values():
        assert math.isfinite(pair.gap) and math.isfinite(pair.p_value)
