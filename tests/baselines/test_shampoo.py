"""Shampoo against two dialects of pytorch_optimizer's and a NumPy transcription; polar factors, lengths, turns."""

from pathlib import Path

import numpy as np
import pytest
import pytorch_optimizer
import torch
from open_loop import (
    MATRICES,
    SQUARE,
    displacements,
    furthest_apart,
    gradients_of,
    of_entry,
    of_library,
    roles_with,
    run_of,
    weights_of,
)
from pytorch_optimizer.optimizer.shampoo import LayerWiseGrafting

from bench.entry import Entry

ENTRY = Entry(Path(__file__).parents[2] / "baselines/shampoo/shampoo.toml")
PLAIN = {"lr": 1e-2, "weight_decay": 0.0, "precondition_frequency": 4, "start_step": 4}


def scaled(sequence, factors):
    """Return displacements, those of each step times its factor."""
    return [[factor * part for part in step] for step, factor in zip(sequence, factors, strict=True)]


def directions(sequence):
    return [[part / part.norm().clamp(min=1e-30) for part in step] for step in sequence]


def test_without_momentum_its_steps_are_those_of_pytorch_optimizer_s_scalable_shampoo():
    """Theirs has its momentum after the preconditioner, ours before it; theirs does not correct the graft's second
    moment, a factor of sqrt(1 - beta2^t); its factors start at matrix_eps I."""
    gradients = gradients_of(MATRICES)
    theirs = of_library(
        lambda weights: pytorch_optimizer.ScalableShampoo(
            weights, lr=1e-2, betas=(0.0, 0.95), nesterov=False, start_preconditioning_step=4,
            preconditioning_compute_steps=4, graft_type=LayerWiseGrafting.RMSPROP, diagonal_eps=1e-12,
            matrix_eps=1e-14, use_svd=True, shape_interpretation=False
        ), gradients, torch.float64,
    )  # fmt: skip
    values = {**PLAIN, "beta1": 0.0, "beta2": 0.95, "eps": 1e-14, "graft_eps": 1e-12}
    mine = of_entry(ENTRY, values, gradients, torch.float64)
    corrections = [(1 - 0.95**t) ** 0.5 for t in range(1, len(gradients) + 1)]
    assert furthest_apart(mine, scaled(theirs, corrections)) < 1e-6


def test_its_directions_are_those_of_pytorch_optimizer_s_shampoo_of_2018():
    """Theirs sums the factors and has no graft: with beta2 next to 1 the corrected average is the sum over t."""
    gradients = gradients_of(MATRICES)
    theirs = of_library(
        lambda weights: pytorch_optimizer.Shampoo(weights, lr=1e-2, preconditioning_compute_steps=1, matrix_eps=1e-9),
        gradients, torch.float64,
    )  # fmt: skip
    values = {**PLAIN, "beta1": 0.0, "beta2": 1 - 1e-7, "precondition_frequency": 1, "start_step": 1}
    mine = []
    for t in range(1, len(gradients) + 1):  # eps I in the sum is eps I / t in the average
        mine.append(of_entry(ENTRY, {**values, "eps": 1e-9 / t}, gradients[:t], torch.float64)[-1])
    assert furthest_apart(directions(mine), directions(theirs)) < 1e-5


def transcribed(gradients, values):
    """The algorithm once more, in NumPy and float64, for one matrix."""
    b1, b2, frequency, start = (values[n] for n in ("beta1", "beta2", "precondition_frequency", "start_step"))
    (rows, columns) = gradients[0].shape
    left, right, m, v, moved = np.zeros((rows, rows)), np.zeros((columns, columns)), 0.0, 0.0, []

    def root(factor):
        values_, vectors = np.linalg.eigh(factor)
        return vectors @ np.diag((values_ - min(values_.min(), 0) + values["eps"]) ** -0.25) @ vectors.T

    for t, g in enumerate(gradients, start=1):
        left, right = b2 * left + (1 - b2) * g @ g.T, b2 * right + (1 - b2) * g.T @ g
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        step = m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + values["graft_eps"])
        if t == start or (t > start and t % frequency == 0):
            roots = root(left / (1 - b2**t)), root(right / (1 - b2**t))
        if t >= start:
            turned = roots[0] @ m @ roots[1]
            step = turned * np.linalg.norm(step) / np.linalg.norm(turned)
        moved.append([torch.from_numpy(-values["lr"] * step)])
    return moved


@pytest.mark.parametrize("shape", MATRICES)
@pytest.mark.parametrize("start", [1, 3, 6])
def test_with_momentum_its_steps_are_those_of_a_transcription(shape, start):
    values = {**PLAIN, "beta1": 0.9, "beta2": 0.95, "eps": 1e-6, "graft_eps": 1e-8, "start_step": start}
    gradients = gradients_of([shape])
    mine = of_entry(ENTRY, values, gradients, torch.float64)
    assert furthest_apart(mine, transcribed([step[0].double().numpy() for step in gradients], values)) < 1e-7


MEMORYLESS = {"beta1": 0.0, "beta2": 0.0, "eps": 0.0, "graft_eps": 0.0, "precondition_frequency": 1, "start_step": 1}


def test_without_memory_its_direction_is_the_polar_factor_and_its_length_is_that_of_signs():
    gradients = gradients_of([SQUARE], steps=1)
    (((moved),),) = of_entry(ENTRY, {**PLAIN, **MEMORYLESS, "lr": 1.0}, gradients, torch.float64)
    u, _, vh = torch.linalg.svd(gradients[0][0].double())
    torch.testing.assert_close(-moved, u @ vh * 16**0.5, rtol=0, atol=1e-9)  # 16 signs to a unit of the polar factor


def test_its_length_is_adam_s():
    gradients = gradients_of(MATRICES)
    values = {**PLAIN, "beta1": 0.9, "beta2": 0.95}
    mine = of_entry(ENTRY, values, gradients)
    adam = of_library(lambda weights: torch.optim.Adam(weights, lr=1e-2, betas=(0.9, 0.95), eps=1e-8), gradients)
    for step, others in zip(mine, adam, strict=True):
        for ours, theirs in zip(step, others, strict=True):
            torch.testing.assert_close(ours.norm(), theirs.norm(), rtol=1e-4, atol=0)
    assert furthest_apart(mine[:3], adam[:3]) < 1e-5  # before start_step it is Adam


def test_diagonal_gradients_give_adagrad_s_direction():
    generator = torch.Generator().manual_seed(3)
    lines = [torch.randn(6, generator=generator).double() for _ in range(5)]
    values = {**PLAIN, "beta1": 0.0, "beta2": 1 - 1e-7, "eps": 0.0, "precondition_frequency": 1, "start_step": 1}
    moved = of_entry(ENTRY, values, [[torch.diag(line)] for line in lines], torch.float64)[-1][0].diag()
    adagrad = -lines[-1] / torch.stack(lines).square().sum(0).sqrt()
    torch.testing.assert_close(moved / moved.norm(), adagrad / adagrad.norm(), rtol=1e-6, atol=0)


def test_turned_gradients_give_turned_directions():
    """The length is Adam's, which does not turn."""
    gradients = gradients_of([SQUARE], steps=8)
    generator = torch.Generator().manual_seed(5)
    a, b = (torch.linalg.qr(torch.randn(16, 16, generator=generator, dtype=torch.float64))[0] for _ in range(2))
    values = {**PLAIN, "eps": 1e-6, "precondition_frequency": 1, "start_step": 1}
    plain = of_entry(ENTRY, values, gradients, torch.float64)
    turned = of_entry(ENTRY, values, [[a @ step[0].double() @ b.mT] for step in gradients], torch.float64)
    assert furthest_apart(directions(turned), directions([[a @ step[0] @ b.mT] for step in plain])) < 1e-6


def test_the_scale_of_the_gradients_does_not_matter_without_eps():
    gradients = gradients_of(MATRICES)
    values = {**PLAIN, "eps": 0.0, "graft_eps": 0.0, "start_step": 6}
    scaled_up = of_entry(ENTRY, values, [[64 * g for g in step] for step in gradients], torch.float64)
    assert furthest_apart(scaled_up[3:], of_entry(ENTRY, values, gradients, torch.float64)[3:]) < 1e-5


@pytest.mark.parametrize("shape, expected", [((16, 16), 24), ((48, 16), 8 + 8 * (48**2 + 16**2) / (48 * 16))])
def test_its_state_has_the_bytes_that_it_says(shape, expected):
    weights = weights_of([shape])
    optimizer = ENTRY.module().build(roles_with(weights), ENTRY.hyperparameters(ENTRY.values({})), run_of())
    displacements(weights, [optimizer], gradients_of([shape], steps=2))
    held = sum(tensor.nbytes for tensor in optimizer.state[weights[0]].values())
    assert held / weights[0].numel() == pytest.approx(expected)
