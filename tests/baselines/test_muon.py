"""Muon against torch's own on the same gradients, and its step on blocks."""

from pathlib import Path

import pytest
import torch
from open_loop import MATRICES, furthest_apart, gradients_of, of_entry, of_library

from bench.entry import Entry

ENTRY = Entry(Path(__file__).parents[2] / "baselines/muon/muon.toml")


def test_its_steps_are_those_of_torch_s_muon():
    gradients = gradients_of(MATRICES)
    mine = of_entry(ENTRY, {"lr": 0.02, "weight_decay": 0.1}, gradients)
    theirs = of_library(
        lambda weights: torch.optim.Muon(
            weights, lr=0.02, weight_decay=0.1, momentum=0.95, nesterov=True, ns_steps=5,
            ns_coefficients=(3.4445, -4.7750, 2.0315), adjust_lr_fn="original"
        ), gradients,
    )  # fmt: skip
    assert furthest_apart(mine, theirs) < 2e-2


def test_a_weight_of_several_blocks_steps_as_its_blocks_would_alone():
    fused = gradients_of([(24, 8)], steps=4)
    alone = [[*step[0].split(8)] for step in fused]
    values = {"weight_decay": 0.0}
    (whole,) = zip(*of_entry(ENTRY, values, fused, blocks=(8, 8, 8)), strict=True)
    parts = of_entry(ENTRY, values, alone)
    for together, apart in zip(whole, parts, strict=True):
        torch.testing.assert_close(together, torch.cat(apart), rtol=1e-2, atol=1e-5)


def test_the_first_step_has_the_spectral_norm_that_lr_says():
    (((moved),),) = of_entry(ENTRY, {"lr": 0.5, "weight_decay": 0.0}, gradients_of([(64, 16)], steps=1, seed=3))
    assert torch.linalg.matrix_norm(moved, 2).item() == pytest.approx(0.5 * 2, rel=0.25)  # sqrt(64 / 16) = 2
