"""SinkGD against a float64 transcription of its rule, and what the rule implies."""

from pathlib import Path

import numpy as np
import pytest
import torch
from open_loop import MATRICES, displacements, furthest_apart, gradients_of, of_entry, roles_with, run_of, weights_of

from bench.entry import Entry

ENTRY = Entry(Path(__file__).parents[2] / "baselines/sinkgd/sinkgd.toml")


def normalized(g: np.ndarray, rounds: int) -> np.ndarray:
    m, n = g.shape
    if not g.any():
        return g
    for _ in range(rounds):
        g = np.diag(np.sqrt(n) / np.sqrt((g * g).sum(axis=1))) @ g
        g = g @ np.diag(np.sqrt(m) / np.sqrt((g * g).sum(axis=0)))
    return g


def test_its_steps_are_those_of_the_rule_in_float64():
    gradients = gradients_of(MATRICES)
    weights = [w.detach().double() for w in weights_of(MATRICES)]
    expected = []
    for drawn in gradients:
        steps = [torch.from_numpy(-0.02 * 0.05 * normalized(g.double().numpy(), 5)) for g in drawn]
        steps = [step - 0.02 * 0.1 * w for step, w in zip(steps, weights, strict=True)]
        weights = [w + step for w, step in zip(weights, steps, strict=True)]
        expected.append(steps)
    values = {"lr": 0.02, "weight_decay": 0.1}
    assert furthest_apart(of_entry(ENTRY, values, gradients, torch.float64), expected) < 1e-11
    assert furthest_apart(of_entry(ENTRY, values, gradients), expected) < 1e-3


def test_one_step_worked_by_hand():
    """Rows (3, 4) and (0, 5) have norm 5: sqrt(2) (0.6, 0.8) and sqrt(2) (0, 1). Columns then have norms
    0.6 sqrt(2) and sqrt(2) sqrt(1.64)."""
    ((moved,),) = of_entry(ENTRY, {"lr": 0.2, "rounds": 1}, [[torch.tensor([[3.0, 4.0], [0.0, 5.0]])]])
    expected = 2**0.5 * torch.tensor([[1.0, 0.8 / 1.64**0.5], [0.0, 1 / 1.64**0.5]])
    torch.testing.assert_close(moved, -0.2 * 0.05 * expected, rtol=1e-5, atol=1e-7)


def test_the_root_mean_square_of_a_step_is_lr_factor_times_lr_and_the_scale_of_gradients_is_nothing():
    gradients = [drawn for drawn in gradients_of(MATRICES) if drawn[0].any()]
    moved = of_entry(ENTRY, {"lr": 0.1}, gradients, torch.float64)
    for steps in moved:
        for step in steps:
            assert step.square().mean().sqrt().item() == pytest.approx(0.1 * 0.05, rel=1e-9)
    for scale in (1e-8, 1e6):
        scaled = [[scale * g for g in drawn] for drawn in gradients]
        assert furthest_apart(of_entry(ENTRY, {"lr": 0.1}, scaled, torch.float64), moved) < 1e-5


def test_it_keeps_no_state():
    weights = weights_of(MATRICES)
    optimizer = ENTRY.module().build(roles_with(weights), ENTRY.hyperparameters(ENTRY.values({})), run_of())
    displacements(weights, [optimizer], gradients_of(MATRICES))
    assert not any(optimizer.state[w] for w in weights)


def test_a_weight_of_several_blocks_steps_as_its_blocks_would_alone():
    fused = gradients_of([(24, 8)], steps=4)
    whole = of_entry(ENTRY, {"lr": 0.1}, fused, torch.float64, blocks=(8, 8, 8))
    parts = of_entry(ENTRY, {"lr": 0.1}, [[*step[0].split(8)] for step in fused], torch.float64)
    for (together,), apart in zip(whole, parts, strict=True):
        torch.testing.assert_close(together, torch.cat(apart), rtol=1e-7, atol=1e-9)


def test_neurons_without_a_gradient_stand_still():
    gradient = torch.randn(8, 12, generator=torch.Generator().manual_seed(0))
    gradient[3], gradient[:, 5] = 0, 0
    ((moved,),) = of_entry(ENTRY, {}, [[gradient]])
    assert torch.equal(moved == 0, gradient == 0)
