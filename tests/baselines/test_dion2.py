"""Dion2 against a float64 transcription; with all slices it is Muon; slices that were not chosen stay."""

from pathlib import Path

import numpy as np
import pytest
import torch
from open_loop import MATRICES, displacements, furthest_apart, gradients_of, of_entry, roles_with, run_of, weights_of
from transcribed import polar

from bench.entry import Entry
from bench.errors import BenchError
from bench.facts import state_tensors

FOLDER = Path(__file__).parents[2] / "baselines"
ENTRY, MARS = Entry(FOLDER / "dion2/dion2.toml"), Entry(FOLDER / "mars_muon/mars-muon.toml")
VALUES = {"lr": 0.02, "weight_decay": 0.1}


@pytest.mark.parametrize("fraction", [0.1, 0.4, 1.0])
def test_its_steps_are_those_of_the_rule_in_float64(fraction):
    gradients = gradients_of(MATRICES)
    values = {**VALUES, "fraction": fraction, "orthogonalization": "exact"}
    mine = of_entry(ENTRY, values, gradients, torch.float64)
    weights = [w.detach().numpy() for w in weights_of(MATRICES, torch.float64)]
    buffers = [np.zeros(shape) for shape in MATRICES]
    theirs = []
    for drawn in gradients:
        moved = []
        for i, g in enumerate(drawn):
            buffers[i] = buffers[i] + g.double().numpy()
            tall = g.shape[0] > g.shape[1]
            rows = buffers[i].T if tall else buffers[i]  # a view: what is written to it stands in the buffer
            chosen = np.argsort(-np.abs(rows).sum(axis=1))[: round(fraction * len(rows))]
            step = np.zeros_like(rows)
            step[chosen] = polar(rows[chosen])
            rows[chosen] *= 0.95
            scaled = np.sqrt(g.shape[0] / g.shape[1]) * (step.T if tall else step)
            new = (1 - 0.02 * 0.1) * weights[i] - 0.02 * scaled
            moved.append(torch.from_numpy(new - weights[i]))
            weights[i] = new
        theirs.append(moved)
    assert furthest_apart(mine, theirs) < 1e-9


def test_with_all_slices_it_is_muon_without_nesterov_at_another_size():
    """Which is MARS-M without its correction, on gradients so small that it clips none."""
    gradients = [[1e-2 * g for g in step] for step in gradients_of(MATRICES)][:-1]
    alike = {"lr": 0.02, "weight_decay": 0.0, "orthogonalization": "jordan"}
    mine = of_entry(ENTRY, {**alike, "fraction": 1.0}, gradients, torch.float64)
    muon = of_entry(MARS, {**alike, "gamma": 0.0, "scaling": "spectral"}, gradients, torch.float64)
    sizes = [(m / n / max(1, m / n)) ** 0.5 for m, n in MATRICES]
    scaled = [[size * step for size, step in zip(sizes, steps, strict=True)] for steps in muon]
    assert furthest_apart(mine, scaled) < 1e-4  # 1e-7 beside the norm, by which Newton-Schulz divides


def test_one_step_worked_by_hand():
    """Rows (3, 0), (1, 1): the first has the larger sum, 3 to 2, so it alone is stepped and fades."""
    (w,) = weights = [torch.nn.Parameter(torch.zeros(2, 2, dtype=torch.float64))]
    values = {"lr": 0.1, "weight_decay": 0.0, "fraction": 0.5, "orthogonalization": "exact"}
    optimizer = ENTRY.module().build(roles_with(weights), ENTRY.hyperparameters(ENTRY.values(values)), run_of())
    ((moved,),) = displacements(weights, [optimizer], [[torch.tensor([[3.0, 0.0], [1.0, 1.0]])]])
    torch.testing.assert_close(moved, torch.tensor([[-0.1, 0.0], [0.0, 0.0]], dtype=torch.float64))
    expected = torch.tensor([[2.85, 0.0], [1.0, 1.0]], dtype=torch.float64)
    torch.testing.assert_close(optimizer.state[w]["buffer"][0], expected)


@pytest.mark.parametrize("shape", MATRICES)
def test_as_many_slices_of_the_shorter_side_move_as_asked_and_they_are_orthonormal(shape):
    gradients = [[torch.randn(shape, generator=torch.Generator().manual_seed(t))] for t in range(4)]
    values = {"lr": 1.0, "weight_decay": 0.0, "fraction": 0.25, "orthogonalization": "exact"}
    for (moved,) in of_entry(ENTRY, values, gradients, torch.float64):
        rows = moved.mT if shape[0] > shape[1] else moved
        chosen = rows[rows.norm(dim=1) > 0]
        assert len(chosen) == min(shape) // 4
        gram = chosen @ chosen.mT
        torch.testing.assert_close(gram, shape[0] / shape[1] * torch.eye(len(chosen)).double())


def test_zeros_and_rank_one_move_by_nothing_and_by_rank_one():
    line = torch.outer(torch.linspace(-1, 2, 16).double(), torch.linspace(1, 3, 24).double())
    values = {"lr": 1.0, "weight_decay": 0.0}
    assert of_entry(ENTRY, values, [[torch.zeros(16, 24)]])[0][0].abs().max() == 0
    ((moved,),) = of_entry(ENTRY, values, [[line]], torch.float64)
    first, second = torch.linalg.svdvals(moved)[:2]
    assert second < 1e-9 * first


@pytest.mark.parametrize("shape", MATRICES)
def test_state_is_four_bytes_a_parameter(shape):
    weights = weights_of([shape])
    optimizer = ENTRY.module().build(roles_with(weights), ENTRY.hyperparameters(ENTRY.values({})), run_of())
    displacements(weights, [optimizer], gradients_of([shape], steps=1))
    assert sum(tensor.nbytes for tensor in state_tensors([optimizer])) == 4 * weights[0].numel()


@pytest.mark.parametrize("fraction", [0.0, 1.5])
def test_a_share_that_no_matrix_has_is_refused(fraction):
    with pytest.raises(BenchError, match=r"fraction is .*, expected a number above 0 and at most 1"):
        ENTRY.hyperparameters(ENTRY.values({"fraction": fraction}))
