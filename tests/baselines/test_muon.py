"""Muon against torch's own on the same gradients, and its step on blocks."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import Parameter

from bench.entry import Entry
from bench.roles import Matrix, Roles, Run

ENTRY = Entry(Path(__file__).parents[2] / "baselines/muon/muon.toml")
RUN = Run(10, 1000, 100, torch.device("cpu"), torch.Generator())
SHAPES = [(16, 16), (48, 16), (16, 48)]


def roles_with(weights, blocks=None):
    hidden = (Matrix(w, 0, "any", "in", blocks or (w.shape[0],)) for w in weights)
    return Roles(tuple(hidden), (), (), ())


def weights(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]


def test_ten_steps_are_those_of_torch_s_muon():
    hp = ENTRY.hyperparameters(ENTRY.values({"lr": 0.02, "weight_decay": 0.1}))
    mine, theirs, start = weights(), weights(), weights()
    own = ENTRY.module().build(roles_with(mine), hp, RUN)
    reference = torch.optim.Muon(theirs, lr=0.02, weight_decay=0.1, momentum=0.95, nesterov=True, ns_steps=5,
                                 ns_coefficients=(3.4445, -4.7750, 2.0315), adjust_lr_fn="original")  # fmt: skip
    generator = torch.Generator().manual_seed(1)
    for _ in range(10):
        for w, v in zip(mine, theirs, strict=True):
            w.grad = torch.randn(w.shape, generator=generator)
            v.grad = w.grad.clone()
        own.step()
        reference.step()
    for w, v, w0 in zip(mine, theirs, start, strict=True):
        assert (w - v).norm() < 2e-2 * (v - w0).norm()


def test_a_weight_of_several_blocks_steps_as_its_blocks_would_alone():
    fused = Parameter(torch.zeros(12, 8))
    alone = [Parameter(torch.zeros(4, 8)) for _ in range(3)]
    gradient = torch.randn(12, 8, generator=torch.Generator().manual_seed(2))
    fused.grad = gradient
    for w, g in zip(alone, gradient.split(4), strict=True):
        w.grad = g.clone()
    hp = replace(ENTRY.hyperparameters(ENTRY.values({})), weight_decay=0.0)
    for roles in (roles_with([fused], (4, 4, 4)), roles_with(alone)):
        ENTRY.module().build(roles, hp, RUN).step()
    torch.testing.assert_close(fused.detach(), torch.cat([w.detach() for w in alone]), rtol=1e-2, atol=1e-5)


def test_the_first_step_has_the_spectral_norm_that_lr_says():
    hp = replace(ENTRY.hyperparameters(ENTRY.values({})), lr=0.5, weight_decay=0.0)
    w = Parameter(torch.zeros(64, 16))
    w.grad = torch.randn(64, 16, generator=torch.Generator().manual_seed(3))
    ENTRY.module().build(roles_with([w]), hp, RUN).step()
    assert torch.linalg.matrix_norm(w.detach(), 2).item() == pytest.approx(0.5 * 2, rel=0.25)  # sqrt(64 / 16) = 2
