"""SWAN against a transcription in NumPy, and what its rule implies."""

from pathlib import Path

import numpy as np
import pytest
import torch
from open_loop import (
    MATRICES,
    SQUARE,
    WIDE,
    displacements,
    furthest_apart,
    gradients_of,
    of_entry,
    roles_with,
    run_of,
    weights_of,
)

from bench.entry import Entry

ENTRY = Entry(Path(__file__).parents[2] / "baselines/swan/swan.toml")
VALUES = {"lr": 0.02, "weight_decay": 0.1}


def step_of(g: np.ndarray) -> np.ndarray:
    """Algorithms 1 to 3 in float64, with ten steps by the factor 1/2; from the right for a tall matrix."""
    if not g.any():
        return g
    x = (g - g.mean(axis=1, keepdims=True)) / g.std(axis=1, keepdims=True)
    tall = x.shape[0] > x.shape[1]
    a = x.T @ x if tall else x @ x.T
    y, z = a / np.linalg.norm(a), np.eye(len(a))
    for _ in range(10):
        t = 3 * np.eye(len(a)) - z @ y
        y, z = 0.5 * y @ t, 0.5 * t @ z
    d = x @ z if tall else z @ x
    return d * np.linalg.norm(x) / np.linalg.norm(d)


def test_its_steps_are_those_of_the_rule_in_float64():
    gradients = gradients_of(MATRICES)
    weights = [w.detach().double() for w in weights_of(MATRICES)]
    expected = []
    for drawn in gradients:
        steps = [torch.from_numpy(-0.02 * 0.05 * step_of(g.double().numpy())) for g in drawn]
        steps = [step - 0.02 * 0.1 * w for step, w in zip(steps, weights, strict=True)]
        weights = [w + step for w, step in zip(weights, steps, strict=True)]
        expected.append(steps)
    assert furthest_apart(of_entry(ENTRY, VALUES, gradients, torch.float64), expected) < 1e-9
    assert furthest_apart(of_entry(ENTRY, VALUES, gradients), expected) < 2e-3


def test_one_step_worked_by_hand():
    """Rows (0, 1, 2, 3) and (0, 3, 3, 0) less their means are (-3, -1, 1, 3) / 2 and (-3, 3, 3, -3) / 2, of standard
    deviations sqrt(5) / 2 and 3 / 2: orthogonal, of norm 2 both, so whitening divides by 2, which is then undone."""
    gradient = torch.tensor([[0.0, 1.0, 2.0, 3.0], [0.0, 3.0, 3.0, 0.0]])
    ((moved,),) = of_entry(ENTRY, {"lr": 0.2, "weight_decay": 0.0}, [[gradient]], torch.float64)
    expected = torch.tensor([[-3.0, -1.0, 1.0, 3.0], [-1.0, 1.0, 1.0, -1.0]], dtype=torch.float64)
    expected[0] /= 5**0.5
    torch.testing.assert_close(moved, -0.2 * 0.05 * expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("shape", MATRICES)
def test_rows_sum_to_zero_a_step_has_its_size_and_the_scale_of_gradients_is_nothing(shape):
    gradients = [step for step in gradients_of([shape]) if step[0].any()]
    values = {"lr": 0.1, "weight_decay": 0.0}
    moved = of_entry(ENTRY, values, gradients, torch.float64)
    for (step,) in moved:
        assert step.sum(dim=1).abs().max() < 1e-9
        assert step.square().mean().sqrt().item() == pytest.approx(0.1 * 0.05, rel=1e-9)
    for scale in (1e-8, 1e6):
        scaled = [[scale * g for g in drawn] for drawn in gradients]
        assert furthest_apart(of_entry(ENTRY, values, scaled, torch.float64), moved) < 1e-5


def test_a_step_of_a_wide_matrix_has_orthogonal_rows_of_one_norm():
    """And of a tall one, orthogonal columns but for the direction of ones, in which rows of mean 0 have nothing."""
    for shape in (WIDE, (6, 64), (64, 6)):
        gradients = [[torch.randn(shape, generator=torch.Generator().manual_seed(3))]]
        values = {"lr": 1.0, "lr_factor": 1.0, "weight_decay": 0.0, "newton_schulz_steps": 16}
        ((moved,),) = of_entry(ENTRY, values, gradients, torch.float64)
        values = torch.linalg.svdvals(moved)
        kept = values[:-1] if shape[0] > shape[1] else values
        torch.testing.assert_close(kept, kept[:1].expand_as(kept), rtol=1e-6, atol=0)
        assert shape[0] <= shape[1] or values[-1] < 1e-9


def test_rows_without_a_gradient_or_of_one_value_stand_still():
    gradient = torch.randn(SQUARE, generator=torch.Generator().manual_seed(0))
    gradient[3], gradient[7] = 0, 0.1
    ((moved,),) = of_entry(ENTRY, {"weight_decay": 0.0}, [[gradient]])
    assert moved.isfinite().all()
    assert not moved[3].any()
    assert not moved[7].any()
    assert moved.any(dim=1).sum() == 14


def test_it_keeps_no_state():
    weights = weights_of(MATRICES)
    optimizer = ENTRY.module().build(roles_with(weights), ENTRY.hyperparameters(ENTRY.values({})), run_of())
    displacements(weights, [optimizer], gradients_of(MATRICES))
    assert not any(optimizer.state[w] for w in weights)
