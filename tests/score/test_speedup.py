import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.score.curve import Curve, fit_ladder
from bench.score.speedup import agree, beats, speedups
from bench.score.statistics import Margin

CURVE = Curve.through([1, 2, 4, 8, 16], [3.529, 3.409, 3.322, 3.262, 3.207])
FIT = fit_ladder([1, 2, 4, 8, 16], [3.529, 3.409, 3.322, 3.262, 3.207], 1.0)
MARGIN = Margin(error=0.004, df=40.0)


def one(loss, charged, margin=MARGIN, curve=CURVE, reason=None):
    return speedups(curve, FIT, [loss], [charged], [margin], reason)[0]


def test_a_loss_on_the_ladder_has_a_figure_an_interval_and_the_fit_beside():
    found = one(3.409, 1.0)
    assert (found.value, found.bound, found.reference_tokens, found.limit) == (2.0, "=", 2.0, None)
    assert found.low < 2 < found.high
    assert found.fit == pytest.approx(2, rel=0.05)
    assert found.beats_reference and found.p_value < 0.05


def test_the_reference_against_itself_is_one():
    found = one(3.322, 4.0)
    assert found.value == 1
    assert found.low < 1 < found.high and not found.beats_reference


def test_charged_passes_divide_the_speedup():
    assert one(3.409, 2.0).value == one(3.409, 1.0).value / 2


def test_below_the_ladder_a_lower_bound_and_an_open_upper_end():
    found = one(3.1, 8.0)
    assert (found.value, found.bound, found.limit, found.high, found.fit) == (None, ">=", 2.0, None, None)
    assert found.low == 2.0 and found.beats_reference


def test_just_below_the_ladder_the_interval_still_starts_on_it():
    found = one(3.206, 16.0)
    assert found.bound == ">=" and found.limit == 1.0
    assert found.low < 1 and not found.beats_reference


def test_above_the_ladder_an_upper_bound_and_an_open_lower_end():
    found = one(4.0, 2.0)
    assert (found.value, found.bound, found.limit, found.low) == (None, "<=", 0.5, None)
    assert found.high == 0.5 and not found.beats_reference


def test_without_a_margin_no_interval_and_the_reason():
    found = one(3.409, 1.0, None, reason="one seed")
    assert (found.low, found.high, found.p_value, found.no_interval) == (None, None, None, "one seed")
    assert found.value == 2 and not found.beats_reference


def test_past_the_ladders_end_nothing_is_claimed():
    assert not one(2.0, 20.0).beats_reference
    assert one(2.0, 20.0).p_value is None


def test_the_test_decides_what_rounding_leaves_open():
    assert agree(1.0, True) > 1
    assert agree(1.0000000000000002, False) == 1
    assert agree(None, False) is None


def nats(low, high):
    return st.integers(round(low * 1000), round(high * 1000)).map(lambda n: n / 1000)


@given(
    st.lists(nats(2, 5), min_size=2, max_size=8),
    nats(1.9, 5.1),
    st.integers(1, 80).map(lambda n: n / 4),
    st.floats(1e-6, 0.3),
)
def test_interval_and_test_never_disagree(means, loss, charged, error):
    curve = Curve.through([2.0**i for i in range(len(means))], means)
    margin = Margin(error, 12.0)
    found = speedups(curve, None, [loss], [charged], [margin])[0]
    assert found.beats_reference == beats(curve, loss, charged, margin.nats)
    if curve.tokens[0] <= charged <= curve.tokens[-1]:
        gap = float(curve.loss_at(charged)) - loss
        if abs(gap - margin.nats) > 1e-12:
            assert found.beats_reference == (gap > margin.nats)
            assert found.beats_reference == (gap > 0 and found.p_value < 0.05)
    ends = [0.0 if found.low is None else found.low, math.inf if found.high is None else found.high]
    assert ends[0] <= found.figure * (1 + 1e-12) and found.figure <= ends[1] * (1 + 1e-12)


@given(
    st.lists(nats(2, 5), min_size=2, max_size=8),
    nats(1.9, 5.1),
    st.integers(1, 80).map(lambda n: n / 4),
    st.floats(1e-6, 0.3),
)
def test_agreement_moves_the_lower_end_by_rounding_only(means, loss, charged, error):
    curve = Curve.through([2.0**i for i in range(len(means))], means)
    margin = Margin(error, 12.0)
    found = speedups(curve, None, [loss], [charged], [margin])[0]
    tokens, sides = curve.tokens_for([loss + margin.nats])
    if sides[0] >= 0:
        assert found.low == pytest.approx(float(tokens[0]) / charged, rel=1e-6)
