"""MARS with both gradients on one batch, against a transcription in float64, and against its approximate form."""

from pathlib import Path

import numpy as np
import torch
from asked import by_weight, double, furthest, of_asking
from open_loop import LINE, MATRICES, furthest_apart, gradients_of, of_entry, weights_of

from bench.entry import Entry

FOLDER = Path(__file__).parents[2] / "baselines"
EXACT, APPROXIMATE = Entry(FOLDER / "mars_exact/mars-exact.toml"), Entry(FOLDER / "mars/mars-adamw.toml")
SHAPES = [*MATRICES, LINE]
SMALL = [[0.05 * g for g in step] for step in gradients_of(SHAPES)]
THERE = [[0.05 * g for g in step] for step in gradients_of(SHAPES, seed=7)]
V = {"lr": 0.01, "weight_decay": 0.3}


def transcribed(gradients: list[list], there: list[list], v: dict) -> list[list]:
    """Algorithm 1, Adam's moments, one weight after the other; gains and biases have AdamW."""
    moved = [[None] * len(SHAPES) for _ in gradients]
    for i, start in enumerate(weights_of(SHAPES)):
        w = start.detach().double().numpy()
        line = w.ndim == 1
        lr, b1, b2 = (0.5 * v["lr"], 0.9, 0.95) if line else (v["lr"], 0.95, 0.99)
        m, s = np.zeros_like(w), np.zeros_like(w)
        for t, step in enumerate(gradients, start=1):
            c = g = step[i]
            if not line:
                c = g + 0.025 * b1 / (1 - b1) * (g - (there[t - 1][i] if t > 1 else g))
                c = c / max(1.0, np.linalg.norm(c))
            m, s = b1 * m + (1 - b1) * c, b2 * s + (1 - b2) * c**2
            update = (m / (1 - b1**t)) / (np.sqrt(s / (1 - b2**t)) + 1e-8) + (0.0 if line else v["weight_decay"]) * w
            w, moved[t - 1][i] = w - lr * update, -lr * update
    return moved


def test_its_steps_are_those_of_the_algorithm_written_out():
    mine, _ = of_asking(EXACT, V, SMALL, {"gradient": by_weight(THERE)})
    assert furthest(mine, transcribed(double(SMALL), double(THERE), V)) < 5e-5


def test_the_other_gradient_is_asked_for_at_the_weights_before_the_last_step():
    mine, probe = of_asking(EXACT, V, SMALL, {"gradient": by_weight(THERE)})
    assert probe.asked == [(step, "gradient") for step in range(1, len(SMALL))]
    weights = [w.detach() for w in weights_of(SHAPES)]
    for at, moved in zip(probe.at, mine, strict=False):  # at step 1 the weights of step 0, ...
        for kept, w in zip(at.values(), weights, strict=True):
            torch.testing.assert_close(kept, w, rtol=1e-5, atol=1e-6)
        weights = [w + d for w, d in zip(weights, moved, strict=True)]


def test_given_the_gradient_of_the_batch_before_it_is_the_approximate_form():
    """Which starts from zero: so from a first gradient of zeros, as ours then has it."""
    gradients = [[torch.zeros_like(g) for g in SMALL[0]], *SMALL]
    before = [gradients[0], *gradients]
    mine, _ = of_asking(EXACT, V, gradients, {"gradient": by_weight(before)})
    assert furthest_apart(mine, of_entry(APPROXIMATE, V, gradients)) < 1e-6
