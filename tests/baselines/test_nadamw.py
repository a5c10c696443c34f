"""NAdamW, which is torch's by foreach kernels, against torch's plain one and heavyball's on the same gradients.

pytorch_optimizer's NAdam is torch's own class. heavyball takes the larger of sqrt(v) and eps where torch adds them, so
eps is next to nothing against it.
"""

from pathlib import Path

import heavyball
import pytest
import torch
from open_loop import LINE, MATRICES, furthest_apart, gradients_of, of_entry, of_library, roles_with, run_of
from torch.nn import Parameter

from bench.entry import Entry

ENTRY = Entry(Path(__file__).parents[2] / "baselines/nadamw/nadamw.toml")
heavyball.utils.compile_mode = None  # plain kernels: compiling takes longer than the test

SETTINGS = {"lr": 0.01, "betas": (0.9, 0.95), "momentum_decay": 4e-3, "decoupled_weight_decay": True}
LIBRARIES = {
    "torch": (1e-8, lambda groups: torch.optim.NAdam(groups, foreach=False, **SETTINGS)),
    "heavyball": (1e-20, lambda groups: heavyball.NAdam(groups, eps=1e-20, **SETTINGS)),
}


@pytest.mark.parametrize("library", LIBRARIES)
def test_its_steps_are_those_of_a_library_s(library):
    eps, made = LIBRARIES[library]

    def make(weights):
        return made([
            {"params": [w for w in weights if w.ndim == 2], "weight_decay": 0.3},
            {"params": [w for w in weights if w.ndim == 1], "weight_decay": 0.0},
        ])  # fmt: skip

    gradients = gradients_of([*MATRICES, LINE])
    mine = of_entry(ENTRY, {"lr": 0.01, "beta1": 0.9, "beta2": 0.95, "eps": eps, "weight_decay": 0.3}, gradients)
    assert furthest_apart(mine, of_library(make, gradients)) < 2e-5


def test_a_first_step_worked_by_hand():
    w = Parameter(torch.tensor([[1.0, 1.0]], dtype=torch.float64))
    values = {"lr": 0.1, "beta1": 0.8, "beta2": 0.5, "momentum_decay": 1.0, "eps": 0.0, "weight_decay": 0.5}
    optimizer = ENTRY.module().build(roles_with([w]), ENTRY.hyperparameters(ENTRY.values(values)), run_of())
    w.grad = torch.tensor([[3.0, -2.0]], dtype=torch.float64)
    optimizer.step()
    now, ahead = 0.8 * (1 - 0.5 * 0.96), 0.8 * (1 - 0.5 * 0.96**2)  # mu_1, mu_2
    size = ahead * 0.2 / (1 - now * ahead) + (1 - now) / (1 - now)  # of |g|, which sqrt(v) is after its correction
    torch.testing.assert_close(w.detach(), torch.tensor([[0.95 - 0.1 * size, 0.95 + 0.1 * size]], dtype=torch.float64))
