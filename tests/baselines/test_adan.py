"""Adan against pytorch_optimizer's and adan-pytorch's on the same gradients, and its limit.

Both decay by a proximal step, as the paper does, where pytorch_optimizer's `weight_decouple` is left off. adan-pytorch
writes the betas as what is replaced, and makes nothing of its first gradient, not even a difference later: its first
gradient is zero here.
"""

from pathlib import Path

import adan_pytorch
import pytest
import pytorch_optimizer
import torch
from open_loop import LINE, MATRICES, furthest_apart, gradients_of, of_entry, of_library, roles_with, run_of
from torch.nn import Parameter

from bench.entry import Entry

ROOT = Path(__file__).parents[2]
ENTRY = Entry(ROOT / "baselines/adan/adan.toml")
SHAPES = [*MATRICES, LINE]

LIBRARIES = {
    "pytorch_optimizer": (False, lambda groups: pytorch_optimizer.Adan(
        groups, lr=0.01, betas=(0.98, 0.92, 0.99), max_grad_norm=0.0)),
    "adan_pytorch": (True, lambda groups: adan_pytorch.Adan(groups, lr=0.01, betas=(0.02, 0.08, 0.01))),
}  # fmt: skip


@pytest.mark.parametrize("library", LIBRARIES)
def test_its_steps_are_those_of_a_library_s(library):
    from_zero, made = LIBRARIES[library]

    def make(weights):
        return made([
            {"params": [w for w in weights if w.ndim == 2], "weight_decay": 0.3},
            {"params": [w for w in weights if w.ndim == 1], "weight_decay": 0.0},
        ])  # fmt: skip

    gradients = gradients_of(SHAPES)
    if from_zero:
        gradients = [[torch.zeros_like(g) for g in gradients[0]], *gradients]
    mine = of_entry(ENTRY, {"lr": 0.01, "weight_decay": 0.3}, gradients, torch.float64)
    assert furthest_apart(mine, of_library(make, gradients, torch.float64)) < 1e-9


def test_without_differences_it_is_adam():
    gradients = gradients_of(SHAPES)
    mine = of_entry(ENTRY, {"lr": 0.01, "beta1": 0.9, "beta2": 0.0, "beta3": 0.95, "weight_decay": 0.0}, gradients)
    adam = {"lr": 0.01, "beta1": 0.9, "beta2": 0.95, "weight_decay": 0.0}
    assert furthest_apart(mine, of_entry(Entry(ROOT / "baselines/adamw/adamw.toml"), adam, gradients)) < 1e-5


def test_two_steps_worked_by_hand():
    w = Parameter(torch.tensor([[1.0]], dtype=torch.float64))
    values = {"lr": 0.1, "beta1": 0.5, "beta2": 0.5, "beta3": 0.5, "eps": 0.0, "weight_decay": 2.0}
    optimizer = ENTRY.module().build(roles_with([w]), ENTRY.hyperparameters(ENTRY.values(values)), run_of())
    w.grad = torch.tensor([[2.0]], dtype=torch.float64)
    optimizer.step()
    assert w.item() == pytest.approx((1 - 0.1) / 1.2)  # the difference is zero: a step of Adam's
    w.grad = torch.tensor([[4.0]], dtype=torch.float64)
    optimizer.step()
    m, q, v = (0.25 * 2 + 0.5 * 4) / 0.75, 0.5 * 2 / 0.75, (0.25 * 4 + 0.5 * (4 + 0.5 * 2) ** 2) / 0.75
    assert w.item() == pytest.approx((0.75 - 0.1 * (m + 0.5 * q) / v**0.5) / 1.2)
