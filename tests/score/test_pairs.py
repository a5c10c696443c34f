import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bench.score.board import make_board
from bench.score.pairs import (
    Contender,
    pair_p_values,
    probability_of_first,
    text_error,
    tie_groups,
    tie_letters,
    told_apart,
)
from bench.score.statistics import Arm, Noise, arm
from bench.task import read_task


def matrix(count, pairs):
    apart = np.zeros((count, count), dtype=bool)
    for i, j in pairs:
        apart[i, j] = apart[j, i] = True
    return apart


def test_a_pairs_test_is_students_with_the_boards_noise():
    arms = [arm(Noise(0.01**2, 40), Noise(None, 0), n) for n in (3, 5)]
    found = pair_p_values([Contender("a", 3.0, arms[0]), Contender("b", 3.02, arms[1])], 40, 4)
    wanted = 2 * stats.t.sf(0.02 / (0.01 * math.sqrt(1 / 3 + 1 / 5)), 40)
    assert found[0, 1] == pytest.approx(wanted) and (found == found.T).all()


def test_own_and_tuning_noise_enter_with_their_own_degrees_of_freedom():
    a, b = Arm(1.0, 2.0, 6, 0.5), Arm(1.0, 0.0, 4, 0.25)
    found = pair_p_values([Contender("a", 0.0, a), Contender("b", 5.0, b)], 50, 4)[0, 1]
    df = 4.75**2 / (2**2 / 50 + 2**2 / 6 + 0.75**2 / 4)
    assert found == pytest.approx(2 * stats.t.sf(5 / math.sqrt(4.75), df))


def test_a_later_look_costs_its_pairs():
    one = Arm(1.0, 0.0, 0, 0.0)
    plain, later = (pair_p_values([Contender("a", 0, one, look), Contender("b", 4, one)], 50, 4)[0, 1]
                    for look in (0, 2))  # fmt: skip
    assert later == pytest.approx(4 * plain)


def test_holm_is_taken_over_all_pairs_of_a_budget():
    p = np.array([[1, 0.01, 0.02], [0.01, 1, 0.04], [0.02, 0.04, 1]])
    assert told_apart(p).tolist() == matrix(3, [(0, 1), (0, 2), (1, 2)]).tolist()
    p[0, 1] = p[1, 0] = 0.02
    assert not told_apart(p).any()  # 3 x 0.02


def test_letters_by_hand():
    apart = matrix(4, [(0, 2), (0, 3), (1, 3)])
    assert tie_groups(apart) == [(0, 1), (1, 2), (2, 3)]
    assert tie_letters(apart) == [("a",), ("a", "b"), ("b", "c"), ("c",)]
    assert tie_letters(matrix(1, [])) == [("a",)] and tie_letters(matrix(0, [])) == []
    assert tie_letters(matrix(60, itertools.combinations(range(60), 2)))[59] == ("(60)",)


@given(st.integers(1, 8).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.sampled_from(
    list(itertools.combinations(range(n), 2)) or [(0, 0)])))))  # fmt: skip
def test_tie_groups_are_all_maximal_sets_with_no_separated_pair(graph):
    count, pairs = graph[0], {(i, j) for i, j in graph[1] if i != j}
    free = [set(group) for size in range(1, count + 1) for group in itertools.combinations(range(count), size)
            if not any(pair in pairs for pair in itertools.combinations(group, 2))]  # fmt: skip
    wanted = sorted(tuple(sorted(group)) for group in free if not any(group < other for other in free))
    assert tie_groups(matrix(count, pairs)) == wanted


def test_equals_are_first_equally_often_and_the_sure_leader_always():
    assert probability_of_first([3.0, 3.0, 3.0], [0.01] * 3) == pytest.approx([1 / 3] * 3)
    assert probability_of_first([3.0, 4.0], [1e-6, 1e-6]) == [1.0, 0.0]
    assert probability_of_first([3.0], [1e-6]) == [1.0]


def test_two_contenders_have_the_closed_form():
    gap, s2 = 0.03, 0.01**2
    kept = (gap**2 / 2 - s2) / (gap**2 / 2)
    wanted = stats.norm.cdf(kept * gap / math.sqrt(2 * kept * s2))
    assert probability_of_first([3.0, 3.0 + gap], [s2, s2]) == pytest.approx([wanted, 1 - wanted], abs=1e-3)


def test_the_integral_is_what_drawing_gives():
    losses, variances = [3.000, 3.004, 3.010, 3.003], [0.002**2, 0.006**2, 0.004**2, 0.002**2]
    found, rng = probability_of_first(losses, variances), np.random.default_rng(0)
    between = np.var(losses, ddof=1) - np.mean(variances)
    kept = between / (between + np.array(variances))
    centres = np.mean(losses) + kept * (np.array(losses) - np.mean(losses))
    drawn = rng.normal(centres, np.sqrt(kept * variances), (200_000, 4)).argmin(1)
    assert found == pytest.approx(np.bincount(drawn, minlength=4) / 200_000, abs=0.005)
    assert sum(found) == pytest.approx(1)


def test_a_sure_one_among_unsure_ones_is_not_stepped_over():
    found = probability_of_first([3.0, 3.1, 9.0, 9.0], [1e-10, 4.0, 4.0, 4.0])
    between = np.var([3.0, 3.1, 9.0, 9.0], ddof=1) - 3.0
    shrunk = between / (between + 4)
    centres = 6.025 + shrunk * (np.array([3.1, 9.0, 9.0]) - 6.025)
    wanted = np.prod(stats.norm.sf(3.0, centres, math.sqrt(shrunk * 4)))
    assert found[0] == pytest.approx(wanted, abs=2e-3)


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(1e-8, 1)), min_size=1, max_size=12))
def test_probabilities_are_shares_of_one(contenders):
    found = probability_of_first(*zip(*contenders, strict=True))
    assert sum(found) == pytest.approx(1) and all(0 <= share <= 1 for share in found)


@pytest.mark.parametrize("spread", [0.5, 1.0, 3.0])
def test_the_leader_is_first_at_least_as_often_as_it_is_said_to_be(spread):
    """Ten entries: the raw winner is overrated, the shrunk one a little underrated (by 0.07 where noise is most)."""
    rng, said, right, raw = np.random.default_rng(0), [], [], []
    for _ in range(1500):
        true = spread * rng.standard_normal(10)
        seen = true + rng.standard_normal(10)
        said.append(max(probability_of_first(seen, [1.0] * 10)))
        raw.append((seen[:, None] + rng.standard_normal((10, 200))).argmin(0) == seen.argmin())
        right.append(seen.argmin() == true.argmin())
    assert np.mean(right) - 0.1 < np.mean(said) < np.mean(right) + 0.02
    assert spread > 1 or np.mean(raw) > np.mean(right) + 0.02


def test_the_texts_part_of_an_error():
    one = [[3.0, 3.1, 3.2, 2.9], [3.0, 3.3, 3.2, 2.9]]
    other = [[2.9, 3.2, 3.0, 2.9], [2.9, 3.0, 3.2, 2.9]]
    differences = [0.1, 0.1, 0.1, 0.0]
    assert text_error(one, other) == pytest.approx(np.std(differences, ddof=1) / 2)
    assert text_error(one, [[1.0]] * 2) is text_error([], []) is text_error([[1.0]], [[1.0]]) is None


def test_text_is_resampled_in_no_more_blocks_than_documents():
    """Ten documents of fifty blocks each: its blocks are alike, and would hide its error."""
    rng = np.random.default_rng(0)
    found = {10: [], None: []}
    for _ in range(200):
        documents = rng.standard_normal(10)
        one = np.repeat(documents, 50)[None] + 0.01 * rng.standard_normal((1, 500))
        for most, errors in found.items():
            errors.append(text_error(one.tolist(), np.zeros((1, 500)).tolist(), most))
    true = 1 / np.sqrt(10)  # of the mean of ten documents
    assert np.mean(found[10]) == pytest.approx(true, rel=0.06) and np.mean(found[None]) < 0.2 * true
    nano = read_task(Path(__file__).parents[2] / "tasks" / "nano.toml")
    assert nano.scoring_documents == 100


def test_a_board_has_letters_and_probabilities_where_two_entries_are_ranked(task, ladder, make_runs):
    entries = {"muon": 3.45, "soap": 3.453, "adamw": 3.53}
    rows = [row for entry, mean in entries.items()
            for row in make_runs(entry, {1.0: [mean - 0.002, mean, mean + 0.002]})]  # fmt: skip
    board = make_board(ladder + rows + make_runs("muon", {0.5: [3.6, 3.601]}), task, "adamw-ref")
    found = {row.entry: row.standings.get(1.0) for row in board.rows}
    assert [found[entry].letters for entry in entries] == [("a",), ("a",), ("b",)]
    assert found["muon"].first > found["soap"].first > 0.02 and found["adamw"].first == 0
    assert sum(one.first for one in found.values()) == pytest.approx(1)
    assert 0.5 not in next(row for row in board.rows if row.entry == "muon").standings


def test_extra_passes_are_charged_among_entries_too(task, ladder, make_runs):
    rows = make_runs("sam", {1.0: [3.409, 3.41, 3.411]}, passes=2.0) + make_runs("muon", {1.0: [3.449, 3.45, 3.451]})
    board = make_board(ladder + rows, task, "adamw-ref")
    assert [(row.entry, row.standings[1.0].letters) for row in board.rows] == [("muon", ("a",)), ("sam", ("b",))]
    off = make_runs("slow", {1.0: [4.5, 4.5, 4.51]}, passes=2.0)
    board = make_board(ladder + rows + off, task, "adamw-ref")
    assert board.rows[-1].entry == "slow" and board.rows[-1].standings == {}


def test_nothing_is_ranked_at_an_unstable_rung(task, ladder, make_runs):
    rows = ladder + make_runs("adamw-ref", {8.0: [3.2, 3.3, 3.25]})
    rows += make_runs("muon", {1.0: [3.44, 3.45, 3.46], 8.0: [3.0, 3.01, 3.02]})
    rows += make_runs("soap", {1.0: [3.40, 3.41, 3.42], 8.0: [3.1, 3.11, 3.12]})
    board = make_board(rows, task, "adamw-ref")
    assert 8.0 in board.unstable and board.headline_budget == 1.0
    assert [row.entry for row in board.rows] == ["soap", "muon"]
    assert all(set(row.standings) == {1.0} for row in board.rows)


def test_where_the_ladder_is_flat_extra_passes_leave_no_standing(task, make_runs):
    """No error in nats can be moved from a stretch where tokens change nothing."""
    means = {0.25: 3.9, 0.5: 3.7, 1.0: 3.5, 2.0: 3.4, 4.0: 3.3, 8.0: 3.3, 16.0: 3.3}
    rows = make_runs(task.reference, {budget: [mean - 0.002, mean, mean + 0.002] for budget, mean in means.items()})
    rows += make_runs("sam", {2.0: [3.3, 3.3, 3.3]}, passes=2.0) + make_runs("muon", {2.0: [3.35, 3.351, 3.352]})
    found = {row.entry: row.standings for row in make_board(rows, task, task.reference).rows}
    assert found == {"sam": {}, "muon": {}}


def test_the_error_of_a_loss_that_is_moved_along_the_ladder_moves_with_it(task, ladder, make_runs):
    """Seeds' noise by the ratio of slopes; tuning noise is of tokens, so it is read where the loss was moved to."""
    rows = make_runs("sam", {1.0: [3.419, 3.42, 3.421]}, passes=2.0) + make_runs("muon", {1.0: [3.449, 3.45, 3.451]})
    board = make_board(ladder + rows, task, "adamw-ref", tau=0.03)
    cells = {row.entry: (row, row.rungs[0]) for row in board.rows}
    (loss, moved), (own, still) = board.scorer.at_equal_charge([cells["sam"], cells["muon"]])
    (at,), _ = board.curve.tokens_for([3.42])
    steeper = float(board.curve.slope_at(at / 2) / board.curve.slope_at(at))
    assert steeper > 1.3 and loss == pytest.approx(float(board.curve.loss_at(at / 2))) and own == pytest.approx(3.45)
    assert moved.board == pytest.approx(still.board * steeper**2)
    assert moved.tuning == pytest.approx((0.03 * float(board.curve.slope_at(at / 2))) ** 2)
