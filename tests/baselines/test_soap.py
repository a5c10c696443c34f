"""SOAP against two libraries on the same gradients; Adam inside a basis; the basis follows the factors."""

from pathlib import Path

import heavyball
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

from bench.entry import Entry
from bench.linalg.gram import mirror

ENTRY = Entry(Path(__file__).parents[2] / "baselines/soap/soap.toml")
BETAS = (0.9, 0.98)  # unlike the declared ones they differ, so one in the other's place shows
PLAIN = {"lr": 1e-2, "weight_decay": 0.0, "beta1": BETAS[0], "beta2": BETAS[1]}
NEAR_SQUARE = [SQUARE, (14, 16), (16, 14)]  # two gradients make their factors regular; wide and tall ones take three


def built(values, shapes, steps=12, dtype=torch.float64):
    weights = weights_of(shapes, dtype)
    hp = ENTRY.hyperparameters(ENTRY.values({**PLAIN, **values}))
    return weights, ENTRY.module().build(roles_with(weights), hp, run_of(steps))


@pytest.mark.parametrize("frequency, shapes", [(1, [SQUARE]), (3, NEAR_SQUARE), (4, MATRICES)])
def test_its_steps_are_those_of_pytorch_optimizer_s_soap(frequency, shapes):
    """In float64; theirs rounds QR to fp32. The eigenvectors that a singular factor leaves open are rounding noise, so
    ours takes theirs after the first step; at the first refresh the factors are regular."""
    gradients = gradients_of(shapes)
    weights, mine = built({"precondition_frequency": frequency}, shapes)
    others = weights_of(shapes, torch.float64)
    theirs = pytorch_optimizer.SOAP(others, lr=1e-2, betas=BETAS, weight_decay=0.0, precondition_frequency=frequency)
    for step in (slice(0, 1), slice(1, None)):
        apart = furthest_apart(
            displacements(weights, [mine], gradients[step]), displacements(others, [theirs], gradients[step])
        )
        assert apart < 5e-5
        for w, other in zip(weights, others, strict=True):
            for side, basis in zip(("left_basis", "right_basis"), theirs.state[other]["Q"], strict=True):
                mine.state[w][side].copy_(basis)


def test_its_decay_differs_from_pytorch_optimizer_s_by_the_square_of_the_rate():
    """Theirs comes after the step: (1 - a) (W - lr U); ours before it: (1 - a) W - lr U, where a = lr weight_decay."""
    gradients = gradients_of([SQUARE])
    theirs = of_library(
        lambda weights: pytorch_optimizer.SOAP(weights, lr=1e-2, betas=BETAS, weight_decay=0.1), gradients
    )
    assert furthest_apart(of_entry(ENTRY, {**PLAIN, "weight_decay": 0.1}, gradients), theirs) < 1.1 * 1e-2 * 0.1


def test_its_steps_are_those_of_heavyball_s_soap_when_the_basis_is_refreshed_every_step(monkeypatch):
    """At other frequencies its refreshes come a step later. It lifts the factors by 1e-8 of their norm before QR, and
    adds eps to the bias-corrected second moment: none here. In float64, since its fp32 lift is 1e-4."""
    monkeypatch.setattr(heavyball.utils, "compile_mode", None)
    gradients = gradients_of([SQUARE])
    theirs = of_library(
        lambda weights: heavyball.SOAP(
            weights, lr=1e-2, betas=BETAS, shampoo_beta=BETAS[1], weight_decay=0.0, precondition_frequency=1,
            merge_dims=False, eps=1e-20, storage_dtype="float64"
        ), gradients, torch.float64,
    )  # fmt: skip
    values = {**PLAIN, "precondition_frequency": 1, "eps": 1e-20}
    assert furthest_apart(of_entry(ENTRY, values, gradients, torch.float64), theirs) < 1e-4


def test_the_first_step_moves_nothing_and_does_not_decay():
    moved = of_entry(ENTRY, {"weight_decay": 0.5}, gradients_of(MATRICES, steps=2))
    assert all(not part.any() for part in moved[0]) and all(part.any() for part in moved[1])


def test_in_the_basis_of_the_weights_it_is_adam_a_step_late():
    """Diagonal gradients have the axes for eigenvectors; every number then follows Adam's rule."""
    generator = torch.Generator().manual_seed(4)
    gradients = [[torch.diag(torch.randn(6, generator=generator))] for _ in range(8)]
    values = {**PLAIN, "precondition_frequency": 100}
    adam = of_library(
        lambda weights: torch.optim.Adam(weights, lr=1e-2, betas=BETAS, eps=0.0), gradients[1:], torch.float64
    )
    mine = of_entry(ENTRY, {**values, "eps": 1e-30}, gradients, torch.float64)
    for ours, theirs in zip(mine[1:], adam, strict=True):
        torch.testing.assert_close(ours[0].diag(), theirs[0].diag(), rtol=1e-10, atol=0)


def test_without_memory_its_step_is_the_sign_inside_the_basis():
    gradients = gradients_of([(5, 7)], steps=2)
    values = {**PLAIN, "lr": 1.0, "beta1": 0.0, "beta2": 0.0, "eps": 0.0}
    first, second = (step[0].double() for step in gradients)
    left, right = torch.linalg.eigh(first @ first.mT)[1], torch.linalg.eigh(first.mT @ first)[1]
    _, optimizer = built(values, [(5, 7)])
    (w,) = optimizer.param_groups[0]["params"]
    displacements([w], [optimizer], gradients[:1])
    left, right = optimizer.state[w]["left_basis"][0], optimizer.state[w]["right_basis"][0]
    inside = left.mT @ first @ right
    torch.testing.assert_close(inside @ inside.mT, torch.diag((inside @ inside.mT).diag()), rtol=0, atol=1e-9)
    ((moved,),) = displacements([w], [optimizer], gradients[1:])
    torch.testing.assert_close(-moved, left @ (left.mT @ second @ right).sign() @ right.mT, rtol=0, atol=1e-9)


@pytest.mark.parametrize("frequency", [1, 3])
def test_turned_gradients_give_turned_steps(frequency):
    """The basis turns with the gradients, up to the signs of its columns, which Adam does not see."""
    gradients = gradients_of([SQUARE], steps=8)
    generator = torch.Generator().manual_seed(5)
    a, b = (torch.linalg.qr(torch.randn(16, 16, generator=generator, dtype=torch.float64))[0] for _ in range(2))
    turned = [[a @ step[0].double() @ b.mT] for step in gradients]
    values = {**PLAIN, "precondition_frequency": frequency}
    plain = of_entry(ENTRY, values, gradients, torch.float64)
    mine = of_entry(ENTRY, values, turned, torch.float64)
    assert furthest_apart(mine, [[a @ step[0] @ b.mT] for step in plain]) < 1e-6


def test_the_scale_of_the_gradients_does_not_matter_without_eps():
    gradients = gradients_of(MATRICES)
    values = {**PLAIN, "eps": 0.0, "precondition_frequency": 4}
    plain = of_entry(ENTRY, values, gradients)
    scaled = of_entry(ENTRY, values, [[64 * g for g in step] for step in gradients])
    assert furthest_apart(scaled, plain) < 1e-5


def test_the_basis_stays_orthogonal_and_near_the_factors_eigenvectors_on_a_stationary_stream():
    generator = torch.Generator().manual_seed(6)
    spread = torch.logspace(0, -2, 12, dtype=torch.float64)
    gradients = [[spread[:, None] * torch.randn(12, 20, generator=generator)] for _ in range(200)]
    weights, optimizer = built({"beta2": 0.99, "precondition_frequency": 5}, [(12, 20)], steps=200)
    displacements(weights, [optimizer], gradients)
    state = optimizer.state[weights[0]]
    basis, factor = state["left_basis"][0], mirror(state["left"])[0]
    torch.testing.assert_close(basis.mT @ basis, torch.eye(12, dtype=torch.float64), rtol=0, atol=1e-6)
    inside = basis.mT @ factor @ basis
    assert (inside - torch.diag(inside.diag())).norm() < 2e-2 * inside.norm()


@pytest.mark.parametrize("shape, expected", [((16, 16), 24), ((48, 16), 8 + 8 * (48**2 + 16**2) / (48 * 16))])
def test_its_state_has_the_bytes_that_it_says(shape, expected):
    weights, optimizer = built({}, [shape], dtype=torch.float32)
    displacements(weights, [optimizer], gradients_of([shape], steps=2))
    held = sum(tensor.nbytes for tensor in optimizer.state[weights[0]].values())
    assert held / weights[0].numel() == pytest.approx(expected)
