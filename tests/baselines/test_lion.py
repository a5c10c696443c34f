"""Lion against lion-pytorch and pytorch_optimizer on the same gradients, and a step worked by hand.

Both decay as the paper does where their other kind of decay is left off (lion-pytorch's `decoupled_weight_decay`
divides by the first learning rate, pytorch_optimizer's `fixed_decay` leaves the rate out); neither spares vectors, so
they get a group of their own.
"""

from pathlib import Path

import lion_pytorch
import pytest
import pytorch_optimizer
import torch
from open_loop import LINE, MATRICES, furthest_apart, gradients_of, of_entry, of_library, roles_with, run_of
from torch.nn import Parameter

from bench.entry import Entry

ENTRY = Entry(Path(__file__).parents[2] / "baselines/lion/lion.toml")
VALUES = {"lr": 0.01, "beta1": 0.9, "beta2": 0.99, "weight_decay": 0.3}


def groups(weights):
    return [
        {"params": [w for w in weights if w.ndim == 2], "weight_decay": 0.3},
        {"params": [w for w in weights if w.ndim == 1], "weight_decay": 0.0},
    ]


@pytest.mark.parametrize("library", [lion_pytorch.Lion, pytorch_optimizer.Lion], ids=lambda made: made.__module__)
def test_its_steps_are_those_of_a_library_s(library):
    gradients = gradients_of([*MATRICES, LINE])
    mine = of_entry(ENTRY, VALUES, gradients)
    theirs = of_library(lambda weights: library(groups(weights), lr=0.01, betas=(0.9, 0.99)), gradients)
    assert furthest_apart(mine, theirs) < 1e-6


def test_a_step_worked_by_hand():
    w = Parameter(torch.tensor([[1.0, 1.0, 1.0]]))
    hp = ENTRY.hyperparameters(ENTRY.values({**VALUES, "lr": 0.1, "weight_decay": 0.5}))
    optimizer = ENTRY.module().build(roles_with([w]), hp, run_of())
    optimizer.state[w]["momentum"] = torch.tensor([[-0.1, 1.0, 0.0]])
    w.grad = torch.tensor([[0.3, -2.0, 0.0]])
    optimizer.step()
    # 0.9 m + 0.1 g = (-0.06, 0.7, 0), of which the signs; the decay is 0.1 0.5 of 1
    torch.testing.assert_close(w.detach(), torch.tensor([[0.95 + 0.1, 0.95 - 0.1, 0.95]]))
    # 0.99 m + 0.01 g
    torch.testing.assert_close(optimizer.state[w]["momentum"], torch.tensor([[-0.096, 0.97, 0.0]]))


def test_without_memory_it_is_the_sign_of_the_gradient():
    gradients = gradients_of([*MATRICES, LINE])
    moved = of_entry(ENTRY, {"lr": 0.5, "beta1": 0.0, "beta2": 0.0, "weight_decay": 0.0}, gradients)
    for step, drawn in zip(moved, gradients, strict=True):
        for displacement, g in zip(step, drawn, strict=True):
            torch.testing.assert_close(displacement, -0.5 * g.sign(), rtol=0, atol=1e-5)
