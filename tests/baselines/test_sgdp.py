"""SGDP against the authors' own and pytorch_optimizer's on the same gradients.

The authors' momentum starts with the whole first gradient, as ours from zero does. Without Nesterov's form it is
written over by the projection (see `deviations`), so theirs is compared until the step after one; pytorch_optimizer
keeps it, as ours does.
"""

from pathlib import Path

import adamp
import pytest
import pytorch_optimizer
import torch
from open_loop import LINE, MATRICES, furthest_apart, gradients_of, of_entry, of_library, weights_of

from bench.entry import Entry

ROOT = Path(__file__).parents[2]
ENTRY = Entry(ROOT / "baselines/sgdp/sgdp.toml")
SHAPES = [*MATRICES, LINE]
VALUES = {"lr": 1e-3, "momentum": 0.9, "weight_decay": 0.3}
LIBRARIES = {"adamp": (adamp.SGDP, 4), "pytorch_optimizer": (pytorch_optimizer.SGDP, 8)}  # steps that are compared


def the_fourth_perpendicular(steps=8):
    """Gradients of which the fourth are perpendicular to the first weights, row by row."""
    gradients = gradients_of(SHAPES, steps)
    for place, w in enumerate(weights_of(SHAPES)):
        if w.ndim == 2:
            w, fourth = w.detach(), gradients[3][place]
            fourth -= (fourth * w).sum(1, keepdim=True) / w.square().sum(1, keepdim=True) * w
    return gradients


@pytest.mark.parametrize("library", LIBRARIES)
def test_its_steps_are_those_of_a_library_s(library):
    made, steps = LIBRARIES[library]

    def make(weights):
        groups = [
            {"params": [w for w in weights if w.ndim == 2], "weight_decay": 0.3},
            {"params": [w for w in weights if w.ndim == 1], "weight_decay": 0.0},
        ]
        return made(groups, lr=1e-3, momentum=0.9)

    gradients = the_fourth_perpendicular()
    if steps == 4:
        gradients[2] = gradients[1]  # gradients of zero are perpendicular too
    mine = of_entry(ENTRY, VALUES, gradients, torch.float64)
    theirs = of_library(make, gradients, torch.float64)
    assert furthest_apart(mine[:steps], theirs[:steps]) < 1e-9
    sgd = of_entry(Entry(ROOT / "baselines/sgd/sgd.toml"), {**VALUES, "weight_decay": 3.0}, gradients, torch.float64)
    assert furthest_apart(mine[3:4], sgd[3:4]) > 1e-2, "some steps lost their part along the weight"
    if steps == 4:
        assert furthest_apart(mine[4:], theirs[4:]) > 1e-4, "the authors' momentum lost it too"


def test_where_gradients_are_along_the_weights_it_is_sgd_at_a_tenfold_decay():
    gradients = [[w.detach() + 0.1 * g for w, g in zip(weights_of(SHAPES), step, strict=True)]
                 for step in gradients_of(SHAPES, 4)]  # fmt: skip
    sgd = of_entry(Entry(ROOT / "baselines/sgd/sgd.toml"), {**VALUES, "weight_decay": 3.0}, gradients)
    assert furthest_apart(of_entry(ENTRY, VALUES, gradients), sgd) < 1e-4
