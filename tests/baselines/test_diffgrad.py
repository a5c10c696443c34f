"""diffGrad against pytorch_optimizer's on the same gradients, and its limits against Adam.

Theirs adds 1e-15 to v under the root and eps to a root without its correction: eps is next to nothing here, and no
entry of a gradient near zero. Decay is decoupled in both.
"""

from pathlib import Path

import pytorch_optimizer
import torch
from open_loop import LINE, MATRICES, furthest_apart, gradients_of, of_entry, of_library

from bench.entry import Entry

ROOT = Path(__file__).parents[2]
ENTRY = Entry(ROOT / "baselines/diffgrad/diffgrad.toml")
ADAMW = Entry(ROOT / "baselines/adamw/adamw.toml")
SHAPES = [*MATRICES, LINE]
VALUES = {"lr": 0.01, "beta1": 0.9, "beta2": 0.95, "eps": 1e-20, "weight_decay": 0.3}


def test_its_steps_are_those_of_pytorch_optimizer_s():
    def make(weights):
        groups = [
            {"params": [w for w in weights if w.ndim == 2], "weight_decay": 0.3},
            {"params": [w for w in weights if w.ndim == 1], "weight_decay": 0.0},
        ]
        return pytorch_optimizer.DiffGrad(groups, lr=0.01, betas=(0.9, 0.95), eps=1e-20, weight_decouple=True)

    gradients = [[g + 0.1 * g.sign() for g in step] for step in gradients_of(SHAPES)]
    assert furthest_apart(of_entry(ENTRY, VALUES, gradients), of_library(make, gradients)) < 2e-5


def test_a_gradient_that_does_not_change_makes_half_of_adam_s_steps():
    values = {**VALUES, "weight_decay": 0.0}
    gradients = gradients_of(SHAPES, steps=1) * 5
    first, *steps = of_entry(ENTRY, values, gradients)
    adam_first, *adam = of_entry(ADAMW, values, gradients)
    assert furthest_apart(steps, [[0.5 * d for d in step] for step in adam]) < 1e-5
    for mine, theirs, g in zip(first, adam_first, gradients[0], strict=True):  # before it stands a gradient of zero
        torch.testing.assert_close(mine, theirs * torch.sigmoid(g.abs()), rtol=1e-4, atol=1e-7)


def test_gradients_that_change_much_make_adam_s_steps():
    values = {**VALUES, "weight_decay": 0.0}
    gradients = [[(-1) ** t * 50.0 * torch.ones(shape) for shape in SHAPES] for t in range(4)]
    assert furthest_apart(of_entry(ENTRY, values, gradients), of_entry(ADAMW, values, gradients)) < 1e-5
