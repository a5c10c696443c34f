"""The schedule: linear up, linear down, neither zero applied."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.schedule import multiplier


def course(steps: int, warmup: float, kind: str = "decay") -> list[float]:
    return [multiplier(step * 10, 10, steps * 10, warmup, kind) for step in range(steps)]


def test_a_worked_example_rises_by_fifths_and_falls_by_tenths():
    assert course(10, 0.5) == [0.2, 0.4, 0.6, 0.8, 1.0, 1.0, 0.8, 0.6, 0.4, 0.2]


def test_without_a_warm_up_it_starts_at_one():
    assert course(4, 0.0) == [1.0, 0.75, 0.5, 0.25]


def test_a_constant_schedule_warms_up_and_stays():
    assert course(5, 0.4, "constant") == [0.5, 1.0, 1.0, 1.0, 1.0]


def test_a_cosine_falls_by_half_a_period_and_wsd_over_the_last_fifth():
    assert course(4, 0.0, "cosine") == pytest.approx([1.0, 0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5])
    assert course(10, 0.2, "wsd") == pytest.approx([0.5, 1, 1, 1, 1, 1, 1, 1, 1.0, 0.5])


def test_a_refined_one_is_the_warm_up_times_its_shape_straight_between_its_points():
    shape = (1.0, 1.0, 0.25, 0.0)
    values = [multiplier(step * 10, 10, 60, 1 / 3, "refined", shape) for step in range(6)]
    assert values == pytest.approx([0.5, 1.0, 1.0, 0.625, 0.25, 0.125])
    assert multiplier(0, 10, 60, 0.0, "refined", shape) == 1.0


@given(st.integers(1, 500), st.floats(0, 0.99), st.sampled_from(["decay", "cosine", "wsd"]))
def test_it_lies_in_zero_to_one_rises_once_and_falls_once(steps, warmup, kind):
    values = course(steps, warmup, kind)
    assert all(0 < value <= 1 for value in values)
    top = values.index(max(values))
    assert values[: top + 1] == sorted(values[: top + 1])
    assert values[top:] == sorted(values[top:], reverse=True)
