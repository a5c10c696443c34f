"""NAMO and NAMO-D against a transcription in NumPy; sizes on constant and on noisy gradients; when it is Muon."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from open_loop import (
    MATRICES,
    SQUARE,
    TALL,
    displacements,
    furthest_apart,
    gradients_of,
    of_entry,
    roles_with,
    run_of,
    weights_of,
)
from transcribed import newton_schulz

from bench.entry import Entry
from bench.errors import BenchError
from bench.facts import state_tensors

FOLDER = Path(__file__).parents[2] / "baselines"
NAMO, NAMO_D = Entry(FOLDER / "namo/namo.toml"), Entry(FOLDER / "namo/namo-d.toml")
MOONLIGHT = Entry(FOLDER / "muon/moonlight.toml")
PLAIN = {"lr": 0.01, "weight_decay": 0.0}
every_entry = pytest.mark.parametrize("entry", [NAMO, NAMO_D], ids=lambda entry: entry.name)


@every_entry
@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("lr, c", [(0.01, 0.75), (0.01, 0.01), (2.0, 0.4)])
def test_its_steps_are_the_released_code_s_in_numpy(entry, nesterov, lr, c):
    """Written out matrix by matrix, in float64; at a rate of 2 both of its bounds act."""
    gradients, by_column = gradients_of(MATRICES), entry is NAMO_D
    values = {"lr": lr, "weight_decay": 0.1, "nesterov": nesterov} | ({"column_clamp": c} if by_column else {})
    weights = [w.detach().numpy().copy() for w in weights_of(MATRICES, torch.float64)]
    momenta, seconds = [np.zeros(shape) for shape in MATRICES], [0.0] * len(MATRICES)
    theirs = []
    for t, drawn in enumerate(gradients, start=1):
        moved = []
        for k, g in enumerate(drawn):
            g, axis = g.double().numpy(), 0 if by_column else None
            momenta[k] = 0.95 * momenta[k] + 0.05 * g
            u = 0.95 * momenta[k] + 0.05 * g if nesterov else momenta[k]
            seconds[k] = 0.99 * seconds[k] + 0.01 * np.linalg.norm(g, axis=axis) ** 2
            s = np.linalg.norm(u, axis=axis) / (np.sqrt(seconds[k]) + 1e-8)
            if by_column:
                s = np.clip(s, c * s.mean(), s.mean() / c)
            a = lr * math.sqrt(1 - 0.99**t) / (1 - 0.95**t) * s
            new = weights[k] * (1 - 0.1 * np.minimum(a, 1))
            new = new - newton_schulz(u) * np.minimum(1, 0.2 * math.sqrt(max(g.shape)) * a)
            moved.append(torch.from_numpy(new - weights[k]))
            weights[k] = new
        theirs.append(moved)
    assert furthest_apart(of_entry(entry, values, gradients, torch.float64), theirs) < 1e-6
    assert furthest_apart(of_entry(entry, values, gradients), theirs) < 5e-2  # Newton-Schulz in bf16


def size_of(moved: torch.Tensor) -> float:
    """The a of a step, from that of an exact polar factor."""
    return moved.norm().item() / (0.2 * math.sqrt(max(moved.shape)) * math.sqrt(min(moved.shape)))


@every_entry
def test_on_a_constant_gradient_without_nesterov_the_size_is_lr_at_every_step(entry):
    gradients = [gradients_of([SQUARE], steps=1)[0]] * 30
    values = {**PLAIN, "nesterov": False, "orthogonalization": "exact"}
    for (moved,) in of_entry(entry, values, gradients, torch.float64):
        assert size_of(moved) == pytest.approx(0.01, rel=1e-6)


def test_with_nesterov_bias_correction_makes_the_first_steps_too_large():
    gradients = [gradients_of([SQUARE], steps=1)[0]] * 3
    sizes = [size_of(m) for (m,) in of_entry(NAMO, {**PLAIN, "orthogonalization": "exact"}, gradients, torch.float64)]
    assert sizes == pytest.approx([0.0195, 0.0146, 0.0130], rel=5e-3)


@pytest.mark.parametrize("nesterov, expected", [(False, 0.16), (True, 0.174)])
def test_in_noise_the_size_is_sqrt_of_1_minus_momentum_over_1_plus_momentum(nesterov, expected):
    generator = torch.Generator().manual_seed(0)
    gradients = [[torch.randn(24, 24, generator=generator)] for _ in range(400)]
    moved = of_entry(NAMO, {**PLAIN, "nesterov": nesterov, "orthogonalization": "exact"}, gradients, torch.float64)
    sizes = [size_of(m) for (m,) in moved[200:]]
    assert sum(sizes) / len(sizes) == pytest.approx(expected * 0.01, rel=0.05)


def test_columns_clamped_to_their_mean_are_all_alike_and_columns_of_equal_norms_make_namo():
    values = {**PLAIN, "orthogonalization": "exact"}
    for (moved,) in of_entry(NAMO_D, {**values, "column_clamp": 1.0}, gradients_of([TALL], steps=2), torch.float64):
        torch.testing.assert_close(moved.norm(dim=0), moved.norm(dim=0).mean().expand(TALL[1]))  # polar: equal columns
    equal = [[torch.linalg.qr(g.double())[0]] for (g,) in gradients_of([TALL], steps=2)][:1] * 4
    both = (of_entry(entry, values, equal, torch.float64) for entry in (NAMO, NAMO_D))
    assert furthest_apart(*both) < 1e-6


@every_entry
def test_on_a_constant_gradient_it_steps_as_moonlight_does(entry):
    gradients = [gradients_of([SQUARE], steps=1)[0]] * 6
    shared = {"lr": 0.01, "weight_decay": 0.1, "orthogonalization": "exact"}
    mine = of_entry(entry, {**shared, "nesterov": False}, gradients, torch.float64)
    assert furthest_apart(mine, of_entry(MOONLIGHT, shared, gradients, torch.float64)) < 1e-6


def test_one_step_worked_by_hand():
    """(3, 0; 0, 4) has the polar factor I, and norms 3 and 4 by columns, 5 in all. Corrected, the moments of a first
    step are the gradient's own, so each a is lr; the factor is 0.2 sqrt(2). Decay by 0.1 goes with a."""
    gradient = torch.tensor([[3.0, 0.0], [0.0, 4.0]])
    values = {"lr": 0.5, "weight_decay": 0.1, "nesterov": False, "orthogonalization": "exact"}
    (before,) = weights_of([(2, 2)], torch.float64)
    for entry in (NAMO, NAMO_D):
        ((moved,),) = of_entry(entry, values, [[gradient]], torch.float64)
        expected = -0.1 * 0.5 * before.detach() - 0.5 * 0.2 * math.sqrt(2) * torch.eye(2, dtype=torch.float64)
        torch.testing.assert_close(moved, expected, rtol=1e-7, atol=1e-9)


@every_entry
def test_the_exact_step_turns_with_the_gradients_and_forgets_their_size(entry):
    """step(c A g B^T) = A step(g) B^T; by columns for B a permutation only."""
    values = {**PLAIN, "orthogonalization": "exact", "column_clamp": 0.75 if entry is NAMO_D else 0.0}
    for shape in MATRICES:
        generator = torch.Generator().manual_seed(7)
        plain = [[torch.randn(shape, generator=generator).double()] for _ in range(4)]
        a, b = (torch.linalg.qr(torch.randn(k, k, generator=generator).double())[0] for k in shape)
        b = b if entry is NAMO else torch.eye(shape[1]).double()[torch.randperm(shape[1], generator=generator)]
        turned = [[1e3 * a @ g @ b.T] for (g,) in plain]
        moved, moved_turned = (of_entry(entry, values, given, torch.float64) for given in (plain, turned))
        assert furthest_apart([[a @ m @ b.T] for (m,) in moved], moved_turned) < 1e-6


@pytest.mark.parametrize("shape", [(16, 16), (32, 8)])
@pytest.mark.parametrize("entry, extra", [(NAMO, lambda m, n: 1), (NAMO_D, lambda m, n: n)])
def test_state_is_four_bytes_a_parameter_and_four_a_norm(entry, extra, shape):
    weights = weights_of([shape])
    optimizer = entry.module().build(roles_with(weights), entry.hyperparameters(entry.values({})), run_of())
    displacements(weights, [optimizer], gradients_of([shape], steps=1))
    assert sum(tensor.nbytes for tensor in state_tensors([optimizer])) == 4 * (math.prod(shape) + extra(*shape))


def test_a_clamp_beyond_one_is_refused():
    with pytest.raises(BenchError, match=r"column_clamp is 1\.5, expected a number from 0 to 1"):
        NAMO_D.hyperparameters(NAMO_D.values({"column_clamp": 1.5}))
