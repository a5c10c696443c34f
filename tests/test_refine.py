"""A refined schedule follows from gradient norms as arXiv:2310.07831 says; a run's norms are those it stepped on."""

import numpy as np
import pytest
from small import ADAMW, write_task

from bench.assemble import Request
from bench.entry import Entry
from bench.errors import BenchError
from bench.refine import gradient_norms, refined_shape
from bench.setting import Watch
from bench.task import read_task


def test_equal_norms_give_the_straight_line_to_zero():
    assert refined_shape([3.0] * 1000, 11) == pytest.approx(np.linspace(1, 0, 11), abs=1e-12)


def test_norms_that_fall_at_the_start_give_a_warm_up_and_those_that_rise_at_the_end_a_faster_decay():
    t = np.linspace(0, 1, 1000)
    rises = refined_shape(list(1 + 9 * np.exp(-t / 0.05)), 21)
    assert 0 < rises[0] < 0.3 and max(rises) == 1.0 and 0.05 < rises.index(1.0) / 20 < 0.4
    falls = refined_shape(list(1 + 4 * np.maximum(0, t - 0.7)), 21)
    assert falls[18] < 0.1 < 0.9 < falls[1]


def test_the_shape_is_the_formula_written_as_a_loop():
    rng = np.random.default_rng(0)
    norms = list(rng.uniform(1, 3, 40))
    padded = [*norms[1::-1], *norms, *norms[:-3:-1]]  # 4 wide: two before, one after, the ends reflected
    smooth = [sorted(padded[t : t + 4])[2] for t in range(40)]  # scipy takes the upper of two middles
    eta = [(1 / smooth[t]) * sum(1 / g for g in smooth[t:]) for t in range(40)] + [0.0]
    assert refined_shape(norms, 41) == pytest.approx([value / max(eta) for value in eta], rel=1e-3)


def test_one_spike_does_not_show():
    quiet = [2.0] * 200
    assert refined_shape([*quiet[:100], 500.0, *quiet[101:]]) == refined_shape(quiet)


@pytest.mark.parametrize("norms", [[], [1.0], [1.0, 0.0, 1.0], [1.0, float("nan")]])
def test_too_few_or_strange_norms_are_refused(norms):
    with pytest.raises(BenchError, match="at least two gradient norms above 0"):
        refined_shape(norms)


def test_a_runs_norms_are_one_a_step_the_same_each_time(tmp_path):
    task, entry = read_task(write_task(tmp_path)), Entry(ADAMW)
    request = Request("small", task, entry, entry.values({}), "bf16", 1.0, "declared", 0)
    first, second = (gradient_norms(request, tmp_path / "data", Watch()) for _ in range(2))
    assert len(first) == task.steps(1.0) and first == second and min(first) > 0
