"""LANTON against a float64 transcription; its rates' contract; with noise ignored it is Muon."""

from pathlib import Path

import numpy as np
import pytest
import torch
from open_loop import MATRICES, displacements, furthest_apart, gradients_of, of_entry, roles_with, run_of, weights_of
from transcribed import polar

from bench.entry import Entry
from bench.facts import state_tensors

FOLDER = Path(__file__).parents[2] / "baselines"
LANTON, MARS = Entry(FOLDER / "lanton/lanton.toml"), Entry(FOLDER / "mars_muon/mars-muon.toml")
MODULE = LANTON.module()
VALUES = {"lr": 0.02, "weight_decay": 0.1}


def transcribed(gradients, alpha: float) -> list[list[torch.Tensor]]:
    weights = [w.detach().double().numpy() for w in weights_of([tuple(g.shape) for g in gradients[0]])]
    momenta, noises, last = [np.zeros_like(w) for w in weights], [0.0] * len(weights), None
    moved = []
    for drawn in [[g.double().numpy() for g in step] for step in gradients]:
        momenta = [0.95 * m + 0.05 * g for m, g in zip(momenta, drawn, strict=True)]
        if last is not None:
            away = [np.linalg.norm(g - old, "nuc") for g, old in zip(drawn, last, strict=True)]
            noises = [0.9 * h + 0.1 * a**2 for h, a in zip(noises, away, strict=True)]
        last = drawn
        shares = [alpha / np.sqrt(alpha**2 + h) for h in noises]
        steps = []
        for i, (m, share) in enumerate(zip(momenta, shares, strict=True)):
            rate = 0.02 * np.sqrt(share / max(shares))
            new = (1 - 0.02 * 0.1) * weights[i] - rate * 0.2 * np.sqrt(max(m.shape)) * polar(m)
            steps.append(torch.from_numpy(new - weights[i]))
            weights[i] = new
        moved.append(steps)
    return moved


@pytest.mark.parametrize("alpha", [1e-3, 10.0])
def test_its_steps_are_those_of_the_rule_in_float64(monkeypatch, alpha):
    """Exactly with nuclear norms by singular values; by Polar Express rates are a few percent off."""
    gradients = gradients_of(MATRICES)
    values = {**VALUES, "alpha": alpha, "orthogonalization": "exact"}
    expected = transcribed(gradients, alpha)
    assert furthest_apart(of_entry(LANTON, values, gradients, torch.float64), expected) < 5e-2
    exact = lambda stack: torch.linalg.svdvals(stack).sum(-1)[:, None, None]  # noqa: E731
    monkeypatch.setattr(MODULE, "nuclear_norm", exact)
    assert furthest_apart(of_entry(LANTON, values, gradients, torch.float64), expected) < 1e-8


def test_rates_are_one_for_the_least_noisy_and_fall_with_noise_by_at_most_its_fourth_root():
    noise = torch.logspace(-6, 2, 30, dtype=torch.float64)
    for alpha in (0.0, 1e-3, 0.1, 1e3):
        rates = MODULE.rates(noise, noise.amin(), alpha)
        assert rates[0] == 1 and (rates > 0).all() and (rates.diff() <= 0).all()
        assert (rates >= (noise[0] / noise) ** 0.25 - 1e-12).all()
    torch.testing.assert_close(MODULE.rates(noise, noise.amin(), 0.0), (noise[0] / noise) ** 0.25)
    assert torch.equal(MODULE.rates(torch.zeros(3), torch.zeros(()), 0.0), torch.ones(3))


def test_where_all_are_equally_noisy_or_alpha_is_far_above_it_is_muon_without_nesterov():
    """Which is MARS-M without its correction, on gradients so small that it clips none."""
    alike = [[1e-3 * step[0]] * 3 for step in gradients_of([(16, 16)], steps=6)][:-1]
    apart = [[1e-3 * g for g in step] for step in gradients_of(MATRICES, steps=6)][:-1]
    for gradients, alpha in ((alike, 1e-6), (apart, 1e6)):
        muon = of_entry(MARS, {**VALUES, "gamma": 0.0}, gradients, torch.float64)
        assert furthest_apart(of_entry(LANTON, {**VALUES, "alpha": alpha}, gradients, torch.float64), muon) < 1e-5


def test_two_steps_worked_by_hand():
    """Two matrices of 1 by 1 whose gradients change by 1 and by 4: H is 0.1 and 1.6, with alpha next to nothing the
    second one's rate is sqrt(sqrt(0.1) / sqrt(1.6)) = 0.5 of the first one's; before, both have the whole rate."""
    weights = [torch.nn.Parameter(torch.zeros(1, 1, dtype=torch.float64)) for _ in range(2)]
    values = {"lr": 1.0, "weight_decay": 0.0, "alpha": 1e-9, "orthogonalization": "exact"}
    optimizer = MODULE.build(roles_with(weights), LANTON.hyperparameters(LANTON.values(values)), run_of())
    gradients = [[torch.tensor([[1.0]]), torch.tensor([[1.0]])], [torch.tensor([[2.0]]), torch.tensor([[5.0]])]]
    first, second = displacements(weights, [optimizer], gradients)
    assert [step.item() for step in first] == pytest.approx([-0.2, -0.2])
    assert second[0].item() == pytest.approx(-0.2)
    assert second[1].item() == pytest.approx(-0.1, rel=0.05)  # its nuclear norm is 14 percent off at most


def test_a_layer_s_noise_slows_that_layer_only():
    quiet = gradients_of([(16, 16)] * 3, steps=5)
    noisy = [[a, b, (-1.0) ** t * 50 * c] for t, (a, b, c) in enumerate(quiet)]
    values = {"lr": 1.0, "weight_decay": 0.0, "alpha": 1e-6}
    before, after = (of_entry(LANTON, values, drawn)[-1] for drawn in (quiet[:-1], noisy[:-1]))
    first, second = (a.norm().item() / b.norm().item() for a, b in zip(after[:2], before, strict=False))
    assert first == pytest.approx(second, rel=1e-5) and first >= 1 - 1e-5  # the last one may have been the quietest
    assert after[2].norm() < 0.3 * before[2].norm()


@pytest.mark.parametrize("shape", MATRICES)
def test_state_is_eight_bytes_a_parameter_and_a_number_a_matrix(shape):
    weights = weights_of([shape])
    optimizer = MODULE.build(roles_with(weights), LANTON.hyperparameters(LANTON.values({})), run_of())
    displacements(weights, [optimizer], gradients_of([shape], steps=3))
    assert sum(tensor.nbytes for tensor in state_tensors([optimizer])) == 8 * weights[0].numel() + 4
