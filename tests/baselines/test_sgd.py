"""SGD against torch's, pytorch_optimizer's and heavyball's on the same gradients.

torch adds decay to the gradient, so it is compared without; pytorch_optimizer's SGDW and heavyball's decay decoupled as
ours does, and all three start their momentum with the whole first gradient, which ours, from zero, does too.
"""

from pathlib import Path

import heavyball
import pytest
import pytorch_optimizer
import torch
from open_loop import LINE, MATRICES, furthest_apart, gradients_of, of_entry, of_library

from bench.entry import Entry

ENTRY = Entry(Path(__file__).parents[2] / "baselines/sgd/sgd.toml")
heavyball.utils.compile_mode = None  # plain kernels: compiling takes longer than the test

LIBRARIES = {
    "torch": (0.0, lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9)),
    "pytorch_optimizer": (0.3, lambda groups: pytorch_optimizer.SGDW(groups, lr=0.1, momentum=0.9)),
    "heavyball": (0.3, lambda groups: heavyball.SGD(groups, lr=0.1, beta=0.9)),
}


@pytest.mark.parametrize("library", LIBRARIES)
def test_its_steps_are_those_of_a_library_s(library):
    weight_decay, made = LIBRARIES[library]

    def make(weights):
        return made([
            {"params": [w for w in weights if w.ndim == 2], "weight_decay": weight_decay},
            {"params": [w for w in weights if w.ndim == 1], "weight_decay": 0.0},
        ])  # fmt: skip

    gradients = gradients_of([*MATRICES, LINE])
    mine = of_entry(ENTRY, {"lr": 0.1, "momentum": 0.9, "weight_decay": weight_decay}, gradients)
    assert furthest_apart(mine, of_library(make, gradients)) < 1e-5
