"""LANTON with a second batch: its option II against option I, which is proven, where both see the same differences."""

from pathlib import Path

from asked import by_weight, of_asking
from open_loop import MATRICES, furthest_apart, gradients_of, of_entry

from bench.battery.tiny import BATCH, Tiny
from bench.entry import Entry

FOLDER = Path(__file__).parents[2] / "baselines/lanton"
ONE, TWO = Entry(FOLDER / "lanton.toml"), Entry(FOLDER / "lanton-two.toml")
VALUES = {"lr": 0.02, "weight_decay": 0.1, "alpha": 1e-3, "orthogonalization": "exact"}


def test_given_the_last_step_s_gradient_for_a_second_batch_it_is_option_one():
    gradients = gradients_of(MATRICES)

    def before(step, weights):
        return dict(zip(weights, gradients[step - 1], strict=True)) if step else None

    mine, probe = of_asking(TWO, VALUES, gradients, {"fresh_gradient": before})
    assert furthest_apart(mine, of_entry(ONE, VALUES, gradients)) < 1e-5
    assert probe.asked == [(step, "fresh_gradient") for step in range(len(gradients))]


def test_equal_gradients_of_both_batches_are_no_noise():
    """So every rate is whole, as where the noise is far below alpha."""
    gradients = gradients_of(MATRICES)
    quiet, _ = of_asking(TWO, VALUES, gradients, {"fresh_gradient": by_weight(gradients)})
    last = by_weight([gradients[-1]] * len(gradients))
    deaf, _ = of_asking(TWO, {**VALUES, "alpha": 1e9}, gradients, {"fresh_gradient": last})
    assert furthest_apart(quiet, deaf) < 1e-5


def test_half_of_the_budget_is_fresh():
    progress = Tiny(TWO, steps=9).train().progress
    assert progress.batches == [BATCH] * 5 and progress.probe["fresh"] == 4 * BATCH
    assert progress.tokens == 9 * BATCH * 16
