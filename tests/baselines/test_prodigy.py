"""Prodigy against the authors' own and pytorch_optimizer's on the same gradients, and its limit.

Both with bias correction and the safeguard for warm-ups. The authors' code takes the d after the step into eps, and a
step's numbers in fp32: eps is next to nothing here. pytorch_optimizer keeps d's numerator in fp32. d grows from a large
d0, since gradients at random go nowhere.
"""

from pathlib import Path

import prodigyopt
import pytest
import pytorch_optimizer
from open_loop import (
    LINE,
    MATRICES,
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

ROOT = Path(__file__).parents[2]
ENTRY = Entry(ROOT / "baselines/prodigy/prodigy.toml")
SHAPES = [*MATRICES, LINE]
VALUES = {"beta2": 0.99, "d0": 1e-3, "eps": 1e-20, "weight_decay": 0.3}
SETTINGS = {"betas": (0.9, 0.99), "d0": 1e-3, "eps": 1e-20, "safeguard_warmup": True}
LIBRARIES = {
    "prodigyopt": lambda groups: prodigyopt.Prodigy(groups, use_bias_correction=True, decouple=True, **SETTINGS),
    "pytorch_optimizer": lambda groups: pytorch_optimizer.Prodigy(groups, bias_correction=True, **SETTINGS),
}


def steady(steps=24):
    """Gradients that lean to one side, so that the distance to go is seen to grow."""
    gradients = gradients_of(SHAPES, steps)
    return [[g + 0.5 * first for g, first in zip(step, gradients[0], strict=True)] for step in gradients[:-1]]


@pytest.mark.parametrize("library", LIBRARIES)
def test_its_steps_are_those_of_a_library_s(library):
    made = []

    def make(weights):
        made.append(LIBRARIES[library]([
            {"params": [w for w in weights if w.ndim == 2], "weight_decay": 0.3},
            {"params": [w for w in weights if w.ndim == 1], "weight_decay": 0.0},
        ]))  # fmt: skip
        return made[0]

    gradients = steady()
    weights = weights_of(SHAPES)
    mine = ENTRY.module().build(roles_with(weights), ENTRY.hyperparameters(ENTRY.values(VALUES)), run_of())
    moved = displacements(weights, [mine], gradients)
    assert furthest_apart(moved, of_library(make, gradients)) < 1e-3
    found = [optimizer.param_groups[0]["d"] for optimizer in (mine, made[0])]
    assert found[0] > 2e-3, "it grew"
    assert found[0] == pytest.approx(found[1], rel=1e-4)


def test_where_d_is_beyond_all_distances_it_is_adam_at_lr_times_d():
    values = {"beta2": 0.95, "weight_decay": 0.0}
    gradients = gradients_of(SHAPES)
    adam = of_entry(Entry(ROOT / "baselines/adamw/adamw.toml"), {**values, "lr": 1e-2}, gradients)
    assert furthest_apart(of_entry(ENTRY, {**values, "d0": 10.0, "lr": 1e-3}, gradients), adam) < 2e-5


def test_all_weights_share_one_d_and_a_checkpoint_has_it():
    weights = weights_of(SHAPES)
    optimizer = ENTRY.module().build(roles_with(weights), ENTRY.hyperparameters(ENTRY.values(VALUES)), run_of())
    displacements(weights, [optimizer], steady())
    first, second = (group["d"] for group in optimizer.state_dict()["param_groups"])
    assert first == second > VALUES["d0"]


def test_a_d0_of_zero_is_refused():
    with pytest.raises(Exception, match=r"d0 is 0\.0, expected more than 0"):
        ENTRY.hyperparameters(ENTRY.values({"d0": 0.0}))
