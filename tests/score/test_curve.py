import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import BenchError
from bench.score.curve import Curve, fit_ladder

# End-of-run losses of arXiv 2509.02046, 130M parameters, at 1, 2, 4, 8 (and 16) x
BUDGETS = [1.0, 2.0, 4.0, 8.0, 16.0]
ADAMW = [3.529, 3.409, 3.322, 3.262, 3.207]
MUON = [3.464, 3.369, 3.296, 3.240]


def test_fit_gives_the_papers_own_figures():
    fit = fit_ladder(BUDGETS[:4], ADAMW[:4], unit=1.0)
    assert (round(fit.a, 3), round(fit.B, 3), round(fit.b, 3)) == (0.417, 0.493, 3.112)
    found = [fit.tokens_for(loss) / budget for loss, budget in zip(MUON, BUDGETS, strict=False)]
    assert found == pytest.approx([1.41, 1.34, 1.32, 1.37], abs=0.01)


def test_inverted_curve_gives_the_protocols_figures():
    tokens, sides = Curve.through(BUDGETS, ADAMW).tokens_for(MUON)
    assert list(sides) == [0, 0, 0, 0]
    assert tokens / BUDGETS[:4] == pytest.approx([1.42, 1.34, 1.32, 1.31], abs=0.01)


def test_the_ladder_needs_its_own_rungs():
    curve = Curve.through(BUDGETS, ADAMW)
    assert list(curve.tokens_for(ADAMW)[0]) == BUDGETS
    assert list(curve.loss_at(BUDGETS)) == ADAMW


def test_off_the_ladder_there_are_ends_and_no_extrapolation():
    tokens, sides = Curve.through(BUDGETS, ADAMW).tokens_for([3.6, 3.1])
    assert list(tokens) == [1.0, 16.0]
    assert list(sides) == [-1, 1]


def test_running_minimum_first_where_means_rise():
    curve = Curve.through([1, 2, 4, 8], [3.5, 3.3, 3.4, 3.2])
    assert curve.losses == (3.5, 3.3, 3.3, 3.2)
    assert curve.tokens_for([3.3])[0][0] == 2  # the fewest tokens that reach it
    assert curve.loss_at(3.0) == 3.3


def test_slope_of_a_power_law():
    tokens = np.geomspace(0.25, 16, 13)
    curve = Curve.through(tokens, 0.417 * tokens**-0.493 + 3.112)
    assert float(curve.slope_at(2.0)) == pytest.approx(-0.493 * 0.417 * 2**-0.493, rel=0.01)


@pytest.mark.parametrize("tokens", [[1], [1, 1], [0, 1], [-1, 1], [1, math.nan], [1, math.inf]])
def test_what_is_no_ladder_is_refused(tokens):
    with pytest.raises(BenchError, match="ladder"):
        Curve.through(tokens, [3.0] * len(tokens))


@pytest.mark.parametrize("means", [[3.0, 3.0, 3.0, 3.0], [1.0, 2.0, 3.0, 4.0], [3.0, 2.0, 1.0, 0.0]])
def test_no_fit_where_there_is_no_falling_power(means):
    assert fit_ladder([1, 2, 4, 8], means, 1.0) is None
    assert fit_ladder([1, 2], [3.0, 2.0], 1.0) is None


@given(a=st.floats(0.05, 3), power=st.floats(0.1, 1.5), b=st.floats(0, 4))
def test_fit_recovers_an_exact_power_law(a, power, b):
    tokens = [0.25, 0.5, 1.0, 2.0, 4.0, 8.0]
    fit = fit_ladder(tokens, [a * t**-power + b for t in tokens], 1.0)
    exponent = fit.B
    assert exponent == pytest.approx(power, rel=1e-4)
    assert fit.tokens_for(fit.loss_at(3.0)) == pytest.approx(3.0, rel=1e-9)


def test_a_fit_hangs_on_no_last_bit():
    """Boards are built again to the byte, on processors whose powers and sums end with other bits."""
    means = [2.37066, 2.08511, 1.88024, 1.75903, 1.69578, 1.56718, 1.50188]
    budgets = [0.25, 0.5, 1.0, 1.5, 2.0, 4.0, 8.0]
    ends = [math.nextafter(mean, place % 2) for place, mean in enumerate(means)]
    assert ends != means and fit_ladder(budgets, ends, 1.0) == fit_ladder(budgets, means, 1.0)


ladders = st.lists(st.integers(0, 10_000), min_size=2, max_size=8).map(lambda cents: [c / 10_000 for c in cents])


@given(ladders, st.lists(st.floats(-0.1, 1.1), min_size=1, max_size=20))
def test_inverse_is_the_fewest_tokens_with_a_loss_this_low(means, wanted):
    curve = Curve.through([2.0**i for i in range(len(means))], means)
    tokens, sides = curve.tokens_for(wanted)
    for loss, at, side in zip(wanted, tokens, sides, strict=True):
        assert curve.tokens[0] <= at <= curve.tokens[-1]
        if side == 0:
            assert float(curve.loss_at(at * (1 + 1e-12))) <= loss + 1e-9
            assert at == curve.tokens[0] or float(curve.loss_at(at * (1 - 1e-9))) >= loss - 1e-12
    dense = curve.loss_at(np.geomspace(1, curve.tokens[-1], 200))
    assert (np.diff(dense) <= 0).all()
