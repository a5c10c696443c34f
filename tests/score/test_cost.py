import csv
import io
import json

import pytest

from bench.record import Log, Point
from bench.score.board import make_board
from bench.score.cost import Cost, beside, dominators, first_tokens, mean_curve, on_curve
from bench.score.rows import Standing
from bench.score.speedup import Speedup
from bench.score.table import render
from bench.score.wording import dominated

TWICE = Speedup(2.0, "=", 1.9, 2.1, None, 200.0)


def test_time_counts_a_pass_once():
    """Two passes a step: 200 reference tokens against 50 trained and 100 charged; a token takes twice as long."""
    found = beside(TWICE, 50.0, 100.0, Cost(2e-6, 3.0, 300.0), Cost(1e-6, 2.0), None)
    assert (found.time, found.step, found.memory) == (2.0, 2.0, 1.5)
    assert found.tuning_inclusive == 200 / (100 + 300)


def test_what_was_not_measured_is_none():
    assert not beside(TWICE, 50.0, 50.0, Cost(), Cost(1e-6), None).known
    assert beside(TWICE, 50.0, 50.0, Cost(1e-6), Cost(), None).time is None


def test_the_first_tokens_at_a_loss_are_read_on_log_tokens():
    curve = [(0.0, 6.0), (100.0, 4.0), (400.0, 3.0), (800.0, 3.2)]
    assert first_tokens(curve, 3.5) == pytest.approx(200)
    assert first_tokens(curve, 4.0) == pytest.approx(100) and first_tokens(curve, 2.9) is None
    assert first_tokens([(0.0, 6.0), (100.0, 4.0)], 5.0) == 100
    assert first_tokens([(100.0, 4.0), (200.0, None), (400.0, 3.0)], 3.5) == 400  # nothing is read across a gap


def test_on_curve_divides_the_budget_by_charged_tokens():
    reference = [(100.0, 5.0), (400.0, 3.5)]
    assert on_curve([(100.0, 4.0), (400.0, 3.0)], reference) == pytest.approx(2)
    assert on_curve([(100.0, 4.0), (400.0, 3.0)], reference, passes=2.0) == pytest.approx(1)
    assert on_curve([(400.0, 3.6)], reference) is on_curve([], []) is on_curve([(1.0, 2.0)], [(1.0, None)]) is None


def test_mean_curves_keep_what_all_seeds_have():
    assert mean_curve([[(1.0, 4.0), (2.0, 3.0)], [(1.0, 5.0), (2.0, None), (3.0, 1.0)]]) == [(1.0, 4.5), (2.0, None)]
    assert mean_curve([]) == []


def test_dominated_only_where_the_pair_is_told_apart_and_nothing_is_worse():
    better = [[False, True, True], [False, False, True], [False, False, False]]
    costs = [Cost(1.0, 1.0), Cost(0.99, 1.0), Cost(1.0, 1.0)]
    assert dominators("abc", better, costs) == [(), ("a",), ("a", "b")]
    assert dominators("abc", better, [Cost(1.04, 1.0), *costs[1:]]) == [(), (), ("b",)]
    assert dominators("abc", better, [Cost(1.0, None), *costs[1:]])[:2] == [None, ()]
    assert dominators("abc", [[False] * 3] * 3, costs) == [(), (), ()]


def test_who_dominates_is_not_told_from_the_times_of_runs_that_stood_alone():
    better = [[False, True], [False, False]]
    timed, alone = Cost(0.5, 1.0), Cost(1.0, 1.0, timed=False)
    assert dominators("ab", better, [timed, Cost(1.0, 1.0)]) == [(), ("a",)]
    assert dominators("ab", better, [timed, alone]) == [(), None]
    assert dominators("ab", better, [alone, timed]) == [None, ()]
    words = [dominated(Standing(("a",), 0.5, None, by)) for by in (None, (), ("a", "b"))]
    assert words == [None, "nobody", "a, b"] and dominated(None) is None


def log(losses, blocks=()):
    points = tuple(Point(tokens=tokens, loss=loss, train_seconds=1.0) for tokens, loss in losses)
    return Log(stride=1, loss=(), gradient_norm=(), curve=points, milestones=(), score_blocks=blocks)


@pytest.fixture
def board(task, ladder, make_runs):
    rows = ladder + make_runs("muon", {1.0: [3.449, 3.45, 3.451]}) + make_runs("adamw", {1.0: [3.529, 3.53, 3.531]})
    tokens, logs = task.budget.tokens, {}
    for number, row in enumerate(rows):
        faster = row.entry == "muon"
        blocks = tuple(3.0 + 0.01 * ((block * (7 if faster else 5) + number) % 6) for block in range(20))
        curve = [(0, 6.0), (tokens // 4, 4.0), (tokens, 3.0 if faster else 3.5)]
        logs[row.run_id] = log(curve, blocks)
    costs = {"adamw-ref": Cost(1e-6, 2e9), "muon": Cost(1.01e-6, 1.5e9, 1e6), "adamw": Cost(1e-6, 2e9, 1e6)}
    return make_board(rows, task, "adamw-ref", costs=costs, logs=logs)


def test_a_board_shows_what_stands_beside_its_headline(board, task):
    muon = board.rows[0].beside[1.0]
    assert muon.on_curve == pytest.approx(2) and muon.memory == 0.75
    assert muon.time == pytest.approx(board.rows[0].speedups[1.0].value / 1.01)
    text = render(board, task)
    for part in ("beside the headline, not ranked", "on curve", "in time", "with tuning", "dominated by", "0.75"):
        assert part in text
    assert board.rows[1].standings[1.0].dominated_by == ("muon",)
    assert board.rows[0].standings[1.0].dominated_by == ()


def test_the_texts_error_is_shown_against_the_leader(board, task):
    assert board.rows[0].standings[1.0].text_error is None
    assert board.rows[1].standings[1.0].text_error > 0
    assert "from the validation text alone" in render(board, task)


def test_machines_read_all_of_it(board, task):
    rows = {row["entry"]: row["rungs"][0] for row in json.loads(render(board, task, "json"))["rows"]}
    assert rows["muon"]["standing"]["letters"] == ["a"] and rows["adamw"]["standing"]["dominated_by"] == ["muon"]
    assert rows["muon"]["beside"]["on_curve"] == board.rows[0].beside[1.0].on_curve
    assert rows["muon"]["speedup"]["interpolation_error"] == board.rows[0].speedups[1.0].interpolation_error
    lines = {line["entry"]: line for line in csv.DictReader(io.StringIO(render(board, task, "csv")))}
    assert (lines["muon"]["letters"], lines["adamw"]["dominated_by"], lines["muon"]["level"]) == ("a", "muon", "0.05")


def test_without_costs_and_logs_there_is_no_second_table(task, ladder, make_runs):
    board = make_board(ladder + make_runs("muon", {1.0: [3.449, 3.45, 3.451]}), task, "adamw-ref")
    text = render(board, task)
    assert "beside" not in text and "tie" not in text.split("On smoke")[0] and "P(first)" not in text
