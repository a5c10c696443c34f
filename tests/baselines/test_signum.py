"""Signum against pytorch_optimizer's SignSGD with momentum on the same gradients, and its limit without momentum.

Theirs decays decoupled from the gradient as ours does; it does not spare vectors, so they get a group of their own.
torch.optim and heavyball have no Signum (heavyball's SignLaProp divides by a second moment before its momentum).
"""

from pathlib import Path

import pytorch_optimizer
import torch
from open_loop import LINE, MATRICES, furthest_apart, gradients_of, of_entry, of_library

from bench.entry import Entry

ENTRY = Entry(Path(__file__).parents[2] / "baselines/signum/signum.toml")


def test_its_steps_are_those_of_pytorch_optimizer_s():
    gradients = gradients_of([*MATRICES, LINE])
    mine = of_entry(ENTRY, {"lr": 0.01, "momentum": 0.9, "weight_decay": 0.3}, gradients)

    def make(weights):
        groups = [
            {"params": [w for w in weights if w.ndim == 2], "weight_decay": 0.3},
            {"params": [w for w in weights if w.ndim == 1], "weight_decay": 0.0},
        ]
        return pytorch_optimizer.SignSGD(groups, lr=0.01, momentum=0.9, weight_decouple=True)

    assert furthest_apart(mine, of_library(make, gradients)) < 1e-6


def test_without_momentum_it_is_the_sign_of_the_gradient():
    gradients = gradients_of([*MATRICES, LINE])
    moved = of_entry(ENTRY, {"lr": 0.5, "momentum": 0.0, "weight_decay": 0.0}, gradients)
    for step, drawn in zip(moved, gradients, strict=True):
        for displacement, g in zip(step, drawn, strict=True):
            torch.testing.assert_close(displacement, -0.5 * g.sign(), rtol=0, atol=1e-5)
