"""Schedule-Free AdamW against the authors' own, pytorch_optimizer's and heavyball's, and the average it stands for.

The libraries warm up by themselves, step t at t / warm-up of the rate (heavyball at t / (warm-up + 1)); ours reads the
rate that the harness's warm-up leaves in its groups. heavyball takes the larger of sqrt(v) and eps where the others add
them, so eps is next to nothing here. The authors' AdamWScheduleFreePaper has the paper's bias correction, which is
another (see `deviations`).
"""

from pathlib import Path

import heavyball
import pytest
import pytorch_optimizer
import schedulefree
import torch
from open_loop import LINE, MATRICES, displacements, furthest_apart, gradients_of, of_library, roles_with, run_of
from open_loop import weights_of as fresh

from bench.entry import Entry

ENTRY = Entry(Path(__file__).parents[2] / "baselines/schedule_free_adamw/schedule-free-adamw.toml")
VALUES = {"lr": 0.01, "beta1": 0.9, "beta2": 0.95, "eps": 1e-20, "weight_decay": 0.3}
SHAPES, WARMUP = [*MATRICES, LINE], 4
heavyball.utils.compile_mode = None  # plain kernels: compiling takes longer than the test

LIBRARIES = {
    "schedulefree": schedulefree.AdamWScheduleFree,
    "pytorch_optimizer": pytorch_optimizer.ScheduleFreeAdamW,
    "heavyball": heavyball.SFAdamW,
}


class Warmed:
    """The entry's optimizer under a linear warm-up, as the harness gives it; notes its z and its rates."""

    def __init__(self, weights, values):
        hp = ENTRY.hyperparameters(ENTRY.values(values))
        self.weights, self.lr, self.rates, self.zs = weights, hp.lr, [], []
        self.optimizer = ENTRY.module().build(roles_with(weights), hp, run_of())

    def step(self):
        self.rates.append(self.lr * min(1.0, (len(self.rates) + 1) / WARMUP))
        for group in self.optimizer.param_groups:
            group["lr"] = self.rates[-1]
        self.optimizer.step()
        self.zs.append([self.optimizer.state[w]["z"].clone() for w in self.weights])


def stepped(weights, values, gradients):
    warmed = Warmed(weights, values)
    return warmed, displacements(weights, [warmed], gradients)


@pytest.mark.parametrize("library", LIBRARIES)
def test_its_steps_are_those_of_a_library_s(library):
    def make(weights):
        groups = [
            {"params": [w for w in weights if w.ndim == 2], "weight_decay": 0.3},
            {"params": [w for w in weights if w.ndim == 1], "weight_decay": 0.0},
        ]
        warmup = WARMUP - (library == "heavyball")
        made = LIBRARIES[library](groups, lr=0.01, betas=(0.9, 0.95), eps=1e-20, warmup_steps=warmup)
        made.train()
        return made

    gradients = gradients_of(SHAPES)
    _, mine = stepped(fresh(SHAPES), VALUES, gradients)
    assert furthest_apart(mine, of_library(make, gradients)) < 2e-5


def test_what_is_evaluated_is_the_mean_of_all_z_by_the_square_of_their_rates():
    weights = fresh(SHAPES, torch.float64)
    warmed, _ = stepped(weights, VALUES, gradients_of(SHAPES))
    with ENTRY.module().evaluation_weights([warmed.optimizer]):
        for place, x in enumerate(weights):
            mean = sum(rate**2 * z[place] for rate, z in zip(warmed.rates, warmed.zs, strict=True))
            torch.testing.assert_close(x.detach(), mean / sum(rate**2 for rate in warmed.rates), rtol=1e-10, atol=1e-12)


def test_before_the_first_step_it_evaluates_the_weights_themselves():
    weights = fresh(SHAPES)
    before = [w.detach().clone() for w in weights]
    warmed = Warmed(weights, VALUES)
    with ENTRY.module().evaluation_weights([warmed.optimizer]):
        assert all(torch.equal(w, old) for w, old in zip(weights, before, strict=True))
    assert not warmed.optimizer.state, "looking leaves no state behind"


def test_the_first_step_moves_every_coordinate_by_the_rate():
    _, (moved,) = stepped(fresh(SHAPES), {**VALUES, "weight_decay": 0.0}, gradients_of(SHAPES, steps=1))
    for displacement in moved:  # c is 1, so y is the new z, and |g| / sqrt(g^2) is 1
        torch.testing.assert_close(displacement.abs(), torch.full_like(displacement, 0.01 / WARMUP), rtol=1e-4, atol=0)
