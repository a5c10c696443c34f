"""Cautious AdamW against heavyball's flag and pytorch_optimizer's on the same gradients, and what its mask keeps.

heavyball's AdamW with `caution` keeps what has the gradient's sign, a zero's sign being positive, and bounds the number
kept by 1 where the authors bound the share by 1e-3: no gradients of zero here. It takes the larger of sqrt(v) and eps,
which is next to nothing. pytorch_optimizer has the flag in AdEMAMix, which without slow momentum is Adam, and scales by
the number of entries over one more than are kept, which is undone here.
"""

from pathlib import Path

import heavyball
import pytest
import pytorch_optimizer
import torch
from open_loop import LINE, MATRICES, furthest_apart, gradients_of, of_entry, of_library, roles_with, run_of
from torch.nn import Parameter

from bench.entry import Entry
from bench.linalg.caution import cautious

ROOT = Path(__file__).parents[2]
ENTRY = Entry(ROOT / "baselines/cautious_adamw/cautious-adamw.toml")
SHAPES = [*MATRICES, LINE]
VALUES = {"lr": 0.01, "beta1": 0.9, "beta2": 0.95, "eps": 1e-20, "weight_decay": 0.0}
heavyball.utils.compile_mode = None  # plain kernels: compiling takes longer than the test


def without_zeros():
    gradients = gradients_of(SHAPES)
    return [*gradients[:2], *gradients[3:]]


def test_its_steps_are_those_of_heavyball_s():
    def make(weights):
        groups = [
            {"params": [w for w in weights if w.ndim == 2], "weight_decay": 0.3},
            {"params": [w for w in weights if w.ndim == 1], "weight_decay": 0.0},
        ]
        return heavyball.AdamW(groups, lr=0.01, betas=(0.9, 0.95), eps=1e-20, caution=True)

    mine = of_entry(ENTRY, {**VALUES, "weight_decay": 0.3}, without_zeros())
    assert furthest_apart(mine, of_library(make, without_zeros())) < 2e-5


def test_its_steps_are_those_of_pytorch_optimizer_s_but_for_their_scale():
    def make(weights):
        return pytorch_optimizer.AdEMAMix(weights, lr=0.01, betas=(0.9, 0.95, 0.9), alpha=0.0, eps=1e-20, cautious=True)

    theirs = of_library(make, without_zeros())
    scaled = [[d * (1 + 1 / d.count_nonzero()) for d in step] for step in theirs]
    assert furthest_apart(of_entry(ENTRY, VALUES, without_zeros()), scaled) < 2e-5


def test_where_every_step_has_the_gradient_s_sign_it_is_adamw():
    gradients = [[g.abs() for g in step] for step in without_zeros()]
    values = {**VALUES, "eps": 1e-8, "weight_decay": 0.3}
    adamw = of_entry(Entry(ROOT / "baselines/adamw/adamw.toml"), values, gradients)
    assert furthest_apart(of_entry(ENTRY, values, gradients), adamw) < 1e-5


def test_what_is_kept_makes_up_for_what_is_not():
    steps, gradients = torch.tensor([[1.0, 2.0, -3.0, 4.0]]), torch.tensor([[1.0, -1.0, -1.0, 0.0]])
    assert cautious([steps], [gradients])[0].tolist() == [[2.0, 0.0, -6.0, 0.0]]
    many = torch.ones(1, 10_000)
    one = torch.zeros(1, 10_000).index_fill(1, torch.tensor([7]), 1.0)
    assert cautious([many], [one])[0].max().item() == pytest.approx(1000), "a share counts as 1e-3 at least"
    assert not cautious([many], [-many])[0].any()


def test_a_step_worked_by_hand():
    w = Parameter(torch.tensor([[1.0, 1.0]]))
    values = {**VALUES, "lr": 0.1, "weight_decay": 0.5}
    optimizer = ENTRY.module().build(roles_with([w]), ENTRY.hyperparameters(ENTRY.values(values)), run_of())
    optimizer.state[w]["first_moment"] = torch.tensor([[2.0, 2.0]])
    optimizer.state[w]["second_moment"] = torch.tensor([[1.0, 1.0]])
    w.grad = torch.tensor([[1.0, -1.0]])
    optimizer.step()
    # m = 0.9 2 + 0.1 g = (1.9, 1.7) over 1 - 0.9, v = 1 over 1 - 0.95; the second goes against its gradient
    torch.testing.assert_close(w.detach(), torch.tensor([[0.95 - 0.1 * 2 * 19 / 20**0.5, 0.95]]))
