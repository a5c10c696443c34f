"""What a plan can detect: the protocol's figures, and that the board finds as much as was foretold."""

import numpy as np
import pytest

from bench.score.board import make_board
from bench.score.curve import Curve
from bench.score.power import smallest_gap, smallest_speedup
from bench.score.statistics import Noise, level_of_look, margin

AT_130M = Curve.through([1, 2, 4, 8, 16], [3.529, 3.409, 3.322, 3.262, 3.207])  # AdamW in arXiv 2509.02046
RUNGS = (0.25, 0.5, 1.0, 1.5, 2.0, 4.0, 8.0, 16.0)
LIKE_NANO = Curve.through(RUNGS, [0.93 * rung**-0.45 + 1.0 for rung in RUNGS])  # protocol D does not name its own
DF = 33  # of nano's yardstick alone: 10 seeds at 1x, 5 at six more rungs


@pytest.mark.parametrize(("seeds", "deviations"), [(3, 2.4), (5, 1.8), (10, 1.3)])
def test_the_smallest_gaps_of_the_protocol(seeds, deviations):
    """Protocol D: 2.4, 1.8, 1.3 noise standard deviations at n = 3, 5, 10, as many seeds in either arm."""
    assert round(smallest_gap(Noise(1.0, DF), seeds, seeds), 1) == deviations
    assert smallest_gap(Noise(0.01**2, DF), seeds, seeds) == pytest.approx(0.01 * deviations, abs=0.0005)


@pytest.mark.parametrize(
    ("curve", "noise", "figures"),
    [(AT_130M, 0.002, {1.0: 1.02, 4.0: 1.05}), (LIKE_NANO, 0.01, {1.0: 1.06, 4.0: 1.11})],
    ids=["130M", "nano-like"],
)
def test_the_smallest_speedups_of_the_protocol(curve, noise, figures):
    """Protocol D, with 3 seeds in both arms and no tuning noise."""
    for budget, figure in figures.items():
        found = smallest_speedup(curve, budget, Noise(noise**2, DF), 3, [3] * len(curve.tokens))
        assert round(found, 2) == figure


def test_a_smallest_speedup_is_where_the_smallest_gap_is():
    found = smallest_speedup(AT_130M, 1.0, Noise(0.002**2, DF), 3, [3] * 5)
    gap = float(AT_130M.loss_at(1.0) - AT_130M.loss_at(found))
    assert gap == pytest.approx(smallest_gap(Noise(0.002**2, DF), 3, 3), rel=1e-6)


def test_more_seeds_detect_less_and_tuning_noise_and_looks_take_it_back():
    noise = Noise(0.002**2, DF)
    few, many = (smallest_speedup(AT_130M, 1.0, noise, n, [10] * 5) for n in (3, 10))
    assert 1 < many < few
    tuned = [smallest_speedup(AT_130M, 1.0, noise, 3, [10] * 5, tau) for tau in (0.005, 0.02)]
    assert few < tuned[0] < tuned[1]
    assert smallest_speedup(AT_130M, 1.0, noise, 1000, [1000] * 5, 0.02) > 1.08  # which no number of seeds mends
    assert smallest_speedup(AT_130M, 1.0, noise, 3, [10] * 5, level=level_of_look(2)) > few
    assert smallest_speedup(AT_130M, 1.0, noise, 3, [10] * 5, power=0.5) < few


def test_the_fewer_seeds_of_the_two_rungs_about_the_place_count():
    noise = Noise(0.002**2, DF)
    assert smallest_speedup(AT_130M, 1.0, noise, 3, [10, 3, 3, 3, 3]) == pytest.approx(
        smallest_speedup(AT_130M, 1.0, noise, 3, [3] * 5), rel=1e-6
    )


def test_what_cannot_be_told_is_none():
    assert smallest_gap(Noise(None, 0), 3, 3) is None and smallest_gap(Noise(0.0, 4), 3, 3) is None
    assert smallest_speedup(AT_130M, 1.0, Noise(None, 0), 3, [3] * 5) is None
    assert smallest_speedup(AT_130M, 16.0, Noise(0.002**2, DF), 3, [3] * 5) is None  # the ladder ends here
    assert smallest_speedup(AT_130M, 8.0, Noise(0.5**2, DF), 3, [3] * 5) is None  # and here before it is told


@pytest.mark.parametrize("seeds", [3, 10])
def test_the_test_has_the_power_that_was_foretold(seeds, sims=20_000, df=30, reference_seeds=5):
    rng = np.random.default_rng(seeds)
    noise = np.sqrt(rng.chisquare(df, sims) / df)
    error = rng.standard_normal(sims) * np.sqrt(1 / seeds + 1 / reference_seeds)
    unit = margin(Noise(1.0, df), Noise(None, 0), seeds, reference_seeds).nats
    gap = smallest_gap(Noise(1.0, df), seeds, reference_seeds)
    assert np.mean(gap + error > unit * noise) == pytest.approx(0.8, abs=0.01)


def test_a_board_finds_the_smallest_speedup_four_times_in_five(task, make_runs):
    """A whole board, its noise estimated from its own cells; the entry's own noise is the board's."""
    noise, rng, found = 0.004, np.random.default_rng(1), 0
    means = {0.25: 3.95, 0.5: 3.70, 1.0: 3.53, 2.0: 3.41, 4.0: 3.32}
    tokens = [task.budget.tokens * budget for budget in means]
    curve = Curve.through(tokens, list(means.values()))
    speedup = smallest_speedup(curve, tokens[2], Noise(noise**2, 22), 3, [5] * 5)
    true = float(curve.loss_at(speedup * tokens[2]))
    for _ in range(200):
        ladder = make_runs("adamw-ref", {b: list(m + noise * rng.standard_normal(5)) for b, m in means.items()})
        entry = make_runs("muon", {1.0: list(true + noise * rng.standard_normal(3))})
        found += make_board(ladder + entry, task, "adamw-ref", tau=0.0).rows[0].speedups[1.0].beats_reference
    assert found / 200 == pytest.approx(0.8, abs=0.08)
