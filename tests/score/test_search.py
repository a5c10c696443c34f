"""What is read of a search: on ledgers whose answer is known by arithmetic, or by drawing."""

import itertools
import math

import pytest
from planned import bowl, plan_of, trials_of, write_trials, yardstick

from bench.score.search import (
    best_after_k,
    search_of,
    sensitivity,
    spent,
    sweep_line,
    tolerance,
)

RATES = [3e-3 * 2.0**k for k in range(-5, 6)]


def test_the_best_so_far_is_in_the_ledgers_order_and_counts_failures():
    curve = best_after_k(trials_of([None, 3.2, 3.4, 3.1, None]), 1.0)
    assert [at.trials for at in curve] == [1, 2, 3, 4, 5]
    assert [at.best for at in curve] == [None, 3.2, 3.2, 3.1, 3.1]
    assert curve[-1].low == curve[-1].median == curve[-1].high == 3.1
    assert curve[0].high is None and best_after_k([], 1.0) == ()


@pytest.mark.parametrize("losses", [[3.0, 3.5, 3.1, 3.3, 3.2, 3.4], [3.0, None, 3.1, None, 3.2, None]])
def test_the_band_is_that_of_random_orders(losses):
    """Against all 720 orders, written out."""
    curve = best_after_k(trials_of(losses), 1.0)
    worst = [math.inf if loss is None else loss for loss in losses]
    for k in range(1, 7):
        best = sorted(min(order[:k]) for order in itertools.permutations(worst))
        exact = [best[math.ceil(share * len(best)) - 1] for share in (0.05, 0.5, 0.95)]
        at = curve[k - 1]
        assert [at.low, at.median, at.high] == [None if math.isinf(loss) else loss for loss in exact]


def test_other_rungs_and_stages_are_no_part_of_the_search():
    ledger = trials_of([3.3, 3.2]) + trials_of([3.0], "rung", 2.0) + trials_of([2.9], "transfer")
    assert [at.best for at in best_after_k(ledger, 1.0)] == [3.3, 3.2]
    assert sweep_line(list(reversed(ledger))) == [(1e-3, 3.3), (2e-3, 3.2)]


def parabola(width, best=0.0, rates=RATES):
    """A loss of width nats per squared octave."""
    return [(lr, 3.0 + width * (math.log2(lr / 3e-3) - best) ** 2) for lr in rates]


def test_tolerance_is_the_width_at_what_five_percent_of_tokens_buy():
    """dL/dlnD = -0.2: 5% of tokens are 0.2 ln 1.05 = 0.00976 nats; 0.02 nats an octave squared are 2 x 0.70 octaves."""
    found = tolerance(parabola(0.02), -0.2, 6.0)
    exact = 2 * math.sqrt(0.2 * math.log(1.05) / 0.02)
    assert found.value == pytest.approx(exact, rel=0.1) and not found.open
    wide = tolerance(parabola(0.0005), -0.2, 6.0)
    assert wide.value == pytest.approx(2 * math.sqrt(0.2 * math.log(1.05) / 0.0005), rel=0.02)
    assert tolerance(parabola(0.02), -0.8, 6.0).value > 1.5 * found.value  # a steeper ladder: tokens buy more


def test_tolerance_ends_where_a_rate_fails_and_is_open_where_the_sweep_ends():
    line = [(1e-3, 3.5), (2e-3, 3.0), (4e-3, 3.001), (8e-3, None)]
    found = tolerance(line, -0.2, 6.0)
    assert 1.0 < found.value < 1.5 and not found.open
    flat = tolerance([(1e-3, 3.0), (2e-3, 3.001), (4e-3, 3.5)], -0.2, 6.0)
    assert flat.open and 1.0 < flat.value < 1.5
    assert tolerance([(1e-3, None), (2e-3, None)], -0.2, 6.0) is tolerance([(1e-3, 3.0)], -0.2, 6.0) is None


def test_sensitivity_is_the_mean_loss_over_the_window():
    """The mean of w x^2 over -2.5..2.5 octaves is w 2.5^2 / 3."""
    found = sensitivity(parabola(0.02), 6.0)
    assert found.value == pytest.approx(0.02 * 2.5**2 / 3, rel=0.02) and not found.open
    assert sensitivity(parabola(0.04), 6.0).value == pytest.approx(2 * found.value, rel=1e-6)
    moved = sensitivity(parabola(0.02, best=2.0), 6.0)
    assert moved.value == pytest.approx(found.value, rel=1e-3)  # the window moves with the best


def test_sensitivity_is_never_worse_than_not_training():
    failed = [(lr, loss if lr < 4e-3 else None) for lr, loss in parabola(1e-6)]
    worse = [(lr, loss if lr < 4e-3 else 99.0) for lr, loss in parabola(1e-6)]
    assert sensitivity(failed, 6.0) == sensitivity(worse, 6.0)
    assert 3.0 * 1.5 / 5 < sensitivity(failed, 6.0).value < 3.0 * 2.5 / 5  # 3 nats from the first failure on
    assert sensitivity(failed, 3.5).value < sensitivity(failed, 6.0).value / 4


def test_sensitivity_beyond_the_sweep_is_a_lower_bound():
    whole, part = (sensitivity(parabola(0.02, rates=rates), 6.0) for rates in (RATES, RATES[3:7]))
    assert part.open and not whole.open and 0 < part.value < whole.value
    assert sensitivity([], 6.0) is None


def test_costs_count_a_run_once_and_failures_too():
    one = trials_of([3.0, None, 3.1], seeds=(1000, 1001))
    found = spent([one])
    assert (found.trials, found.failed, found.tokens, found.seconds) == (3, 1, 6000.0, 12.0)
    assert spent([one, one, trials_of([3.0, None], seeds=(1000, 1001))]) == found
    assert spent([one, trials_of([3.0], seeds=(7,))]).trials == 4 and spent([]).tokens == 0


def test_a_hybrid_is_charged_the_yardsticks_trials_as_well(tmp_path):
    own, theirs = trials_of([3.0, 3.1]), write_trials(tmp_path / "l", yardstick(), bowl(), 5)
    plain, hybrid = (search_of("a", [own], 1.0, -0.2, 6.0, [own], lent) for lent in ([], [theirs]))
    assert plain.charged == plain.spent.tokens == hybrid.spent.tokens == 2000 and plain.lent == 0
    assert hybrid.lent == sum(run.charged_tokens for trial in theirs for run in trial.runs) > 0
    assert hybrid.charged == 2000 + hybrid.lent


def test_a_real_search_is_read_whole(tmp_path):
    trials = write_trials(tmp_path / "ledger", plan_of("adamw"), bowl())
    found = search_of("adamw", [(), trials], 1.0, -0.2, 6.0, [trials])
    assert found.spent.trials == 20 and len(found.after_k) == 12
    bests = [at.best for at in found.after_k]
    assert bests == sorted(bests, reverse=True) and bests[-1] == min(trial.loss for trial in trials[:12])
    for at in found.after_k:
        assert at.low <= at.median <= at.high
    assert found.tolerance.value == pytest.approx(1.4, rel=0.1) and 0 < found.sensitivity.value < 0.1
    assert search_of("adamw", [()], 1.0, -0.2, 6.0, []).tolerance is None
