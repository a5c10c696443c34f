"""Degradations compared: figures that can be worked by hand, and intervals that cover what they say."""

import math

import numpy as np
import pytest

from bench.score.degradation import Cell, compare, correlation_with

REF = "adamw-ref"


def cell(entry, budget, floats, degradations, seeds=None, mode="ptq-w4"):
    seeds = tuple(range(len(floats))) if seeds is None else seeds
    return Cell(
        entry, mode, budget, seeds, tuple(floats), tuple(a + b for a, b in zip(floats, degradations, strict=True))
    )


def ladder(noise=0.0, rng=None, seeds=5):
    """A reference whose degradation falls by 0.1 a nat: 0.1 at 2.2, 0.12 at 2.0, 0.14 at 1.8."""
    found = []
    for budget, loss in ((0.5, 2.2), (1.0, 2.0), (2.0, 1.8)):
        drawn = rng.standard_normal(seeds) * noise if rng is not None else np.linspace(-1, 1, seeds) * noise
        found.append(cell(REF, budget, [loss] * seeds, [0.1 + (2.2 - loss) / 10 + e for e in drawn]))
    return found


def test_figures_worked_by_hand():
    mine = cell("muon", 1.0, [1.9] * 3, [0.150, 0.151, 0.149])
    found = compare([*ladder(0.001), mine], REF)[-1]
    assert found.degradation.value == pytest.approx(0.15)
    assert found.at_equal_loss.value == pytest.approx(0.15 - 0.13)
    assert found.at_equal_budget.value == pytest.approx(0.15 - 0.1195)  # of seeds 0 to 2: 0.119, 0.1195, 0.12
    assert found.at_equal_loss.sure and found.at_equal_loss.low < 0.02 < found.at_equal_loss.high


def test_pairs_share_seeds_and_nothing_is_paired_without_one():
    theirs = cell(REF, 1.0, [2.0] * 3, [0.1, 0.2, 0.3])
    mine = cell("muon", 1.0, [2.0] * 2, [0.25, 0.35], seeds=(1, 2))
    assert compare([theirs, mine], REF)[1].at_equal_budget.value == pytest.approx(0.05)
    apart = cell("muon", 1.0, [2.0] * 2, [0.25, 0.35], seeds=(7, 8))
    assert compare([theirs, apart], REF)[1].at_equal_budget is None


def test_off_the_references_losses_there_is_no_figure_and_one_rung_is_no_line():
    low = cell("muon", 4.0, [1.5] * 3, [0.2, 0.21, 0.19])
    assert compare([*ladder(0.001), low], REF)[-1].at_equal_loss is None
    assert compare([ladder(0.001)[0], cell("muon", 0.5, [2.2] * 3, [0.1] * 3)], REF)[-1].at_equal_loss is None


def test_the_reference_is_compared_with_nobody_and_one_seed_has_no_interval():
    found = compare([cell(REF, rung, [2.0 - rung], [0.1]) for rung in (0.5, 1.0)], REF)
    assert all(one.at_equal_loss is None and one.at_equal_budget is None for one in found)
    assert all(one.degradation.low is None and not one.degradation.sure for one in found)


def covered(means, noise_at, grows):
    """Return how often intervals hold the truth: of entries that lose these means, where the reference loses as much.

    Three seeds, five of the reference; 200 draws of six entries at each mean.
    """
    rng = np.random.default_rng(0)
    found = {mean: {"degradation": [], "at_equal_loss": [], "at_equal_budget": []} for mean in means}
    floats = {mean: 2.0 - number / 4 for number, mean in enumerate(means)}
    for _ in range(200):
        cells = []
        for mean in means:
            for number in range(7):
                seeds = 5 if number == 0 else 3
                drawn = mean + rng.standard_normal(seeds) * noise_at(mean)
                name = f"entry-{number}" if number else REF
                cells.append(cell(name, floats[mean], [floats[mean]] * seeds, drawn))
        for one in compare(cells, REF, grows):
            mean = next(mean for mean in means if floats[mean] == one.cell.budget)
            for name, hits in found[mean].items():
                estimate, truth = getattr(one, name), mean if name == "degradation" else 0
                if estimate is not None:
                    hits.append(estimate.low <= truth <= estimate.high)
    return {(mean, name): float(np.mean(hits)) for mean, names in found.items() for name, hits in names.items()}


@pytest.mark.parametrize(
    ("noise_at", "grows"), [(lambda mean: 0.004, False), (lambda mean: 0.04 * math.sqrt(mean), True)]
)
def test_intervals_cover_what_is_true_as_often_as_they_say(noise_at, grows):
    for what, share in covered((0.01, 0.05, 0.15), noise_at, grows).items():
        assert 0.93 <= share <= 0.985, what


def test_noise_that_grows_is_not_pooled_as_if_it_were_the_same_everywhere():
    """What loses most would be covered least, and what loses least too often."""
    alike = covered((0.01, 0.05, 0.15), lambda mean: 0.04 * math.sqrt(mean), False)
    assert alike[0.15, "degradation"] < 0.9 and alike[0.01, "degradation"] > 0.995


def test_a_measure_that_orders_entries_as_degradation_does_correlates_and_three_entries_are_too_few():
    degradation = {"a": 0.1, "b": 0.2, "c": 0.3, "d": 0.4, "e": 0.5}
    count, found = correlation_with({name: math.exp(10 * value) for name, value in degradation.items()}, degradation)
    assert count == 5 and found.value == pytest.approx(1.0) and -0.1 < found.low < 0.5
    _, against = correlation_with({name: -value for name, value in degradation.items()}, degradation)
    assert against.value == pytest.approx(-1.0)
    assert correlation_with(dict.fromkeys("abc", 1.0), degradation) is None
    assert correlation_with(dict.fromkeys("abcde", 1.0), degradation) is None
