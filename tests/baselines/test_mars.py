"""MARS-AdamW against pytorch_optimizer's and heavyball's on the same gradients, without its correction, and by hand.

pytorch_optimizer's has the authors' code's dialect, which is ours: the gradient before is zero at first, and gains and
biases (1-D) have AdamW at `lr_1d` and `betas_1d`. It adds 1e-15 to v under the root, so gradients here have no entries
near zero. heavyball's `mars` flag clips nothing, so gradients stay small against it; 3.2.1 hands gamma and beta1 to its
correction in each other's place, so that it takes beta1 gamma / (1 - gamma) of g - g' and is given another gamma; it
takes the larger of sqrt(v) and eps, so eps is next to nothing.
"""

from pathlib import Path

import heavyball
import pytorch_optimizer
import torch
from open_loop import LINE, MATRICES, furthest_apart, gradients_of, of_entry, of_library, roles_with, run_of
from torch.nn import Parameter

from bench.entry import Entry

ROOT = Path(__file__).parents[2]
ENTRY = Entry(ROOT / "baselines/mars/mars-adamw.toml")
SHAPES = [*MATRICES, LINE]
heavyball.utils.compile_mode = None  # plain kernels: compiling takes longer than the test


def test_its_steps_are_those_of_pytorch_optimizer_s():
    def make(weights):
        return pytorch_optimizer.MARS(
            weights, lr=0.01, betas=(0.95, 0.99), gamma=0.025, weight_decay=0.3, lr_1d=0.005, betas_1d=(0.9, 0.95),
            weight_decay_1d=0.0,
        )  # fmt: skip

    gradients = [[0.03 * (g + g.sign()) for g in step] for step in gradients_of(SHAPES)]
    assert {bool(g.norm() > 1) for step in gradients for g in step[:-1]} == {True, False}, "some are clipped, some not"
    mine = of_entry(ENTRY, {"lr": 0.01, "weight_decay": 0.3}, gradients)
    assert furthest_apart(mine, of_library(make, gradients)) < 1e-5


def test_its_steps_are_those_of_heavyball_s_where_nothing_is_clipped():
    factor = 0.025 * 0.95 / 0.05

    def make(weights):
        settings = {"lr": 0.01, "betas": (0.95, 0.99), "eps": 1e-20, "weight_decay": 0.3}
        return heavyball.AdamW(weights, mars=True, mars_gamma=factor / (0.95 + factor), **settings)

    gradients = [[1e-2 * g for g in step] for step in gradients_of(MATRICES)][:-1]
    mine = of_entry(ENTRY, {"lr": 0.01, "weight_decay": 0.3, "eps": 1e-20}, gradients)
    assert furthest_apart(mine, of_library(make, gradients)) < 2e-5


def test_without_correction_small_gradients_make_adamw_s_steps():
    gradients = [[1e-4 * g for g in step] for step in gradients_of(SHAPES)]  # the last ones are a thousand times larger
    values = {"lr": 0.01, "beta1": 0.95, "beta2": 0.99, "weight_decay": 0.3}
    mars = of_entry(ENTRY, {**values, "gamma": 0.0, "vector_beta1": 0.95, "vector_beta2": 0.99,
                            "vector_lr_factor": 1.0}, gradients)  # fmt: skip
    adamw = of_entry(Entry(ROOT / "baselines/adamw/adamw.toml"), values, gradients)
    assert max(float(g.norm()) for step in gradients for g in step) < 3
    assert furthest_apart(mars[:-1], adamw[:-1]) < 1e-5


def test_two_steps_worked_by_hand():
    w = Parameter(torch.tensor([[1.0, 1.0]], dtype=torch.float64))
    values = {"lr": 0.1, "beta1": 0.5, "beta2": 0.5, "gamma": 1.0, "eps": 0.0, "weight_decay": 0.0}
    optimizer = ENTRY.module().build(roles_with([w]), ENTRY.hyperparameters(ENTRY.values(values)), run_of())
    w.grad = torch.tensor([[3.0, 4.0]], dtype=torch.float64)
    optimizer.step()
    # c = (6, 8), over its norm of 10; m = c / 2 and v = c^2 / 2 leave the signs after the corrections
    torch.testing.assert_close(w.detach(), torch.tensor([[0.9, 0.9]], dtype=torch.float64))
    w.grad = torch.tensor([[1.4, 2.0]], dtype=torch.float64)
    optimizer.step()
    # c = (1.4 - 1.6, 2 - 2) = (-0.2, 0), below 1; m = (0.3, 0.4) / 2 + c / 2 = (0.05, 0.2), v = (0.09, 0.16) + c^2 / 2
    m = torch.tensor([[0.05, 0.2]], dtype=torch.float64) / 0.75
    v = torch.tensor([[0.09 + 0.02, 0.16]], dtype=torch.float64) / 0.75
    torch.testing.assert_close(w.detach(), 0.9 - 0.1 * m / v.sqrt())
