import math

import numpy as np
import pytest

from bench.score.board import make_board
from bench.score.placebo import Tau, measure_tau, placebo_twin
from bench.score.scorer import mean_correlation
from bench.score.table import render

LADDER = {0.25: 3.95, 0.5: 3.70, 1.0: 3.53, 2.0: 3.41, 4.0: 3.32}
NEAR = {"adamw": 3.530, "adamw@1": 3.531, "adamw@2": 3.529, "adamw@3": 3.530,
        "muon": 3.452, "muon@1": 3.450, "muon@2": 3.451, "muon@3": 3.449}  # fmt: skip


def family(make_runs, means, budget=1.0):
    return [row for entry, mean in means.items()
            for row in make_runs(entry, {budget: [mean - 0.002, mean, mean + 0.002]})]  # fmt: skip


@pytest.mark.parametrize(
    ("entry", "twin"),
    [("adamw@1", "adamw"), ("adamw@12", "adamw"), ("adamw", None), ("adamw@0", None), ("@1", None), ("a@1x", None)],
)
def test_a_placebo_is_known_by_its_name(entry, twin):
    assert placebo_twin(entry) == twin


def test_tau_by_hand_has_two_degrees_of_freedom_a_family():
    adamw = [{1.0: math.exp(x)} for x in (0.01, 0.02, 0.03)]
    muon = [{1.0: 1.3 * math.exp(x), 2.0: 1.2 * math.exp(y)} for x, y in ((0.0, 0.04), (0.0, 0.0), (0.06, -0.04))]
    within = [0.0001, (np.var([0, 0, 0.06], ddof=1) + np.var([0.04, 0, -0.04], ddof=1)) / 2]
    assert measure_tau([adamw, muon]) == Tau(pytest.approx(math.sqrt(np.mean(within))), 4)


def test_a_budget_that_one_placebo_lacks_is_left_out_and_one_placebo_shows_nothing():
    assert measure_tau([[{1.0: 1.0, 2.0: 3.0}, {1.0: 1.0}]]) == Tau(0.0, 1)
    assert measure_tau([[{1.0: 1.0}], [{1.0: 1.0}, {2.0: 1.0}], []]) is None


def test_the_boards_tau_is_what_its_placebos_show_and_widens_its_intervals(task, ladder, make_runs):
    board = make_board(ladder + family(make_runs, NEAR), task, "adamw-ref")
    found = {row.entry: row.speedups[1.0].value for row in board.rows}
    families = [[{1.0: found[f"{twin}@{k}"]} for k in (1, 2, 3)] for twin in ("adamw", "muon")]
    assert Tau(board.tau, board.tau_df) == measure_tau(families)
    without = make_board(ladder + family(make_runs, NEAR), task, "adamw-ref", tau=0.0)
    margins = [{row.entry: row.speedups[1.0].margin for row in one.rows}["muon"] for one in (board, without)]
    assert margins[0] > margins[1]
    assert make_board(ladder + family(make_runs, {"adamw": 3.53}), task, "adamw-ref").tau is None


def test_a_transfer_board_has_no_tuning_noise(task, ladder, make_runs):
    rows = [row._replace(track="transfer") for row in family(make_runs, NEAR)]
    assert make_board(ladder + rows, task, "adamw-ref", track="transfer").tau is None


def test_placebos_are_shown_and_neither_ranked_nor_counted(task, ladder, make_runs):
    board = make_board(ladder + family(make_runs, NEAR), task, "adamw-ref")
    assert [row.entry for row in board.rows][:2] == ["muon", "adamw"]
    assert [row.entry for row in board.rows[2:]] == sorted(entry for entry in NEAR if "@" in entry)
    for row in board.rows:
        assert bool(row.placebo_of) == ("@" in row.entry) == (row.speedups[1.0].p_holm is None)
        assert bool(row.standings) == ("@" not in row.entry)
    muon, adamw = (row.speedups[1.0] for row in board.rows[:2])
    assert muon.p_holm == pytest.approx(2 * muon.p_value) and adamw.p_holm == adamw.p_value
    assert "placebo" in render(board, task) and "it is adamw tuned again, a placebo" in render(board, task)


def test_runs_that_a_twin_has_too_at_the_same_values_are_drawn_once(task, ladder, make_runs):
    """Two tunings that end at the same values share their runs: no more is known of seed noise than by one."""
    losses = {1.0: [3.40, 3.43, 3.45]}
    one, three = (
        make_board([row for name in names for row in ladder + make_runs(name, losses)], task, "adamw-ref")
        for names in (["muon"], ["muon", "muon@1", "muon@2"])
    )
    assert (three.noise, three.degrees_of_freedom) == (one.noise, one.degrees_of_freedom)
    assert mean_correlation(three.rows) == mean_correlation(one.rows) is not None


def test_placebos_may_be_named_otherwise(task, ladder, make_runs):
    rows = ladder + family(make_runs, {"adamw": 3.53, "one": 3.531, "two": 3.529})
    board = make_board(rows, task, "adamw-ref", twins={"one": "adamw", "two": "adamw"})
    assert {row.entry: row.placebo_of for row in board.rows} == {"adamw": None, "one": "adamw", "two": "adamw"}
    assert board.tau_df == 1


def test_much_tuning_noise_ranks_nothing(task, ladder, make_runs):
    rows = ladder + family(make_runs, {**NEAR, "adamw@1": 3.55, "adamw@2": 3.50})
    board = make_board(rows, task, "adamw-ref")
    assert board.tau > 0.05 and "tuning noise" in board.not_ranked
    assert [row.entry for row in board.rows][:2] == ["adamw", "muon"] and not any(row.standings for row in board.rows)
    assert "nothing on this board is ranked" in render(board, task)


def test_a_placebo_that_differs_from_its_twin_fails_the_build(task, ladder, make_runs):
    assert make_board(ladder + family(make_runs, NEAR), task, "adamw-ref").failing == ()
    moved = {entry: mean + 0.03 * entry.startswith("muon@") for entry, mean in NEAR.items()}
    board = make_board(ladder + family(make_runs, moved), task, "adamw-ref")
    assert board.failing == tuple(f"placebo muon@{k} differs from its twin muon at 1x" for k in (1, 2, 3))
    assert "this build fails: placebo muon@1" in render(board, task)


def test_rungs_beyond_one_pass_are_not_averaged_with_the_rest(task, ladder, make_runs):
    wild = {"adamw@1": 3.42, "adamw@2": 3.39, "adamw@3": 3.41}
    once = make_board(ladder + family(make_runs, NEAR), task, "adamw-ref").tau
    both = make_board(ladder + family(make_runs, NEAR) + family(make_runs, wild, 2.0), task, "adamw-ref")
    assert both.tau == once
    alone = make_board(ladder + family(make_runs, wild, 2.0), task, "adamw-ref")
    assert alone.tau > once and 2.0 in alone.multi_epoch
