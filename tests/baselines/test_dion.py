"""Dion against a float64 transcription, and what power iteration with error feedback implies."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from open_loop import MATRICES, TALL, WIDE, displacements, furthest_apart, gradients_of, roles_with, run_of, weights_of

from bench.entry import Entry
from bench.errors import BenchError
from bench.facts import state_tensors

ENTRY = Entry(Path(__file__).parents[2] / "baselines/dion/dion.toml")
STILL = {"weight_decay": 0.0, "lr": 1.0}


def optimizer_of(values, weights, seed=0, blocks=None):
    hp = ENTRY.hyperparameters(ENTRY.values({**STILL, **values}))
    return ENTRY.module().build(roles_with(weights, blocks), hp, run_of(seed=seed))


def first_bases(optimizer, weights, rank_fraction):
    """The bases as they are drawn before the first step."""
    (group,) = optimizer.param_groups
    found = []
    for number, w in enumerate(weights, group["seed"]):
        basis = torch.empty(w.shape[1], int(np.ceil(rank_fraction * min(w.shape))), dtype=w.dtype)
        found.append(basis.normal_(generator=torch.Generator().manual_seed(number)).double().numpy())
    return found


@pytest.mark.parametrize("rank_fraction", [0.2, 1.0])
@pytest.mark.parametrize("qr", ["householder", "cholesky"])
@pytest.mark.parametrize("dtype, bound", [(torch.float64, 1e-9), (torch.float32, 2e-3)])
def test_its_steps_are_those_of_the_rule_in_float64(rank_fraction, qr, dtype, bound):
    gradients, weights = gradients_of(MATRICES, seed=3), weights_of(MATRICES, dtype)
    values = {"lr": 0.02, "weight_decay": 0.1, "rank_fraction": rank_fraction, "qr": qr}
    optimizer = optimizer_of(values, weights)
    bases, buffers = first_bases(optimizer, weights, rank_fraction), [np.zeros(shape) for shape in MATRICES]
    places = [w.detach().double().numpy() for w in weights]
    theirs = []
    for drawn in gradients:
        moved = []
        for i, g in enumerate(drawn):
            m, n = g.shape
            buffer = buffers[i] + g.double().numpy()
            p = np.linalg.qr(buffer @ bases[i])[0]
            r = buffer.T @ p
            buffers[i] = buffer - 0.05 * p @ r.T
            bases[i] = r / np.linalg.norm(r, axis=0)
            new = (1 - 0.02 * 0.1) * places[i] - 0.02 * np.sqrt(m / n) * p @ bases[i].T
            moved.append(torch.from_numpy(new - places[i]))
            places[i] = new
        theirs.append(moved)
    assert furthest_apart(displacements(weights, [optimizer], gradients), theirs) < bound


def test_one_step_worked_by_hand():
    """M = diag(3, 4) and Q = (1; 1): M Q = (3; 4), P = (3; 4) / 5, R = M^T P = (9; 16) / 5, its norm sqrt(337) / 5; the
    step is P (9, 16) / sqrt(337), and M keeps 0.95 of P R^T = (27, 48; 36, 64) / 25."""
    (w,) = weights = [torch.nn.Parameter(torch.zeros(2, 2, dtype=torch.float64))]
    optimizer = optimizer_of({"rank_fraction": 0.5}, weights)
    gradient = torch.diag(torch.tensor([3.0, 4.0], dtype=torch.float64))
    displacements(weights, [optimizer], [[torch.zeros(2, 2)]])
    optimizer.state[w]["basis"] = torch.ones(1, 2, 1, dtype=torch.float64)
    ((moved,),) = displacements(weights, [optimizer], [[gradient]])
    p, r = torch.tensor([[0.6], [0.8]], dtype=torch.float64), torch.tensor([[9.0, 16.0]], dtype=torch.float64)
    torch.testing.assert_close(moved, -p @ r / 337**0.5)
    torch.testing.assert_close(optimizer.state[w]["buffer"][0], gradient - 0.05 * p @ r / 5)


@pytest.mark.parametrize("shape", MATRICES)
def test_at_full_rank_a_gradient_that_stays_leads_to_the_polar_factor(shape):
    u, _, vh = torch.linalg.svd(torch.randn(shape, generator=torch.Generator().manual_seed(0)).double())
    n = min(shape)
    gradient = u[:, :n] @ torch.linspace(1, 8, n, dtype=torch.float64).diag() @ vh[:n]
    weights = weights_of([shape], torch.float64)
    moved = displacements(weights, [optimizer_of({"rank_fraction": 1.0}, weights)], [[gradient]] * 100)
    expected = -((shape[0] / shape[1]) ** 0.5) * u[:, :n] @ vh[:n]
    first, last = ((step - expected).norm() / expected.norm() for step in (moved[0][0], moved[-1][0]))
    assert last < 2e-2 < 0.1 < first


def test_a_gradient_of_rank_one_is_found_at_once_and_stepped_by_rank_one():
    line = torch.outer(torch.linspace(-1, 2, 16), torch.linspace(1, 3, 24))
    for qr in ("householder", "cholesky"):
        weights = weights_of([(16, 24)])
        optimizer = optimizer_of({"qr": qr}, weights)
        ((moved,),) = displacements(weights, [optimizer], [[line]])
        torch.testing.assert_close(moved, -((16 / 24) ** 0.5) * line / line.norm(), rtol=0, atol=1e-5)
        buffer = optimizer.state[weights[0]]["buffer"][0]
        torch.testing.assert_close(buffer, 0.95 * line, rtol=0, atol=1e-5)


def test_after_gradients_of_rank_one_and_zero_it_steps_at_full_rank_again():
    line = torch.outer(torch.linspace(-1, 2, 16), torch.linspace(1, 3, 16))
    drawn = torch.randn(16, 16, generator=torch.Generator().manual_seed(5))
    weights = weights_of([(16, 16)])
    optimizer = optimizer_of({"rank_fraction": 1.0}, weights)
    moved = displacements(weights, [optimizer], [[torch.zeros(16, 16)], [line], [torch.zeros(16, 16)], *[[drawn]] * 8])
    assert moved[0][0].abs().max() == 0
    assert torch.linalg.matrix_rank(moved[1][0]) == torch.linalg.matrix_rank(moved[2][0]) == 1
    values = torch.linalg.svdvals(moved[-1][0])
    assert values.min() > 0.05 and values.max() < 2


@pytest.mark.parametrize("shape", [TALL, WIDE])
def test_turned_gradients_and_a_turned_basis_give_turned_steps(shape):
    left, right = (torch.linalg.qr(torch.randn(n, n, generator=torch.Generator().manual_seed(n)).double()).Q
                   for n in shape)  # fmt: skip
    gradients = [[g.double() for g in drawn] for drawn in gradients_of([shape], steps=6)]
    turned = [[left @ g @ right.mT for g in drawn] for drawn in gradients]
    zero = [[torch.zeros(shape)]]
    plain = weights_of([shape], torch.float64)
    optimizer = optimizer_of({}, plain)
    displacements(plain, [optimizer], zero)
    basis = torch.randn(1, shape[1], 4, generator=torch.Generator().manual_seed(9)).double()
    optimizer.state[plain[0]]["basis"] = basis.clone()
    expected = displacements(plain, [optimizer], gradients)
    other = weights_of([shape], torch.float64)
    optimizer = optimizer_of({}, other)
    displacements(other, [optimizer], zero)
    optimizer.state[other[0]]["basis"] = right @ basis
    moved = displacements(other, [optimizer], turned)
    assert furthest_apart(moved, [[left @ step @ right.mT for step in steps] for steps in expected]) < 1e-9


def test_a_basis_depends_on_the_seed_and_on_the_matrix_s_number_only():
    shapes = [(16, 16)] * 3
    gradients = gradients_of(shapes, steps=1)

    def bases(seed: int, held_back: int | None = None) -> list[torch.Tensor]:
        weights = weights_of(shapes)
        optimizer = optimizer_of({}, weights, seed)
        for i, (w, g) in enumerate(zip(weights, gradients[0], strict=True)):
            w.grad = None if i == held_back else g
        optimizer.step()
        return [optimizer.state[w]["basis"] for w in weights if w.grad is not None]

    first = bases(0)
    assert len({basis.sum().item() for basis in first}) == 3
    assert all(torch.equal(a, b) for a, b in zip(bases(0, held_back=1), [first[0], first[2]], strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(bases(1), first, strict=True))


@pytest.mark.parametrize("shape, rank_fraction", [((16, 16), 0.5), ((24, 8), 0.25), ((8, 24), 0.3)])
def test_state_is_a_buffer_and_a_basis(shape, rank_fraction):
    """Bytes per parameter: 4 (1 + r / m)."""
    weights = weights_of([shape])
    optimizer = optimizer_of({"rank_fraction": rank_fraction}, weights)
    displacements(weights, [optimizer], gradients_of([shape], steps=1))
    rank = int(np.ceil(rank_fraction * min(shape)))
    held = sum(tensor.nbytes for tensor in state_tensors([optimizer]))
    assert held / weights[0].numel() == pytest.approx(4 * (1 + rank / shape[0]))


@pytest.mark.parametrize("rank_fraction", [0.0, 1.5])
def test_a_rank_that_no_matrix_has_is_refused(rank_fraction):
    with pytest.raises(BenchError, match=r"rank_fraction is .*, expected a number above 0 and at most 1"):
        ENTRY.hyperparameters(ENTRY.values({"rank_fraction": rank_fraction}))
    assert replace(ENTRY.hyperparameters(ENTRY.values({})), rank_fraction=1.0).rank_fraction == 1.0
