"""Scion: its balls hold the weights; against pytorch_optimizer's and heavyball's, each norm on its own shapes."""

import math
from dataclasses import replace
from pathlib import Path

import heavyball
import pytest
import pytorch_optimizer
import quintics
import torch
from open_loop import (
    LINE,
    MATRICES,
    SQUARE,
    TALL,
    displacements,
    furthest_apart,
    gradients_of,
    of_library,
    roles_with,
    run_of,
    weights_of,
)
from pytorch_optimizer.optimizer.scion import LMONorm

from bench.entry import Entry
from bench.facts import state_tensors
from bench.linalg.newton_schulz import COEFFICIENTS

ENTRY = Entry(Path(__file__).parents[2] / "baselines/scion/scion.toml")
VALUES = {"lr": 0.01, "hidden_radius": 2.0, "table_radius": 30.0, "vector_radius": 3.0}


def built(weights, values, part=None):
    """The entry's optimizers for matrices and vectors, or with all of them as another part of the roles."""
    roles = replace(roles_with([]), **{part: tuple(weights)}) if part else roles_with(weights)
    return ENTRY.module().build(roles, ENTRY.hyperparameters(ENTRY.values(values)), run_of())


def moved(gradients, values=None, part=None, dtype=torch.float32):
    weights = weights_of([tuple(g.shape) for g in gradients[0]], dtype)
    return displacements(weights, built(weights, {**VALUES, **(values or {})}, part), gradients)


@pytest.mark.parametrize("weight_decay", [1.0, 0.0])
@pytest.mark.parametrize(
    "shapes, part, norm, radius, bound",
    [
        (MATRICES, "hidden", LMONorm.SPECTRAL, 2.0, 2e-2),
        ([TALL, SQUARE], "embedding", LMONorm.SIGN, 30.0, 1e-5),
        ([TALL, SQUARE], "head", LMONorm.SIGN, 30.0, 1e-5),
        ([LINE, (5,)], "vectors", LMONorm.BIAS, 3.0, 1e-5),
    ],
)
def test_its_steps_are_those_of_pytorch_optimizer_s(shapes, part, norm, radius, bound, weight_decay):
    """Its momentum is the weight of the new gradient; its constraint is our weight_decay of 1."""
    gradients = gradients_of(shapes)
    theirs = of_library(
        lambda weights: pytorch_optimizer.SCION(
            weights, lr=0.01, momentum=0.1, constraint=weight_decay == 1.0, norm_type=norm, scale=radius
        ), gradients,
    )  # fmt: skip
    part = part if part in ("embedding", "head") else None
    assert furthest_apart(moved(gradients, {"weight_decay": weight_decay}, part), theirs) < bound


def test_its_directions_are_those_of_heavyball_s(monkeypatch):
    """Spectral and BiasRMS by shape, unconstrained, in float64, since it rounds to bf16 at random; its quintics are its
    own; its first step draws the weights anew, so the later ones are compared; its average is debiased, which turns no
    direction."""
    monkeypatch.setitem(COEFFICIENTS, "jordan", quintics.HEAVYBALL)
    monkeypatch.setattr(heavyball.utils, "compile_mode", None)
    gradients = gradients_of([*MATRICES, LINE])
    values = {"weight_decay": 0.0, "vector_radius": 2.0, "orthogonalization": "jordan"}
    mine = moved(gradients, values, dtype=torch.float64)
    theirs = of_library(
        lambda weights: heavyball.Scion(weights, lr=0.01, betas=(0.9, 0.99), scale=2.0), gradients, torch.float64
    )
    assert furthest_apart(mine[1:], theirs[1:]) < 1e-5


def test_weights_that_are_in_their_balls_stay_there():
    """The largest singular value that five of Jordan's steps leave is 1.21."""
    sizes = {
        "hidden": lambda w: torch.linalg.matrix_norm(w, 2) / math.sqrt(w.shape[0] / w.shape[1]) / 1.21 / 2.0,
        "embedding": lambda w: w.abs().max() * w.shape[1] / 30.0,
        "vectors": lambda w: w.square().mean().sqrt() / 3.0,
    }
    for part, size in sizes.items():
        weights = weights_of([LINE] if part == "vectors" else MATRICES)
        for w in weights:
            w.data /= size(w.data)  # onto the sphere
        optimizers = built(weights, {**VALUES, "lr": 0.3}, part if part == "embedding" else None)
        for drawn in gradients_of([tuple(w.shape) for w in weights], steps=12):
            displacements(weights, optimizers, [drawn])
            assert all(size(w.detach()) <= 1 + 1e-5 for w in weights)


def test_one_step_worked_by_hand():
    """lr 0.01, radii 2, 30 and 3, weights of ones: each shrinks to 0.99 and moves by lr radius lmo."""
    g = torch.tensor([[3.0, 0.0], [0.0, -4.0]])
    cases = [
        (None, g, 0.99 - 0.02 * torch.tensor([[1.0, 0.0], [0.0, -1.0]])),  # the exact polar factor
        ("embedding", g, 0.99 - 0.3 / 2 * torch.tensor([[1.0, 0.0], [0.0, -1.0]])),
        (None, torch.tensor([1.0, -7.0]), 0.99 - 0.03 / 5 * torch.tensor([1.0, -7.0])),  # of root mean square 5
    ]
    for part, gradient, expected in cases:
        (w,) = weights_of([tuple(gradient.shape)])
        w.data.fill_(1.0)
        displacements([w], built([w], {**VALUES, "orthogonalization": "exact"}, part), [[gradient]])
        torch.testing.assert_close(w.detach(), expected)


def test_the_size_of_the_gradients_does_not_matter():
    generator = torch.Generator().manual_seed(0)
    gradients = [[torch.randn(shape, generator=generator) for shape in [*MATRICES, LINE]] for _ in range(4)]
    larger = [[1e3 * g for g in drawn] for drawn in gradients]
    assert furthest_apart(moved(gradients, dtype=torch.float64), moved(larger, dtype=torch.float64)) < 1e-5


@pytest.mark.parametrize("shape", [(16, 16), (32, 8)])
@pytest.mark.parametrize("part", [None, "embedding"])
def test_state_is_four_bytes_a_parameter(shape, part):
    weights = weights_of([shape])
    optimizers = built(weights, {}, part)
    displacements(weights, optimizers, [[torch.ones(shape)]])
    assert sum(tensor.nbytes for tensor in state_tensors(optimizers)) == 4 * math.prod(shape)
