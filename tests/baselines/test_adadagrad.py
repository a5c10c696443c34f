"""AdAdaGrad: its steps are AdaGrad's of two libraries, and its batches those that the norm test asks for."""

from pathlib import Path

import pytest
import torch
from asked import Answers, of_asking
from open_loop import LINE, MATRICES, furthest_apart, gradients_of, of_library, weights_of

from bench.battery.tiny import BATCH, Tiny
from bench.entry import Entry

ENTRY = Entry(Path(__file__).parents[2] / "baselines/adadagrad/adadagrad.toml")
SHAPES = [*MATRICES, LINE]
needed = ENTRY.module().needed_sequences


def alike(step: int, weights: list) -> list[dict]:
    return [{w: torch.ones_like(w) for w in weights}] * 8


def test_its_steps_are_torch_s_where_nothing_decays():
    gradients = gradients_of(SHAPES)
    mine, _ = of_asking(ENTRY, {"lr": 0.1, "weight_decay": 0.0}, gradients, {"group_gradients": alike})
    theirs = of_library(lambda weights: torch.optim.Adagrad(weights, lr=0.1, eps=1e-10), gradients)
    assert furthest_apart(mine, theirs) < 2e-5


def drawn(mean: float, deviation: float, groups: int, size: int, seed: int = 0):
    """Return group gradients: each the mean of so many of independent coordinates."""
    generator = torch.Generator().manual_seed(seed)
    return lambda step, weights: [
        {w: mean + deviation / size**0.5 * torch.randn(w.shape, generator=generator) for w in weights}
        for _ in range(groups)
    ]


@pytest.mark.parametrize(("grain", "sequences", "groups"), [(64, 64, 8), (64, 512, 8), (64, 576, 3), (16, 1040, 5)])
def test_no_group_is_of_micro_batches_of_different_lengths(grain, sequences, groups):
    """A probe gives each the same say in a group, as is right for whole ones alone."""
    asked = []

    class Probe:
        ranks = 1

        def group_gradients(self, count):
            asked.append(count)
            return iter([{0: torch.ones(2)}] * count)

    Probe.grain, Probe.sequences = grain, sequences
    assert needed(Probe(), 1.0) == 0 and asked == [groups]


@pytest.mark.parametrize("size", [1, 4])
def test_gaussian_gradients_need_what_their_variance_over_their_mean_says(size):
    """tr(Sigma) / (eta^2 |mean|^2) = 4 / eta^2 here; the batch's own mean is longer, by the noise of 8 groups."""
    weights, groups = weights_of([(100, 100)]), 8
    probe = Answers(weights, {"group_gradients": drawn(0.5, 1.0, groups, size)}, sequences=groups * size)
    longer = 1 + 4 / (groups * size)
    assert needed(probe, 0.5) == pytest.approx(4 / 0.25 / longer, rel=0.05)


def test_gradients_that_are_all_noise_need_one_over_eta_squared_times_the_batch():
    """As much as a test can ask for: |mean|^2 is V / batch then, so that eta = 1 asks for the batch that there is."""
    weights = weights_of([(100, 100)])
    for eta in (0.5, 1.0):
        probe = Answers(weights, {"group_gradients": drawn(0.0, 1.0, groups=8, size=2)}, sequences=16)
        assert needed(probe, eta) == pytest.approx(16 / eta**2, rel=0.05)


def test_sequences_that_are_alike_need_no_larger_batch():
    assert needed(Answers(weights_of([(4, 4)]), {"group_gradients": alike}), 0.1) == pytest.approx(0, abs=1e-6)


def test_one_sequence_a_rank_tells_no_variance():
    assert needed(Answers(weights_of([(4, 4)]), {}, sequences=1), 0.1) == 0


def test_batches_grow_at_the_declared_values_never_shrink_and_spend_the_budget():
    tiny = Tiny(ENTRY, steps=60).train()
    sizes = tiny.progress.batches
    assert sizes[0] == BATCH and max(sizes) <= 8 * BATCH and sizes[:-1] == sorted(sizes[:-1])
    assert max(sizes) > 2 * BATCH and not any(size % BATCH for size in sizes)
    assert sum(sizes) == 60 * BATCH and tiny.progress.tokens == tiny.course.tokens


def test_a_loose_test_keeps_the_batch():
    assert set(Tiny(ENTRY, steps=20, values={"eta": 1e3}).train().progress.batches) == {BATCH}
