"""Muon and Moonlight against torch's, pytorch_optimizer's and heavyball's on the same gradients; sizes and blocks."""

import math
from pathlib import Path

import heavyball
import pytest
import pytorch_optimizer
import quintics
import torch
from open_loop import MATRICES, furthest_apart, gradients_of, of_entry, of_library, roles_with, run_of, weights_of

from bench.entry import Entry
from bench.facts import state_tensors
from bench.linalg.newton_schulz import COEFFICIENTS

FOLDER = Path(__file__).parents[2] / "baselines/muon"
MUON, MOONLIGHT = (Entry(FOLDER / f"{name}.toml") for name in ("muon", "moonlight"))
VALUES = {"lr": 0.02, "weight_decay": 0.1}
every_entry = pytest.mark.parametrize("entry", [MUON, MOONLIGHT], ids=lambda entry: entry.name)


@every_entry
def test_its_steps_are_those_of_torch_s_muon(entry):
    gradients = gradients_of(MATRICES)
    adjust = {"spectral": "original", "rms": "match_rms_adamw"}[entry.defaults["scaling"]]
    theirs = of_library(
        lambda weights: torch.optim.Muon(
            weights, lr=0.02, weight_decay=0.1, momentum=0.95, nesterov=True, ns_steps=5,
            ns_coefficients=(3.4445, -4.7750, 2.0315), adjust_lr_fn=adjust
        ), gradients,
    )  # fmt: skip
    assert furthest_apart(of_entry(entry, VALUES, gradients), theirs) < 2e-2


@every_entry
def test_its_steps_are_those_of_pytorch_optimizer_s_muon(entry):
    """Its flag use_adjusted_lr is Moonlight's size in 4.1.0, and was the other way round in 3.9.0."""
    gradients = gradients_of(MATRICES)
    adjusted = entry.defaults["scaling"] == "rms"
    theirs = of_library(
        lambda weights: pytorch_optimizer.Muon(
            [{"params": weights, "use_muon": True}], lr=0.02, weight_decay=0.1, momentum=0.95, use_adjusted_lr=adjusted
        ), gradients,
    )  # fmt: skip
    assert furthest_apart(of_entry(entry, VALUES, gradients), theirs) < 2e-2


def test_its_steps_are_those_of_heavyball_s_muon(monkeypatch):
    """Its five quintics are its own; its momentum sums instead of averaging, which turns no direction; in float64,
    since it rounds to bf16 at random."""
    monkeypatch.setitem(COEFFICIENTS, "jordan", quintics.HEAVYBALL)
    monkeypatch.setattr(heavyball.utils, "compile_mode", None)
    gradients = gradients_of(MATRICES)
    mine = of_entry(MUON, {**VALUES, "orthogonalization": "jordan"}, gradients, torch.float64)
    theirs = of_library(
        lambda weights: heavyball.Muon(
            weights, lr=0.02, weight_decay=0.1, betas=(0.95, 0.99), nesterov=True, heavyball_momentum=True
        ), gradients, torch.float64,
    )  # fmt: skip
    assert furthest_apart(mine, theirs) < 1e-5


@every_entry
def test_a_weight_of_several_blocks_steps_as_its_blocks_would_alone(entry):
    fused = gradients_of([(24, 8)], steps=4)
    alone = [[*step[0].split(8)] for step in fused]
    values = {"weight_decay": 0.0}
    (whole,) = zip(*of_entry(entry, values, fused, blocks=(8, 8, 8)), strict=True)
    parts = of_entry(entry, values, alone)
    for together, apart in zip(whole, parts, strict=True):
        torch.testing.assert_close(together, torch.cat(apart), rtol=1e-2, atol=1e-5)


def test_the_first_step_has_the_spectral_norm_that_lr_says():
    (((moved),),) = of_entry(MUON, {"lr": 0.5, "weight_decay": 0.0}, gradients_of([(64, 16)], steps=1, seed=3))
    assert torch.linalg.matrix_norm(moved, 2).item() == pytest.approx(0.5 * 2, rel=0.25)  # sqrt(64 / 16) = 2


@pytest.mark.parametrize("shape", [(64, 16), (16, 64), (96, 192)])
def test_moonlight_s_step_has_near_0_2_lr_as_its_root_mean_square(shape):
    """Of a matrix of full rank; Newton-Schulz leaves it at 0.83 to 1 of that, the exact polar factor at 1."""
    gradients = gradients_of([shape], steps=1)
    for method, low, high in (("jordan", 0.165, 0.21), ("exact", 0.2 - 1e-6, 0.2 + 1e-6)):
        values = {"lr": 1.0, "weight_decay": 0.0, "orthogonalization": method}
        ((moved,),) = of_entry(MOONLIGHT, values, gradients, torch.float64)
        assert low < moved.square().mean().sqrt() < high


@every_entry
def test_the_exact_step_turns_with_the_gradients_and_forgets_their_size(entry):
    """step(A g B^T) = A step(g) B^T for orthogonal A and B, and step(c g) = step(g), in float64."""
    values = {"lr": 0.1, "weight_decay": 0.0, "orthogonalization": "exact"}
    for shape in MATRICES:
        plain = [[torch.randn(shape, generator=torch.Generator().manual_seed(t)).double()] for t in range(4)]
        a, b = (
            torch.linalg.qr(torch.randn(k, k, generator=torch.Generator().manual_seed(k)).double()).Q for k in shape
        )
        turned = [[1e3 * a @ g @ b.T] for (g,) in plain]
        moved, moved_turned = (of_entry(entry, values, given, torch.float64) for given in (plain, turned))
        assert furthest_apart([[a @ m @ b.T] for (m,) in moved], moved_turned) < 1e-6


@every_entry
@pytest.mark.parametrize("shape", [(16, 16), (32, 8)])
def test_state_is_four_bytes_a_parameter(entry, shape):
    weights = weights_of([shape])
    optimizer = entry.module().build(roles_with(weights), entry.hyperparameters(entry.values({})), run_of())
    weights[0].grad = torch.ones(shape)
    optimizer.step()
    assert sum(tensor.nbytes for tensor in state_tensors([optimizer])) == 4 * math.prod(shape)
