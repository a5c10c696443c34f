import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bench.score.curve import Curve
from bench.score.speedup import speedups
from bench.score.statistics import Noise, holm, margin, no_interval, pool


def test_pooled_noise_counts_every_cell_once():
    noise = pool([[1.0, 3.0], [5.0, 5.0, 8.0], [9.0], []])
    assert noise == Noise(pytest.approx((2 + 6) / 3), 3)


def test_one_seed_per_cell_gives_no_interval():
    noise = pool([[1.0], [2.0]])
    assert noise == Noise(None, 0)
    assert margin(noise, noise, 1, 1) is None
    assert no_interval(noise) == "one seed"


def test_seeds_that_all_agree_give_no_interval():
    noise = pool([[1.0, 1.0]])
    assert margin(noise, noise, 2, 2) is None
    assert no_interval(noise) == "all seeds gave the same loss"


def test_an_entry_is_never_taken_for_quieter_than_the_board():
    board = Noise(4.0, 30)
    for own, v in [(Noise(1.0, 8), 4.0), (Noise(None, 0), 4.0), (Noise(16.0, 6), (6 * 4 + 6 * 16) / 12)]:
        assert margin(board, own, 3, 5).error ** 2 == pytest.approx(v / 3 + 4.0 / 5)


def test_margin_of_common_noise_is_students():
    m = margin(Noise(0.01**2, 20), Noise(None, 0), 3, 5)
    assert m.df == pytest.approx(20)
    assert m.nats == pytest.approx(stats.t.ppf(0.975, 20) * 0.01 * math.sqrt(1 / 3 + 1 / 5))
    assert m.p_value(m.nats) == pytest.approx(0.05)


def test_margin_with_own_and_tuning_noise_follows_welch_and_satterthwaite():
    s2, own, n, n_ref, t2 = 1.0, 9.0, 3, 5, 0.5
    m = margin(Noise(s2, 40), Noise(own, 6), n, n_ref, t2, t2)
    parts = [(s2 * (0.5 / n + 1 / n_ref), 40), (0.5 * own / n, 6), (2 * t2, 4)]
    total = sum(part for part, _ in parts)
    assert m.error**2 == pytest.approx(total)
    assert m.error**2 == pytest.approx((6 * s2 + 6 * own) / 12 / n + s2 / n_ref + 2 * t2)
    assert m.df == pytest.approx(total**2 / sum(part**2 / df for part, df in parts))


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_agrees_with_its_step_down_form(p):
    rejected, order = set(), sorted(range(len(p)), key=lambda i: p[i])
    for rank, index in enumerate(order):
        if (len(p) - rank) * p[index] > 0.05:
            break
        rejected.add(index)
    assert {i for i, q in enumerate(holm(p)) if q <= 0.05} == rejected


RUNGS = np.array([0.25, 0.5, 1, 1.5, 2, 4, 8, 16])
SEEDS = [5, 5, 10, 5, 5, 5, 5, 5]
BUDGETS = np.array([0.5, 1.0, 2.0, 4.0])


def _true_loss(tokens):
    return 0.417 * tokens**-0.493 + 3.112


def coverage(boards, noise, own_factor=1.0, seeds=3, entries=12, seed=0):
    """Return the interval's coverage and the rate of false 'beats', over simulated boards scored by the real functions.

    Half of the entries equal the reference, half need 1.3 times fewer tokens; no tuning noise.
    """
    rng = np.random.default_rng(seed)
    truth = np.repeat([1.0, 1.3], entries // 2)[:, None] * np.ones(len(BUDGETS))
    covered, beaten = [], []
    for _ in range(boards):
        ladder = [_true_loss(at) + noise * rng.standard_normal(n) for at, n in zip(RUNGS, SEEDS, strict=True)]
        cells = _true_loss(truth * BUDGETS)[..., None] + own_factor * noise * rng.standard_normal((*truth.shape, seeds))
        board = pool([*ladder, *cells.reshape(-1, seeds)]) if own_factor == 1 else pool(ladder)
        curve = Curve.through(RUNGS, [cell.mean() for cell in ladder])
        means = cells.mean(-1)
        margins = []
        for entry in range(entries):
            own = pool(cells[entry])
            for at in curve.tokens_for(means[entry])[0]:
                before, after = curve.neighbours(float(at))
                margins.append(margin(board, own, seeds, min(SEEDS[before], SEEDS[after])))
        found = speedups(curve, None, means.ravel().tolist(), np.tile(BUDGETS, entries).tolist(), margins)
        for speedup, true in zip(found, truth.ravel(), strict=True):
            covered.append((speedup.low or 0) <= true <= (speedup.high or math.inf))
            if true == 1:
                beaten.append(speedup.beats_reference)
    return np.mean(covered), np.mean(beaten)


@pytest.mark.parametrize("noise", [0.002, 0.01])
def test_interval_covers_and_rarely_claims_what_is_not_so(noise):
    covered, beaten = coverage(boards=80, noise=noise)  # 3,840 intervals
    assert 0.92 <= covered <= 0.985
    assert beaten <= 0.05
