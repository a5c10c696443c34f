"""AdamP against the authors' own and pytorch_optimizer's on the same gradients.

Random gradients are perpendicular to weights by chance only, so some here are made so, row by row and as a whole, as
those of weights are whose scale is without effect. pytorch_optimizer multiplies a root with eps by the correction of v,
where the authors' corrects it first, and leaves out the correction of m unless asked: eps is next to nothing here.
"""

from pathlib import Path

import adamp
import pytest
import pytorch_optimizer
import torch
from open_loop import LINE, MATRICES, furthest_apart, gradients_of, of_entry, of_library, weights_of

from bench.entry import Entry

ROOT = Path(__file__).parents[2]
ENTRY = Entry(ROOT / "baselines/adamp/adamp.toml")
SHAPES = [*MATRICES, LINE]
VALUES = {"lr": 1e-3, "beta1": 0.9, "beta2": 0.95, "eps": 1e-20, "weight_decay": 0.3}

SETTINGS = {"lr": 1e-3, "betas": (0.9, 0.95), "eps": 1e-20}
LIBRARIES = {"adamp": adamp.AdamP, "pytorch_optimizer": pytorch_optimizer.AdamP}


def some_perpendicular(steps=8):
    """Gradients of which the second are perpendicular to the first weights as a whole, the third row by row."""
    gradients = gradients_of(SHAPES, steps)
    for place, w in enumerate(weights_of(SHAPES)):
        if w.ndim == 2:
            w, (_, second, third, *_) = w.detach(), (step[place] for step in gradients)
            second -= (second * w).sum() / w.square().sum() * w
            third.normal_(generator=torch.Generator().manual_seed(place))
            third -= (third * w).sum(1, keepdim=True) / w.square().sum(1, keepdim=True) * w
    return gradients


@pytest.mark.parametrize("library", LIBRARIES)
def test_its_steps_are_those_of_a_library_s(library):
    def make(weights):
        groups = [
            {"params": [w for w in weights if w.ndim == 2], "weight_decay": 0.3},
            {"params": [w for w in weights if w.ndim == 1], "weight_decay": 0.0},
        ]
        extra = {"adam_debias": False} if library == "pytorch_optimizer" else {}
        return LIBRARIES[library](groups, **SETTINGS, **extra)

    gradients = some_perpendicular()
    mine = of_entry(ENTRY, VALUES, gradients, torch.float64)
    assert furthest_apart(mine, of_library(make, gradients, torch.float64)) < 1e-6
    adamw = of_entry(Entry(ROOT / "baselines/adamw/adamw.toml"), VALUES, gradients, torch.float64)
    assert furthest_apart(mine[1:3], adamw[1:3]) > 1e-2, "some steps lost their part along the weight"


def test_where_gradients_are_along_the_weights_it_is_adamw():
    values = {**VALUES, "eps": 1e-8}
    gradients = [[w.detach() + 0.1 * g for w, g in zip(weights_of(SHAPES), step, strict=True)]
                 for step in gradients_of(SHAPES, 4)]  # fmt: skip
    adamw = of_entry(Entry(ROOT / "baselines/adamw/adamw.toml"), values, gradients)
    assert furthest_apart(of_entry(ENTRY, values, gradients), adamw) < 1e-4
