"""AuON in both forms against a transcription in NumPy, and against what they are: normalized momentum, SGD and Muon."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from open_loop import (
    MATRICES,
    displacements,
    furthest_apart,
    gradients_of,
    of_entry,
    of_library,
    roles_with,
    run_of,
    weights_of,
)

from bench.entry import Entry
from bench.errors import BenchError
from bench.facts import state_tensors

FOLDER = Path(__file__).parents[2] / "baselines"
NAMES = ("auon", "auon-code", "hybrid-auon", "hybrid-auon-code", "normalized-momentum")
AUON, AUON_CODE, HYBRID, HYBRID_CODE, CONTROL = ENTRIES = [Entry(FOLDER / f"auon/{name}.toml") for name in NAMES]
MUON = Entry(FOLDER / "muon/muon.toml")
VALUES = {"lr": 0.05, "weight_decay": 0.1}
every_entry = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
LARGE = [(64, 64), (192, 64), (64, 192)]


def random(shapes, steps=6):
    generator = torch.Generator().manual_seed(0)
    return [[torch.randn(shape, generator=generator) for shape in shapes] for _ in range(steps)]


@every_entry
def test_its_steps_are_its_source_s_in_numpy(entry):
    """The paper's algorithm and the released code written out, epsilons included, in float64."""
    form, gamma, steps = (entry.facts.fixed[name] for name in ("form", "gamma", "newton_schulz"))
    gradients = gradients_of(MATRICES)
    weights = [w.detach().numpy().copy() for w in weights_of(MATRICES, torch.float64)]
    momenta = [np.zeros(shape) for shape in MATRICES]
    theirs = []
    for drawn in gradients:
        moved = []
        for k, g in enumerate(drawn):
            g = g.double().numpy()
            momenta[k] = 0.95 * momenta[k] + 0.05 * g
            x = 0.95 * momenta[k] + 0.05 * g
            if form == "paper" or steps:
                x = x / (np.linalg.norm(x) + 1e-7)
            for _ in range(steps):
                a = x @ x.T
                x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
            unit = x / (np.linalg.norm(x) + 1e-7)
            x = x / (np.sqrt(np.mean(np.cosh(gamma * unit) ** 2)) + 1e-8)
            size = math.sqrt(max(1, g.shape[0] / g.shape[1])) if form == "paper" else 1.0
            new = (1 - 0.05 * 0.1) * weights[k] - 0.05 * size * x
            moved.append(torch.from_numpy(new - weights[k]))
            weights[k] = new
        theirs.append(moved)
    assert furthest_apart(of_entry(entry, VALUES, gradients, torch.float64), theirs) < 2e-7
    assert furthest_apart(of_entry(entry, VALUES, gradients), theirs) < 5e-4


@pytest.mark.parametrize("entry", [AUON, AUON_CODE, HYBRID, HYBRID_CODE], ids=lambda entry: entry.name)
def test_its_brake_is_inert(entry):
    """With gamma = 0 there is none: a step differs by gamma^2 / 2mn, which is below 3e-4 from 64 x 64 on."""
    gamma = entry.facts.fixed["gamma"]
    for shape in LARGE:
        braked, free = (
            of_entry(entry, {**VALUES, "gamma": g, "weight_decay": 0.0}, random([shape]), torch.float64)
            for g in (gamma, 0.0)
        )
        assert furthest_apart(braked, free) == pytest.approx(gamma**2 / (2 * math.prod(shape)), rel=0.05)
        assert furthest_apart(braked, free) < 3e-4


def test_even_a_spike_does_not_make_it_brake():
    spike = torch.zeros(512, 512)
    spike[3, 5] = 1.0
    ((moved,),) = of_entry(AUON_CODE, {"lr": 1.0, "weight_decay": 0.0, "momentum": 0.0}, [[spike]], torch.float64)
    assert 1 / -moved[3, 5].item() == pytest.approx(1.0000086, abs=1e-7)


def test_the_paper_s_form_is_the_control():
    mine, control = (of_entry(entry, VALUES, random(LARGE)) for entry in (AUON, CONTROL))
    assert furthest_apart(mine, control) < 2e-4


@pytest.mark.parametrize("entry", [AUON, CONTROL], ids=lambda entry: entry.name)
def test_the_paper_s_step_has_a_norm_of_lr(entry):
    for shape in LARGE:
        for (moved,) in of_entry(entry, {"lr": 0.5, "weight_decay": 0.0}, random([shape])):
            size = math.sqrt(max(1, shape[0] / shape[1]))
            assert moved.norm().item() == pytest.approx(0.5 * size, rel=3e-4)


def test_the_code_s_form_is_sgd_with_nesterov_momentum():
    """torch's sums momentum where AuON averages it, which 1 - momentum makes up for from the first step on."""
    gradients = random(LARGE)
    theirs = of_library(
        lambda weights: torch.optim.SGD(weights, lr=0.05 * 0.05, momentum=0.95, nesterov=True), gradients
    )
    assert furthest_apart(of_entry(AUON_CODE, {**VALUES, "weight_decay": 0.0}, gradients), theirs) < 3e-4


@pytest.mark.parametrize("entry, steps", [(HYBRID, 1), (HYBRID_CODE, 5)])
def test_the_hybrid_is_muon_with_so_many_newton_schulz_steps(entry, steps):
    """In fp32 and not in bf16; the code's without a factor for the shape."""
    gradients = random(LARGE[::2] if entry is HYBRID_CODE else LARGE)  # square and wide ones have the factor 1
    muon = of_entry(MUON, {**VALUES, "newton_schulz_steps": steps}, gradients, torch.float64)
    assert furthest_apart(of_entry(entry, VALUES, gradients, torch.float64), muon) < 3e-4


@pytest.mark.parametrize("entry, expected", [(AUON, 0.2), (CONTROL, 0.2), (AUON_CODE, 1.0)])
def test_one_step_worked_by_hand(entry, expected):
    """Without momentum (3, 4; 0, 0) over its norm 5 is (0.6, 0.8; 0, 0); the code's form keeps (3, 4; 0, 0). The brake
    is the root of the mean of cosh^2 of gamma times 0.6, 0.8, 0 and 0."""
    gradient = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    ((moved,),) = of_entry(entry, {"lr": 1.0, "weight_decay": 0.0, "momentum": 0.0}, [[gradient]], torch.float64)
    gamma = entry.facts.fixed["gamma"]
    brake = math.sqrt((math.cosh(0.6 * gamma) ** 2 + math.cosh(0.8 * gamma) ** 2 + 2) / 4)
    torch.testing.assert_close(moved, -expected * gradient.double() / brake, rtol=1e-6, atol=0)


@every_entry
@pytest.mark.parametrize("shape", [(16, 16), (32, 8)])
def test_state_is_four_bytes_a_parameter(entry, shape):
    weights = weights_of([shape])
    optimizer = entry.module().build(roles_with(weights), entry.hyperparameters(entry.values({})), run_of())
    displacements(weights, [optimizer], gradients_of([shape], steps=1))
    assert sum(tensor.nbytes for tensor in state_tensors([optimizer])) == 4 * math.prod(shape)


def test_an_unknown_form_is_refused():
    with pytest.raises(BenchError, match="form is 'repo', expected one of paper, code"):
        AUON.hyperparameters(AUON.values({"form": "repo"}))
