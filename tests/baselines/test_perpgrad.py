"""perpGrad: its steps are a library's, around AdamW; what it leaves is across the weights, and as long as before."""

from pathlib import Path

import pytorch_optimizer
import torch
from open_loop import LINE, MATRICES, furthest_apart, gradients_of, of_entry, of_library

from bench.entry import Entry

ENTRY = Entry(Path(__file__).parents[2] / "baselines/perpgrad/perpgrad.toml")
across = ENTRY.module().across


def test_its_steps_around_adamw_are_those_of_a_library_s():
    gradients = gradients_of([*MATRICES, LINE])

    def make(weights):
        return pytorch_optimizer.OrthoGrad(torch.optim.AdamW(weights, lr=0.01, betas=(0.9, 0.95), weight_decay=0.0))

    mine = of_entry(ENTRY, {"lr": 0.01, "beta2": 0.95}, gradients)
    assert furthest_apart(mine, of_library(make, gradients)) < 2e-5


def test_what_is_left_is_orthogonal_to_the_weights_and_has_the_gradient_s_length():
    generator = torch.Generator().manual_seed(0)
    w, g = (torch.randn(24, 8, generator=generator, dtype=torch.float64) for _ in range(2))
    left = across(w, g)
    assert abs((w * left).sum()) < 1e-12 * w.norm() * g.norm()
    torch.testing.assert_close(left.norm(), g.norm(), rtol=1e-12, atol=0)


def test_a_plain_step_grows_the_weights_by_the_theorem_of_pythagoras():
    generator = torch.Generator().manual_seed(1)
    w, g = (torch.randn(16, generator=generator, dtype=torch.float64) for _ in range(2))
    moved = w - 0.1 * across(w, g)
    torch.testing.assert_close(moved.square().sum(), w.square().sum() + 0.01 * g.square().sum(), rtol=1e-12, atol=0)


def test_a_weight_of_zeros_keeps_its_gradient_and_one_along_the_gradient_stands_still():
    g = torch.tensor([3.0, -4.0])
    torch.testing.assert_close(across(torch.zeros(2), g), g)
    assert across(torch.tensor([1.0, 0.0]), torch.tensor([2.0, 0.0])).abs().max() < 1e-6
