"""PSGD Kron against two libraries with the same probes; the whitening fixed point, balancing, bounds, streams."""

from itertools import pairwise
from pathlib import Path

import heavyball
import pytest
import pytorch_optimizer
import torch
from open_loop import MATRICES, displacements, furthest_apart, gradients_of, of_library, roles_with, run_of, weights_of

from bench.entry import Entry
from bench.linalg.spectral_norm import norm_from_below

ENTRY = Entry(Path(__file__).parents[2] / "baselines/psgd_kron/psgd-kron.toml")
MODULE = ENTRY.module()
PLAIN = {"lr": 1e-2, "weight_decay": 0.0}
each_shape = pytest.mark.parametrize("shape", MATRICES)


def built(values, shapes, dtype=torch.float32, seed=0):
    weights = weights_of(shapes, dtype)
    hp = ENTRY.hyperparameters(ENTRY.values({**PLAIN, **values}))
    return weights, MODULE.build(roles_with(weights), hp, run_of(seed=seed))


def with_probes(values, gradients, dtype=torch.float32):
    """Return the displacements of one weight, and the probes that were drawn."""
    weights, optimizer = built(values, [tuple(g.shape) for g in gradients[0]], dtype)
    draw, probes = optimizer.probe, []

    def noted(like, group):
        probes.append(draw(like, group))
        return probes[-1]

    optimizer.probe = noted
    return displacements(weights, [optimizer], gradients), probes


def handed_out(monkeypatch, probes):
    """Let torch.randn_like give the probes, in their order."""
    queue = iter(probes)
    monkeypatch.setattr(torch, "randn_like", lambda like, **_: next(queue).view_as(like).clone())


def first_scale(gradients):
    """Return what theirs are given: of the factors' product."""
    return gradients[0][0].double().pow(4).mean().item() ** (-1 / 8)


@each_shape
@pytest.mark.parametrize("probability", [1.0, 0.3])
def test_its_steps_are_those_of_pytorch_optimizer_s_kron_with_the_same_probes(monkeypatch, shape, probability):
    """Theirs adds no damping, and is given the first scale; balancing is turned off, which no product shows."""
    monkeypatch.setattr(MODULE, "probability", lambda step: probability)
    monkeypatch.setattr(MODULE, "DAMPING", 0.0)
    gradients = gradients_of([shape])
    mine, probes = with_probes({"weight_decay": 0.1}, gradients)
    handed_out(monkeypatch, probes)
    scale = first_scale(gradients)
    theirs = of_library(
        lambda weights: pytorch_optimizer.Kron(
            [{"params": weights, "precondition_init_scale": scale}], lr=1e-2, momentum=0.9, weight_decay=0.1,
            balance_prob=0.0, pre_conditioner_update_probability=probability
        ), gradients,
    )  # fmt: skip
    assert furthest_apart(mine, theirs) < 1e-4


@each_shape
def test_its_directions_are_those_of_heavyball_s_kron_with_the_same_probes_and_norm(monkeypatch, shape):
    """Theirs keeps a running maximum of norms (off at lower_bound_beta 0), estimates them by more power steps (ours is
    patched in), balances at every fit, and does not bound the root mean square: directions are compared."""
    gradients = gradients_of([shape])
    monkeypatch.setattr(MODULE, "DAMPING", 0.0)
    mine, probes = with_probes({}, gradients, torch.float64)
    handed_out(monkeypatch, probes)
    scale = first_scale(gradients)
    monkeypatch.setattr(heavyball.utils, "compile_mode", None)
    monkeypatch.setattr(heavyball.utils, "max_eigenvalue_spd", lambda s, power_iter: norm_from_below(s)[:, 0, 0])
    theirs = of_library(
        lambda weights: heavyball.PSGDKron(
            weights, lr=1e-2, beta=0.9, preconditioner_update_probability=1.0, precond_init_scale=scale,
            store_triu_as_line=False, lower_bound_beta=0.0, dampening=0.0, update_clipping=None,
            q_dtype="float64", storage_dtype="float64"
        ), gradients, torch.float64,
    )  # fmt: skip
    directions = [[[part / part.norm() for part in step] for step in sequence] for sequence in (mine, theirs)]
    assert furthest_apart(*directions) < 1e-5


def test_one_step_by_hand(monkeypatch):
    """With one number g: q = g^(-1/4), A = q^2 g, B = v / q^2, q <- q (1 - 0.1 (A^2 - B^2) / (A^2 + B^2)), twice."""
    monkeypatch.setattr(MODULE, "DAMPING", 0.0)
    weights, optimizer = built({}, [(1, 1)], torch.float64)
    optimizer.probe = lambda like, group: torch.full_like(like, 0.5)
    ((moved,),) = displacements(weights, [optimizer], [[torch.tensor([[0.25]])]])
    q = 0.25 ** (-1 / 4)
    a, b = 0.25 * q**2, 0.5 / q**2
    q *= 1 - 0.1 * (a**2 - b**2) / (a**2 + b**2)
    assert moved.item() == pytest.approx(-1e-2 * 0.25 * q**4, rel=1e-12)


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e3])
def test_the_first_step_has_one_size_whatever_the_gradients_have(size):
    """Factors that started from the identity would take dozens of steps to find the scale of small gradients."""
    gradients = [[size * g for g in step] for step in gradients_of(MATRICES, steps=1)]
    weights, optimizer = built({"lr": 1.0}, MATRICES)
    (step,) = displacements(weights, [optimizer], gradients)
    assert all(0.3 < part.square().mean().sqrt() < 1.11 for part in step)


def test_factors_stay_triangular_and_the_root_mean_square_is_bounded():
    gradients = gradients_of(MATRICES, steps=40)
    weights, optimizer = built({"lr": 1.0}, MATRICES)
    for step in displacements(weights, [optimizer], gradients):
        assert all(part.square().mean().sqrt() <= 1.1 * (1 + 1e-5) for part in step)
    for w in weights:
        for side in ("left", "right"):
            assert torch.equal(optimizer.state[w][side], optimizer.state[w][side].triu())


def test_balancing_changes_no_product_and_makes_the_factors_alike():
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(2, n, n, generator=generator, dtype=torch.float64).triu() for n in (3, 4))
    left *= 1e6
    before = [torch.kron(a, b) for a, b in zip(left, right, strict=True)]
    MODULE.balance(left, right)
    for a, b, product in zip(left, right, before, strict=True):
        torch.testing.assert_close(torch.kron(a, b), product, rtol=1e-12, atol=0)
        torch.testing.assert_close(a.abs().max(), b.abs().max())


def test_it_whitens_a_stationary_gaussian_stream():
    """Where gradients have independent entries of deviations r_i c_j, the fixed point has P = 1 / (r_i c_j): whitened
    gradients of variance 1. The mean over 200 late steps, of a rate small enough for little noise."""
    generator = torch.Generator().manual_seed(1)
    rows, columns = (torch.logspace(-1, 0.5, n, dtype=torch.float64) for n in (6, 8))
    left, right = (torch.eye(n, dtype=torch.float64).unsqueeze(0) for n in (6, 8))
    seen = torch.zeros(48, 48, dtype=torch.float64)
    for step in range(3000):
        g = rows[:, None] * columns * torch.randn(1, 6, 8, generator=generator, dtype=torch.float64)
        probe = torch.randn(1, 6, 8, generator=generator, dtype=torch.float64)
        MODULE.fit(left, right, g, probe, 0.1 if step < 1000 else 0.01)
        if step >= 1000:
            white = (left.mT @ left @ g @ right.mT @ right).flatten()
            seen += torch.outer(white, white) / 2000
    assert seen.diag().mean().item() == pytest.approx(1, abs=0.05)
    assert (seen - torch.eye(48, dtype=torch.float64)).square().mean().sqrt() < 0.05


def test_fits_come_at_every_step_at_first_and_then_as_rarely_as_the_source_says():
    assert [MODULE.probability(step) for step in (0, 500, 10_000)] == [1, 1, 0.03]
    assert MODULE.probability(1500) == pytest.approx(0.36788, rel=1e-4)


def test_the_probes_depend_on_the_seed_the_step_and_the_matrix_alone():
    """As over ranks: a weight whose neighbours have no gradient steps as it does among them."""
    shapes = [(4, 6), (4, 6), (6, 4)]
    gradients = gradients_of(shapes, steps=4)
    weights, optimizer = built({}, shapes)
    together = displacements(weights, [optimizer], gradients)
    weights, optimizer = built({}, shapes)
    for drawn, expected in zip(gradients, together, strict=True):
        before = weights[1].detach().clone()
        weights[1].grad = drawn[1].clone()
        optimizer.step()
        assert torch.equal(weights[1].detach() - before, expected[1])
    _, probes = with_probes({}, gradients)
    assert len({float(part[0, 0]) for stack in probes for part in stack}) == 3 * 4


@pytest.mark.parametrize("shape, expected", [((16, 16), 12), ((48, 16), 4 + 4 * (48**2 + 16**2) / (48 * 16))])
def test_its_state_has_the_bytes_that_it_says(shape, expected):
    weights, optimizer = built({}, [shape])
    displacements(weights, [optimizer], gradients_of([shape], steps=2))
    held = sum(tensor.nbytes for tensor in optimizer.state[weights[0]].values())
    assert held / weights[0].numel() == pytest.approx(expected)


def test_a_fit_sees_a_little_of_the_probe_and_the_step_none_of_it(monkeypatch):
    seen = []
    monkeypatch.setattr(MODULE, "fit", lambda left, right, x, probe, rate: seen.append((x.clone(), probe.clone())))
    gradients = gradients_of([(6, 8)], steps=1)
    weights, optimizer = built({"momentum": 0.0, "lr": 1.0}, [(6, 8)], torch.float64)
    ((moved,),) = displacements(weights, [optimizer], gradients)
    ((x, probe),), whole = seen, gradients[0][0].double()
    torch.testing.assert_close(x[0], whole + 2**-11.5 * whole.abs().mean() * probe[0], rtol=1e-12, atol=0)
    torch.testing.assert_close(-moved, first_scale(gradients) ** 2 * whole, rtol=1e-12, atol=0)


def test_every_hundredth_step_balances_and_fits_come_where_enough_steps_have_passed(monkeypatch):
    fits, balanced = [], []
    weights, optimizer = built({}, [(3, 4)])
    group, real = optimizer.param_groups[0], {name: getattr(MODULE, name) for name in ("fit", "balance")}
    for name, noted in (("fit", fits), ("balance", balanced)):
        monkeypatch.setattr(
            MODULE, name, lambda *of, name=name, noted=noted: (noted.append(group["step"]), real[name](*of))
        )
    displacements(weights, [optimizer], [[torch.randn(3, 4)] for _ in range(1200)])
    assert balanced == list(range(100, 1201, 100))
    assert fits[:501] == list(range(1, 502)) and len(fits) < 900
    for before, now in pairwise(fits[501:]):
        waited = now - before
        assert waited >= 1 / MODULE.probability(now - 1) and waited - 1 < 1 / MODULE.probability(now - 2)
