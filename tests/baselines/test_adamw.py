"""AdamW, which is torch's fused one, against torch's plain one and heavyball's on the same gradients.

pytorch_optimizer's AdamW is torch's own class. heavyball takes the larger of sqrt(v) and eps where torch adds them, so
eps is next to nothing against it; its debiased betas are the same averages, written otherwise.
"""

from pathlib import Path

import heavyball
import pytest
import torch
from open_loop import (
    LINE,
    MATRICES,
    SQUARE,
    TALL,
    WIDE,
    displacements,
    furthest_apart,
    gradients_of,
    of_entry,
    of_library,
    run_of,
    weights_of,
)

from bench.entry import Entry
from bench.roles import Matrix, Roles

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


def test_embedding_and_head_decay_as_matrices_do_and_the_rest_has_a_rate_of_its_own():
    shapes = [SQUARE, TALL, WIDE, LINE]
    gradients = gradients_of(shapes)
    weights = weights_of(shapes)
    hidden, embedding, head, vector = weights
    roles = Roles((Matrix(hidden, 0, "any", "in", (16,)),), (embedding,), (head,), (vector,))
    values = {"lr": 0.01, "rest_lr_factor": 2.0, "beta1": 0.8, "beta2": 0.95, "weight_decay": 0.3}
    mine = displacements(weights, [ENTRY.build(ENTRY.values(values), roles, run_of())], gradients)

    def make(copies):
        hidden, embedding, head, vector = copies
        return torch.optim.AdamW([
            {"params": [hidden], "lr": 0.01, "weight_decay": 0.3},
            {"params": [embedding, head], "lr": 0.02, "weight_decay": 0.3},
            {"params": [vector], "lr": 0.02, "weight_decay": 0.0},
        ], betas=(0.8, 0.95), fused=False, foreach=False)  # fmt: skip

    assert furthest_apart(mine, of_library(make, gradients)) < 2e-5
