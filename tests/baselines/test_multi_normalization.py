"""Multi-normalization: SinkGD, SWAN and Muon are cases of it; fixed points; a transcription in NumPy."""

from pathlib import Path

import numpy as np
import pytest
import torch
from open_loop import (
    MATRICES,
    TALL,
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
from bench.errors import BenchError

FOLDER = Path(__file__).parents[2] / "baselines"
ENTRY = Entry(FOLDER / "multi_normalization/multi-normalization.toml")
SINKGD, SWAN = Entry(FOLDER / "sinkgd/sinkgd.toml"), Entry(FOLDER / "swan/swan.toml")
PLAIN = {"lr": 0.02, "weight_decay": 0.0}
EXACT = {**PLAIN, "orthogonalization": "exact"}


def full_rank(shape, steps=3):
    return [[torch.randn(shape, generator=torch.Generator().manual_seed(t))] for t in range(steps)]


def normalized(x: np.ndarray, norm: str) -> np.ndarray:
    """The matrix of norm 1 nearest to x, at a root mean square of 1."""
    if norm == "spectral":
        u, s, vh = np.linalg.svd(x, full_matrices=False)
        return (u * (s > max(x.shape) * np.finfo(float).eps * s[0])) @ vh * np.sqrt(max(x.shape))
    axis = {"row": 1, "column": 0}[norm]
    return x / np.linalg.norm(x, axis=axis, keepdims=True) * np.sqrt(x.shape[axis])


@pytest.mark.parametrize("norms", ["row,spectral", "column,spectral", "row,column,spectral", "spectral,row"])
def test_its_steps_are_those_of_the_rule_in_float64(norms):
    gradients = gradients_of(MATRICES)
    expected = []
    for drawn in gradients:
        moved = []
        for g in drawn:
            x = g.double().numpy()
            for _ in range(3 if x.any() else 0):
                for norm in norms.split(","):
                    x = normalized(x, norm)
            moved.append(torch.from_numpy(-0.02 * 0.05 * x))
        expected.append(moved)
    values = {**EXACT, "norms": norms, "rounds": 3}
    assert furthest_apart(of_entry(ENTRY, values, gradients, torch.float64), expected) < 1e-6


def test_rows_and_columns_are_sinkgd():
    gradients = gradients_of(MATRICES)
    mine = of_entry(ENTRY, {**PLAIN, "norms": "row,column", "rounds": 5}, gradients, torch.float64)
    assert furthest_apart(mine, of_entry(SINKGD, PLAIN, gradients, torch.float64)) < 1e-9


def test_rows_and_spectrum_once_are_swan_where_rows_have_the_mean_zero():
    """A wide matrix; a tall one of such rows is singular, and its polar factor's size is another."""
    gradients = [[g.double() - g.double().mean(dim=1, keepdim=True)] for (g,) in full_rank(WIDE)]
    mine = of_entry(ENTRY, {**EXACT, "rounds": 1}, gradients, torch.float64)
    swan = of_entry(SWAN, {**PLAIN, "newton_schulz_steps": 30}, gradients, torch.float64)
    assert furthest_apart(mine, swan) < 1e-9


def test_of_a_wide_matrix_the_second_round_changes_nothing_and_of_a_tall_one_rounds_lead_to_a_fixed_point():
    steps = {
        (shape, rounds): of_entry(ENTRY, {**EXACT, "rounds": rounds}, full_rank(shape), torch.float64)
        for shape in (WIDE, TALL)
        for rounds in (1, 2, 200, 201)
    }
    assert furthest_apart(steps[WIDE, 2], steps[WIDE, 1]) < 1e-12
    assert furthest_apart(steps[TALL, 2], steps[TALL, 1]) > 1e-2
    assert furthest_apart(steps[TALL, 201], steps[TALL, 200]) < 1e-9
    for (moved,) in steps[TALL, 200]:
        x = moved / (0.02 * 0.05)
        torch.testing.assert_close(x.norm(dim=1), torch.full_like(x[:, 0], TALL[1] ** 0.5), rtol=1e-8, atol=0)
        torch.testing.assert_close(x.mT @ x, TALL[0] * torch.eye(TALL[1], dtype=x.dtype), rtol=0, atol=1e-6)


def test_one_step_worked_by_hand():
    """(3, 4; 0, 2) has rows sqrt(2) (0.6, 0.8) and sqrt(2) (0, 1) after the first norm. The polar factor of a 2 x 2
    matrix of positive determinant is the rotation along (a + d, b - c) = (1.6, 0.8): (2, 1; -1, 2) / sqrt(5)."""
    gradient = torch.tensor([[3.0, 4.0], [0.0, 2.0]])
    ((moved,),) = of_entry(ENTRY, {**EXACT, "lr": 0.2, "rounds": 1}, [[gradient]], torch.float64)
    expected = 2**0.5 * torch.tensor([[2.0, 1.0], [-1.0, 2.0]], dtype=torch.float64) / 5**0.5
    torch.testing.assert_close(moved, -0.2 * 0.05 * expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("shape", [(16, 16), (64, 16), (16, 64)])
def test_the_size_of_a_step_and_the_scale_of_gradients(shape):
    gradients = full_rank(shape)
    for (moved,) in of_entry(ENTRY, PLAIN, gradients):
        assert moved.square().mean().sqrt().item() == pytest.approx(0.02 * 0.05, rel=0.1)
    exact = of_entry(ENTRY, EXACT, gradients, torch.float64)
    for (moved,) in exact:
        assert moved.square().mean().sqrt().item() == pytest.approx(0.02 * 0.05, rel=1e-9)
    for scale in (1e-8, 1e6):
        scaled = [[scale * g for g in drawn] for drawn in gradients]
        assert furthest_apart(of_entry(ENTRY, EXACT, scaled, torch.float64), exact) < 1e-5


def test_it_keeps_no_state():
    weights = weights_of(MATRICES)
    optimizer = ENTRY.module().build(roles_with(weights), ENTRY.hyperparameters(ENTRY.values({})), run_of())
    displacements(weights, [optimizer], gradients_of(MATRICES))
    assert not any(optimizer.state[w] for w in weights)


def test_a_norm_that_is_none_is_refused():
    with pytest.raises(BenchError, match="norms has 'rows', expected row, column, spectral"):
        ENTRY.hyperparameters(ENTRY.values({"norms": "rows,spectral"}))
