"""Sophia-G against a transcription of Algorithm 3 in float64, which has no library, and at its two ends."""

from pathlib import Path

import numpy as np
import torch
from asked import by_weight, double, furthest, of_asking
from open_loop import LINE, MATRICES, gradients_of, weights_of

from bench.entry import Entry

ENTRY = Entry(Path(__file__).parents[2] / "baselines/sophia/sophia-g.toml")
SHAPES, TOKENS = [*MATRICES, LINE], 100  # of a batch, as open_loop.run_of says
SAMPLED = gradients_of(SHAPES, seed=5)
V = {"lr": 0.01, "beta1": 0.965, "beta2": 0.99, "rho": 0.04, "hessian_frequency": 3, "weight_decay": 0.2}


def transcribed(gradients: list[list], sampled: list[list], v: dict) -> list[list]:
    """Algorithm 3 with the estimator of Algorithm 2, one weight after the other."""
    moved = [[None] * len(SHAPES) for _ in gradients]
    for i, start in enumerate(weights_of(SHAPES)):
        w = start.detach().double().numpy()
        m, h = np.zeros_like(w), np.zeros_like(w)
        for t, g in enumerate(gradients, start=1):
            m = v["beta1"] * m + (1 - v["beta1"]) * g[i]
            if t % v["hessian_frequency"] == 1:
                h = v["beta2"] * h + (1 - v["beta2"]) * TOKENS * sampled[t - 1][i] ** 2
            decayed = w - v["lr"] * (v["weight_decay"] if w.ndim == 2 else 0.0) * w
            step = np.sign(m) * np.minimum(np.abs(m) / (v["rho"] * h + 1e-15), 1.0)
            w, before = decayed - v["lr"] * step, w
            moved[t - 1][i] = w - before
    return moved


def test_its_steps_are_those_of_the_algorithm_written_out():
    gradients = gradients_of(SHAPES)
    mine, probe = of_asking(ENTRY, V, gradients, {"sampled_gradient": by_weight(SAMPLED)})
    assert furthest(mine, transcribed(double(gradients), double(SAMPLED), V)) < 2e-5
    assert [step for step, _ in probe.asked] == [0, 3, 6, 9], "curvature is looked at every third step, from the first"


def test_some_coordinates_are_clipped_and_some_are_not():
    gradients = gradients_of(SHAPES)
    mine, _ = of_asking(ENTRY, {**V, "weight_decay": 0.0}, gradients, {"sampled_gradient": by_weight(SAMPLED)})
    clipped = torch.cat([d.flatten().abs() > 0.999 * V["lr"] for d in mine[5]]).float().mean()
    assert 0.05 < clipped < 0.95


def test_without_curvature_it_is_the_sign_of_the_momentum():
    gradients = gradients_of(SHAPES, steps=4)
    none = [[torch.zeros_like(g) for g in step] for step in gradients]
    mine, _ = of_asking(ENTRY, {**V, "weight_decay": 0.0}, gradients, {"sampled_gradient": by_weight(none)})
    momenta = [torch.zeros_like(g) for g in gradients[0]]
    for step, moved in zip(gradients, mine, strict=True):
        momenta = [V["beta1"] * m + (1 - V["beta1"]) * g for m, g in zip(momenta, step, strict=True)]
        for m, d in zip(momenta, moved, strict=True):
            torch.testing.assert_close(d, -V["lr"] * m.sign(), rtol=1e-4, atol=1e-6)


def test_much_curvature_makes_newton_s_step():
    """In float64: beside a weight in fp32 such a step is a few roundings long."""
    gradients = gradients_of(SHAPES, steps=2)
    much = [[torch.full_like(g, 30.0, dtype=torch.float64) for g in step] for step in gradients]
    values, answers = {**V, "weight_decay": 0.0}, {"sampled_gradient": by_weight(much)}
    mine, _ = of_asking(ENTRY, values, gradients, answers, dtype=torch.float64)
    curvature = (1 - V["beta2"]) * TOKENS * 30.0**2
    for g, d in zip(gradients[0], mine[0], strict=True):
        newton = -V["lr"] * (1 - V["beta1"]) * g.double() / (V["rho"] * curvature)
        torch.testing.assert_close(d, newton, rtol=1e-6, atol=1e-14)
