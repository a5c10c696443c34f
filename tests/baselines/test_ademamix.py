"""AdEMAMix against pytorch_optimizer's and heavyball's on the same gradients, and its limits.

Both warm alpha and beta3 up over the run's steps, as ours does. heavyball adds 1e-8 to betas under the logarithm of a
half-life, as the authors' code does, and takes the larger of sqrt(v) and eps, which is next to nothing here.
"""

from itertools import pairwise
from pathlib import Path

import heavyball
import pytest
import pytorch_optimizer
import torch
from open_loop import LINE, MATRICES, STEPS, furthest_apart, gradients_of, of_entry, of_library

from bench.entry import Entry
from bench.errors import BenchError

ROOT = Path(__file__).parents[2]
ENTRY = Entry(ROOT / "baselines/ademamix/ademamix.toml")
SHAPES = [*MATRICES, LINE]
VALUES = {"lr": 0.01, "weight_decay": 0.3, "eps": 1e-20, "slow_time_constant": 1000}
heavyball.utils.compile_mode = None  # plain kernels: compiling takes longer than the test

SETTINGS = {"lr": 0.01, "betas": (0.9, 0.999, 0.999), "alpha": 8.0, "eps": 1e-20}
LIBRARIES = {
    "pytorch_optimizer": lambda groups: pytorch_optimizer.AdEMAMix(
        groups, t_alpha_beta3=STEPS, weight_decouple=True, **SETTINGS
    ),
    "heavyball": lambda groups: heavyball.AdEMAMix(groups, beta3_warmup=STEPS, alpha_warmup=STEPS, **SETTINGS),
}


@pytest.mark.parametrize("library", LIBRARIES)
def test_its_steps_are_those_of_a_library_s(library):
    def make(weights):
        return LIBRARIES[library]([
            {"params": [w for w in weights if w.ndim == 2], "weight_decay": 0.3},
            {"params": [w for w in weights if w.ndim == 1], "weight_decay": 0.0},
        ])  # fmt: skip

    gradients = gradients_of(SHAPES)
    assert furthest_apart(of_entry(ENTRY, VALUES, gradients), of_library(make, gradients)) < 2e-5


def test_without_its_slow_momentum_it_is_adamw():
    values = {"lr": 0.01, "weight_decay": 0.3, "beta2": 0.999}
    gradients = gradients_of(SHAPES)
    adamw = of_entry(Entry(ROOT / "baselines/adamw/adamw.toml"), values, gradients)
    assert furthest_apart(of_entry(ENTRY, {**values, "alpha": 0.0}, gradients), adamw) < 1e-5


def test_the_slow_momentum_s_half_life_grows_in_a_straight_line():
    slowing = ENTRY.module().slowing
    assert slowing(0.9, 0.999, 0.0) == pytest.approx(0.9)
    assert slowing(0.9, 0.999, 1.0) == pytest.approx(0.999)
    lives = [torch.tensor(0.5).log() / torch.tensor(slowing(0.9, 0.999, part / 4)).log() for part in range(5)]
    for before, after in pairwise(lives):
        assert float(after - before) == pytest.approx(float(lives[4] - lives[0]) / 4, rel=1e-3)


@pytest.mark.parametrize(("name", "value"), [("beta1", 0.0), ("slow_time_constant", 1.0)])
def test_a_momentum_without_a_half_life_is_refused(name, value):
    with pytest.raises(BenchError, match=rf"{name} is {value:g}(\.0)?, expected more"):
        ENTRY.hyperparameters(ENTRY.values({name: value}))
