"""MARS-M and MARS-Shampoo against pytorch_optimizer's and heavyball's on the same gradients; the correction by hand.

pytorch_optimizer's MARS of type "shampoo" is the value "spectral" of scaling: the gradient before is zero at first, as
here. heavyball's `mars` flag clips nothing, so gradients stay small against it; 3.2.1 hands gamma and beta1 to its
correction in each other's place, so that it takes beta1 gamma / (1 - gamma) of g - g' and is given another gamma.
"""

from functools import partial
from pathlib import Path

import heavyball
import pytest
import pytorch_optimizer
import quintics
import torch
from open_loop import MATRICES, displacements, furthest_apart, gradients_of, of_entry, of_library, roles_with, run_of
from pytorch_optimizer.optimizer import mars
from torch.nn import Parameter

from bench.entry import Entry
from bench.facts import state_tensors
from bench.linalg.newton_schulz import COEFFICIENTS

ROOT = Path(__file__).parents[2]
ENTRY, MOONLIGHT = Entry(ROOT / "baselines/mars_muon/mars-muon.toml"), Entry(ROOT / "baselines/muon/moonlight.toml")
VALUES = {"lr": 0.02, "weight_decay": 0.1}
FACTOR = 0.025 * 0.95 / 0.05


def test_its_steps_are_those_of_pytorch_optimizer_s(monkeypatch):
    """In float64 on both sides: it scales the momentum before bf16 rounds it, which turns a step by 3 percent."""
    steps = partial(mars.zero_power_via_newton_schulz_5, dtype=torch.float64)
    monkeypatch.setattr(mars, "zero_power_via_newton_schulz_5", steps)
    gradients = [[0.05 * g for g in step] for step in gradients_of(MATRICES)]
    assert {bool(g.norm() > 1) for step in gradients for g in step} == {True, False}, "some are clipped, some not"
    theirs = of_library(
        lambda weights: pytorch_optimizer.MARS(
            weights, lr=0.02, betas=(0.95, 0.99), gamma=0.025, mars_type="shampoo", weight_decay=0.1
        ), gradients, torch.float64,
    )  # fmt: skip
    mine = of_entry(ENTRY, {**VALUES, "scaling": "spectral"}, gradients, torch.float64)
    assert furthest_apart(mine, theirs) < 1e-5


def test_its_steps_are_those_of_heavyball_s_where_nothing_is_clipped(monkeypatch):
    monkeypatch.setitem(COEFFICIENTS, "jordan", quintics.HEAVYBALL)
    monkeypatch.setattr(heavyball.utils, "compile_mode", None)
    gradients = [[1e-2 * g for g in step] for step in gradients_of(MATRICES)][:-1]
    values = {**VALUES, "scaling": "spectral", "orthogonalization": "jordan"}
    theirs = of_library(
        lambda weights: heavyball.Muon(
            weights, lr=0.02, weight_decay=0.1, betas=(0.95, 0.99), nesterov=False, heavyball_momentum=True, mars=True,
            mars_gamma=FACTOR / (0.95 + FACTOR)
        ), gradients, torch.float64,
    )  # fmt: skip
    assert furthest_apart(of_entry(ENTRY, values, gradients, torch.float64), theirs) < 1e-5


def test_the_two_sizes_are_one_direction():
    gradients = gradients_of(MATRICES)
    rms, spectral = (of_entry(ENTRY, {**VALUES, "scaling": s, "weight_decay": 0.0}, gradients) for s in
                     ("rms", "spectral"))  # fmt: skip
    for a, b in zip(rms, spectral, strict=True):
        for x, y in zip(a, b, strict=True):
            rows, columns = x.shape
            factor = 0.2 * max(rows, columns) ** 0.5 / max(1, rows / columns) ** 0.5
            torch.testing.assert_close(x, factor * y, rtol=1e-3, atol=1e-5)


def test_without_correction_the_first_step_is_moonlight_s_and_a_gradient_that_stays_keeps_its_direction():
    """Momentum and Nesterov's blend are multiples of the first gradient then, whatever is clipped."""
    first = gradients_of(MATRICES, steps=1)
    plain = of_entry(ENTRY, {**VALUES, "gamma": 0.0}, first, torch.float64)
    assert furthest_apart(plain, of_entry(MOONLIGHT, VALUES, first, torch.float64)) < 1e-5
    twice = of_entry(ENTRY, {**VALUES, "weight_decay": 0.0}, first * 2, torch.float64)
    assert furthest_apart(twice[1:], twice[:1]) < 1e-5


def test_two_steps_worked_by_hand():
    """momentum 0.5 and gamma 1: c = 2 g - g'. diag(3, 4) gives c = diag(6, 8), clipped to diag(0.6, 0.8), m = c / 2;
    diag(1.5, 1.9) gives c = diag(0, -0.2), not clipped, and m = diag(0.15, 0.2) - diag(0, 0.1) = diag(0.15, 0.1)."""
    w = Parameter(torch.zeros(2, 2, dtype=torch.float64))
    hp = ENTRY.hyperparameters(ENTRY.values({"momentum": 0.5, "gamma": 1.0, "weight_decay": 0.0, "lr": 1.0,
                                             "orthogonalization": "exact"}))  # fmt: skip
    optimizer = ENTRY.module().build(roles_with([w]), hp, run_of())
    drawn = [[torch.diag(torch.tensor(d, dtype=torch.float64))] for d in ([3.0, 4.0], [1.5, 1.9])]
    for expected, gradients in zip(([0.3, 0.4], [0.15, 0.1]), drawn, strict=True):
        ((moved,),) = displacements([w], [optimizer], [gradients])
        torch.testing.assert_close(optimizer.state[w]["momentum"][0].diag(), torch.tensor(expected).double())
        torch.testing.assert_close(moved, -0.2 * 2**0.5 * torch.eye(2).double())


def test_blocks_are_clipped_and_stepped_alone():
    fused = gradients_of([(24, 8)], steps=4)
    parts = of_entry(ENTRY, {**VALUES, "weight_decay": 0.0}, [[*step[0].split(8)] for step in fused], torch.float64)
    whole = of_entry(ENTRY, {**VALUES, "weight_decay": 0.0}, fused, torch.float64, blocks=(8, 8, 8))
    for (together,), apart in zip(whole, parts, strict=True):
        for part, alone in zip(together.split(8), apart, strict=True):
            torch.testing.assert_close(part, alone, rtol=0, atol=1e-9)


@pytest.mark.parametrize("shape", MATRICES)
def test_state_is_eight_bytes_a_parameter(shape):
    w = Parameter(torch.randn(shape))
    optimizer = ENTRY.module().build(roles_with([w]), ENTRY.hyperparameters(ENTRY.values({})), run_of())
    displacements([w], [optimizer], gradients_of([shape], steps=1))
    assert sum(tensor.nbytes for tensor in state_tensors([optimizer])) == 8 * w.numel()
