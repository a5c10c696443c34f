"""Steps of the isotropic curvature model: what the paper proves of them, the quartic's equation, and both ends."""

from pathlib import Path

import numpy as np
import pytest
import torch
from open_loop import MATRICES, displacements, furthest_apart, gradients_of, of_entry, roles_with, run_of, weights_of

from bench.entry import Entry
from bench.errors import BenchError
from bench.facts import state_tensors

FOLDER = Path(__file__).parents[2] / "baselines"
QUARTIC, HALF, QUARTER = (
    Entry(FOLDER / f"isotropic_curvature/isotropic-{name}.toml") for name in ("quartic", "power-half", "power-quarter")
)
MOONLIGHT = Entry(FOLDER / "muon/moonlight.toml")
MODULE = QUARTIC.module()
STILL = {"weight_decay": 0.0, "lr": 0.1}
every_entry = pytest.mark.parametrize("entry", [QUARTIC, HALF, QUARTER], ids=lambda entry: entry.name)


def spectra() -> torch.Tensor:
    """1/k, one large value, equal values, and one alone."""
    k = torch.arange(1, 65, dtype=torch.float64)
    spike = torch.cat([torch.tensor([100.0]), torch.ones(63)]).double()
    return torch.stack([1 / k, spike, torch.ones(64).double(), torch.eye(64)[0].double()])


def test_the_quartic_s_values_have_norm_one_and_solve_its_equation():
    sigma = spectra()
    s = MODULE.quartic(sigma)
    torch.testing.assert_close(s.norm(dim=-1), torch.ones(4).double(), rtol=0, atol=1e-12)
    left = 2 * s**3 + s  # |s|^2 = 1
    k = (left * sigma).sum(-1, keepdim=True) / sigma.square().sum(-1, keepdim=True)
    torch.testing.assert_close(left, k * sigma, rtol=0, atol=1e-12)


def test_conditions_shrink_as_they_were_once_measured():
    power_law, spike = MODULE.quartic(spectra())[:2]
    assert power_law[0] / power_law[-1] == pytest.approx(35, abs=0.5)
    assert spike[0] / spike[-1] == pytest.approx(34.5, abs=0.5)


@pytest.mark.parametrize("law", [MODULE.quartic, lambda sigma: MODULE.power(sigma, 0.25)], ids=["quartic", "power"])
def test_singular_values_keep_their_order_and_come_nearer_to_each_other(law):
    sigma = torch.rand(5, 12, generator=torch.Generator().manual_seed(0)).double().sort(descending=True).values
    s = law(sigma)
    assert (s.diff(dim=-1) <= 0).all() and (s > 0).all()
    ratios, new = sigma[:, :1] / sigma, s[:, :1] / s
    assert (new <= ratios * (1 + 1e-12)).all()
    assert law(torch.zeros(2, 3).double()).tolist() == [[0.0] * 3] * 2


def test_the_quartic_minimizes_the_model():
    """Over z uniform on the sphere in R^3, E ||diag(s) z||^4 is ((sum s^2)^2 + 2 sum s^4) / 15; where its slope is
    sigma's, no other s of the same inner product with sigma has less of it."""
    generator = torch.Generator().manual_seed(0)
    z = torch.nn.functional.normalize(torch.randn(400_000, 3, generator=generator, dtype=torch.float64), dim=-1)

    def expected(s: torch.Tensor) -> float:
        return float(((s.square().sum() ** 2) + 2 * (s**4).sum()) / 15)

    sigma = torch.tensor([3.0, 2.0, 0.5], dtype=torch.float64)
    best = MODULE.quartic(sigma[None])[0]
    assert ((z * best).norm(dim=-1) ** 4).mean().item() == pytest.approx(expected(best), rel=1e-2)
    for seed in range(20):
        away = torch.randn(3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        away -= sigma * (away @ sigma) / (sigma @ sigma)
        for length in (1e-2, 0.3):
            assert expected(best + length * away) > expected(best)


def test_the_power_s_ends_are_muon_with_the_exact_polar_factor_and_normalized_momentum():
    gradients = [[torch.randn(s, generator=torch.Generator().manual_seed(t)) for s in MATRICES] for t in range(4)]
    values = {**STILL, "lr": 0.02}
    zero = of_entry(HALF, {**values, "exponent": 0.0}, gradients, torch.float64)
    muon = of_entry(MOONLIGHT, {**values, "orthogonalization": "exact"}, gradients, torch.float64)
    assert furthest_apart(zero, muon) < 1e-9
    one = of_entry(HALF, {**values, "exponent": 1.0}, gradients[:1], torch.float64)
    for step, gradient in zip(one[0], gradients[0], strict=True):
        expected = -0.02 * 0.2 * step.numel() ** 0.5 * gradient / gradient.norm()
        torch.testing.assert_close(step, expected.double(), rtol=0, atol=1e-6)


@every_entry
def test_its_steps_are_those_of_the_rule_in_float64(entry):
    """The quartic's by Newton's method for every k, and k by another search than the entry's."""
    gradients, weights = gradients_of(MATRICES), [w.detach().double().numpy() for w in weights_of(MATRICES)]
    momenta, theirs = [np.zeros(shape) for shape in MATRICES], []
    for drawn in gradients:
        moved = []
        for i, g in enumerate(drawn):
            momenta[i] = 0.95 * momenta[i] + 0.05 * g.double().numpy()
            u, sigma, vh = np.linalg.svd(0.95 * momenta[i] + 0.05 * g.double().numpy(), full_matrices=False)
            s = of_norm_one(sigma) if entry is QUARTIC else sigma ** entry.defaults["exponent"]
            q = (u * (s / np.linalg.norm(s))) @ vh
            new = (1 - 0.02 * 0.1) * weights[i] - 0.02 * 0.2 * np.sqrt(q.size) * q
            moved.append(torch.from_numpy(new - weights[i]))
            weights[i] = new
        theirs.append(moved)
    values = {"lr": 0.02, "weight_decay": 0.1}
    assert furthest_apart(of_entry(entry, values, gradients, torch.float64), theirs) < 1e-9
    assert furthest_apart(of_entry(entry, values, gradients), theirs) < 1e-4


def of_norm_one(sigma: np.ndarray) -> np.ndarray:
    sigma = sigma / np.linalg.norm(sigma)
    s = sigma.copy()
    for _ in range(200):  # the conditions 2 s^3 + s = k sigma and |s| = 1, by Newton in s and k together
        k = (2 * s**3 + s) @ sigma
        slope = 6 * s**2 + 1
        ds0, ds1 = (k * sigma - 2 * s**3 - s) / slope, sigma / slope
        s = s + ds0 + ds1 * ((1 - s @ s) / 2 - s @ ds0) / (s @ ds1)
    return s


@every_entry
def test_a_step_has_one_size_whatever_the_gradients_scale_and_turns_with_them(entry):
    left, right = (torch.linalg.qr(torch.randn(n, n, generator=torch.Generator().manual_seed(n)).double()).Q
                   for n in (16, 24))  # fmt: skip
    gradients = [[g.double() for g in drawn] for drawn in gradients_of([(16, 24)], steps=2)]
    plain = of_entry(entry, STILL, gradients, torch.float64)
    for (step,) in plain:
        assert step.square().mean().sqrt().item() == pytest.approx(0.2 * 0.1, rel=1e-9)
    turned = of_entry(entry, STILL, [[1e6 * left @ g @ right.mT for g in drawn] for drawn in gradients], torch.float64)
    assert furthest_apart(turned, [[left @ step @ right.mT for step in steps] for steps in plain]) < 1e-8


@every_entry
def test_zeros_and_rank_one_move_by_nothing_and_by_rank_one(entry):
    line = torch.outer(torch.linspace(-1, 2, 16), torch.linspace(1, 3, 24))
    assert of_entry(entry, STILL, [[torch.zeros(16, 24)]])[0][0].abs().max() == 0
    ((moved,),) = of_entry(entry, STILL, [[line]])
    torch.testing.assert_close(moved, -0.1 * 0.2 * (16 * 24) ** 0.5 * line / line.norm(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", MATRICES)
def test_state_is_four_bytes_a_parameter(shape):
    weights = weights_of([shape])
    optimizer = MODULE.build(roles_with(weights), QUARTIC.hyperparameters(QUARTIC.values({})), run_of())
    displacements(weights, [optimizer], gradients_of([shape], steps=1))
    assert sum(tensor.nbytes for tensor in state_tensors([optimizer])) == 4 * weights[0].numel()


@pytest.mark.parametrize(
    "values, told",
    [
        ({"spectrum": "cubic"}, "'cubic', expected one of quartic, power"),
        ({"exponent": 1.5}, "1.5, expected a number from"),
    ],
)
def test_what_the_model_does_not_have_is_refused(values, told):
    with pytest.raises(BenchError, match=told):
        QUARTIC.hyperparameters(QUARTIC.values(values))
