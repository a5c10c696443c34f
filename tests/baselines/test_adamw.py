"""AdamW, which is torch's fused one, against torch's plain one and heavyball's on the same gradients.

pytorch_optimizer's AdamW is torch's own class. heavyball takes the larger of sqrt(v) and eps where torch adds them, so
eps is next to nothing against it; its debiased betas are the same averages, written otherwise.
"""

from pathlib import Path

import heavyball
import pytest
import torch
from open_loop import LINE, MATRICES, furthest_apart, gradients_of, of_entry, of_library

from bench.entry import Entry

ENTRY = Entry(Path(__file__).parents[2] / "baselines/adamw/adamw.toml")
heavyball.utils.compile_mode = None  # plain kernels: compiling takes longer than the test

LIBRARIES = {
    "torch": (1e-8, lambda groups: torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.95), fused=False, foreach=False)),
    "heavyball": (1e-20, lambda groups: heavyball.AdamW(groups, lr=0.01, betas=(0.9, 0.95), eps=1e-20)),
}


@pytest.mark.parametrize("library", LIBRARIES)
def test_its_steps_are_those_of_a_library_s(library):
    eps, made = LIBRARIES[library]

    def make(weights):
        return made([
            {"params": [w for w in weights if w.ndim == 2], "weight_decay": 0.3},
            {"params": [w for w in weights if w.ndim == 1], "weight_decay": 0.0},
        ])  # fmt: skip

    gradients = gradients_of([*MATRICES, LINE])
    mine = of_entry(ENTRY, {"lr": 0.01, "beta1": 0.9, "beta2": 0.95, "eps": eps, "weight_decay": 0.3}, gradients)
    assert furthest_apart(mine, of_library(make, gradients)) < 2e-5


def test_without_memory_it_is_the_sign_of_the_gradient():
    gradients = gradients_of([*MATRICES, LINE], steps=2)
    moved = of_entry(ENTRY, {"lr": 0.5, "beta1": 0.0, "beta2": 0.0, "eps": 0.0, "weight_decay": 0.0}, gradients)
    for step, drawn in zip(moved, gradients, strict=True):
        for displacement, g in zip(step, drawn, strict=True):
            torch.testing.assert_close(displacement, -0.5 * g.sign(), rtol=1e-5, atol=1e-5)
