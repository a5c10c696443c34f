"""NorMuon: against pytorch_optimizer's and a transcription in NumPy; where the polar factor is exact it is Muon."""

import math
from pathlib import Path

import numpy as np
import pytest
import pytorch_optimizer
import torch
from open_loop import (
    MATRICES,
    SQUARE,
    TALL,
    WIDE,
    furthest_apart,
    gradients_of,
    of_entry,
    of_library,
    roles_with,
    run_of,
    weights_of,
)
from transcribed import newton_schulz

from bench.entry import Entry
from bench.facts import state_tensors

FOLDER = Path(__file__).parents[2] / "baselines"
NORMUON, MUON = Entry(FOLDER / "normuon/normuon.toml"), Entry(FOLDER / "muon/muon.toml")
VALUES = {"lr": 0.02, "weight_decay": 0.1}
every_scaling = pytest.mark.parametrize("scaling", ["rms", "spectral"])


@every_scaling
def test_its_steps_are_those_of_pytorch_optimizer_s(scaling):
    gradients = gradients_of(MATRICES)
    update_scale = {"rms": "match_rms", "spectral": "preserve_norm"}[scaling]
    theirs = of_library(
        lambda weights: pytorch_optimizer.NorMuon(
            [{"params": weights, "use_muon": True}], lr=0.02, weight_decay=0.1, momentum=0.95, beta2=0.95,
            update_scale=update_scale
        ), gradients,
    )  # fmt: skip
    assert furthest_apart(of_entry(NORMUON, {**VALUES, "scaling": scaling}, gradients), theirs) < 2e-2


@every_scaling
def test_its_steps_are_the_paper_s_in_numpy(scaling):
    """Algorithm 1 in float64, by Newton-Schulz steps written out once more."""
    gradients = gradients_of(MATRICES)
    mine = of_entry(NORMUON, {**VALUES, "scaling": scaling}, gradients, torch.float64)
    weights = [w.detach().numpy() for w in weights_of(MATRICES, torch.float64)]
    momenta, seconds = [np.zeros(shape) for shape in MATRICES], [np.zeros(shape[0]) for shape in MATRICES]
    theirs = []
    for drawn in gradients:
        moved = []
        for k, g in enumerate(drawn):
            momenta[k] = 0.95 * momenta[k] + 0.05 * g.double().numpy()
            o = newton_schulz(0.95 * momenta[k] + 0.05 * g.double().numpy())
            seconds[k] = 0.95 * seconds[k] + 0.05 * np.mean(o**2, axis=1)
            direction = o / (np.sqrt(seconds[k])[:, None] + 1e-10)
            rows, columns = o.shape
            size = 0.2 * math.sqrt(o.size)
            if scaling == "spectral":
                size = math.sqrt(max(1, rows / columns)) * np.linalg.norm(o)
            new = (1 - 0.02 * 0.1) * weights[k] - 0.02 * size * direction / (np.linalg.norm(direction) + 1e-10)
            moved.append(torch.from_numpy(new - weights[k]))
            weights[k] = new
        theirs.append(moved)
    assert furthest_apart(mine, theirs) < 1e-6


def test_for_the_exact_polar_factor_of_a_matrix_that_is_not_tall_it_is_muon():
    """Its rows have one norm then. So the paper's size, 0.2 sqrt(out in), is Moonlight's, 0.2 sqrt(max(out, in))."""
    for shape in (WIDE, SQUARE):
        gradients = full_rank(shape)
        for scaling, other in (("spectral", MUON), ("rms", Entry(FOLDER / "muon/moonlight.toml"))):
            exact = {**VALUES, "orthogonalization": "exact"}
            mine = of_entry(NORMUON, {**exact, "scaling": scaling}, gradients, torch.float64)
            assert furthest_apart(mine, of_entry(other, exact, gradients, torch.float64)) < 1e-9


def test_on_tall_matrices_it_is_not_muon():
    exact = {**VALUES, "orthogonalization": "exact"}
    gradients = full_rank(TALL)
    mine = of_entry(NORMUON, {**exact, "scaling": "spectral"}, gradients, torch.float64)
    assert furthest_apart(mine, of_entry(MUON, exact, gradients, torch.float64)) > 0.1


def full_rank(shape):
    return [[torch.randn(shape, generator=torch.Generator().manual_seed(t))] for t in range(8)]


@pytest.mark.parametrize("shape", MATRICES)
def test_the_paper_s_step_has_0_2_lr_as_its_root_mean_square_and_the_code_s_muon_s_norm(shape):
    gradients = full_rank(shape)
    values = {"lr": 1.0, "weight_decay": 0.0}
    for (moved,) in of_entry(NORMUON, {**values, "scaling": "rms"}, gradients):
        assert moved.square().mean().sqrt().item() == pytest.approx(0.2, rel=1e-5)
    spectral = of_entry(NORMUON, {**values, "scaling": "spectral"}, gradients)
    for (moved,), (muon,) in zip(spectral, of_entry(MUON, values, gradients), strict=True):
        assert moved.norm().item() == pytest.approx(muon.norm().item(), rel=1e-2)


def test_one_step_worked_by_hand():
    """The exact polar factor of (3, 0; 0, 4; 0, 0) is (1, 0; 0, 1; 0, 0): rows of mean square 1/2, 1/2, 0, which are
    divided by their root, so the step is along the factor itself; its size is 0.2 sqrt(6), shared by two entries."""
    gradient = torch.tensor([[3.0, 0.0], [0.0, 4.0], [0.0, 0.0]])
    values = {"lr": 1.0, "weight_decay": 0.0, "orthogonalization": "exact"}
    ((moved,),) = of_entry(NORMUON, values, [[gradient]], torch.float64)
    entry = 0.2 * math.sqrt(6) / math.sqrt(2)
    torch.testing.assert_close(moved, -torch.tensor([[entry, 0.0], [0.0, entry], [0.0, 0.0]], dtype=torch.float64))


@pytest.mark.parametrize("shape", [(16, 16), (32, 8)])
def test_state_is_four_bytes_a_parameter_and_four_a_row(shape):
    weights = weights_of([shape])
    optimizer = NORMUON.module().build(roles_with(weights), NORMUON.hyperparameters(NORMUON.values({})), run_of())
    weights[0].grad = torch.ones(shape)
    optimizer.step()
    assert sum(tensor.nbytes for tensor in state_tensors([optimizer])) == 4 * math.prod(shape) + 4 * shape[0]
