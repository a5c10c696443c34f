"""Adam-mini against the authors' own and pytorch_optimizer's on the same gradients, its blocks and its limit.

The authors' code finds a weight's blocks by its name. pytorch_optimizer's is of an earlier version, whose blocks are
ours in queries, keys and gains only, so it is compared on those.
"""

from pathlib import Path

import adam_mini
import pytest
import pytorch_optimizer
import torch
from open_loop import displacements, furthest_apart, gradients_of, of_entry, run_of, weights_of
from torch.nn import Module

from bench.battery.tiny import TINY
from bench.entry import Entry
from bench.facts import state_tensors
from bench.model import build_model
from bench.roles import Matrix, Roles, roles_of

ROOT = Path(__file__).parents[2]
ENTRY = Entry(ROOT / "baselines/adam_mini/adam-mini.toml")
VALUES = {"lr": 0.01, "beta1": 0.9, "beta2": 0.95, "weight_decay": 0.3}
NAMES = ["q_proj", "k_proj", "v_proj", "up_proj.mlp", "down_proj.mlp", "embed", "norm"]
SHAPES = [(16, 16), (16, 16), (16, 16), (24, 16), (16, 24), (20, 16), (16,)]
HEADS = 4


def roles_of_weights(weights):
    hidden = [
        Matrix(w, 0, name, "in", (w.shape[0],), (HEADS,) if name in ("q_proj", "k_proj") else (0,))
        for name, w in zip(NAMES, weights, strict=True) if w.ndim == 2 and name != "embed"
    ]  # fmt: skip
    return Roles(tuple(hidden), (weights[NAMES.index("embed")],), (), (weights[NAMES.index("norm")],))


def ours(values, gradients):
    weights = weights_of(SHAPES)
    return displacements(weights, [built(roles_of_weights(weights), values)], gradients)


def built(roles, values):
    return ENTRY.module().build(roles, ENTRY.hyperparameters(ENTRY.values(values)), run_of())


def test_its_steps_are_those_of_the_authors():
    gradients, weights = gradients_of(SHAPES), weights_of(SHAPES)
    theirs = adam_mini.Adam_mini(
        list(zip(NAMES, weights, strict=True)), lr=0.01, betas=(0.9, 0.95), weight_decay=0.3, dim=16, n_heads=HEADS,
        verbose=False,
    )  # fmt: skip
    assert furthest_apart(ours(VALUES, gradients), displacements(weights, [theirs], gradients)) < 2e-5


def test_its_steps_are_those_of_pytorch_optimizer_s_in_queries_keys_and_gains():
    gradients, weights = gradients_of(SHAPES), weights_of(SHAPES)
    model = Module()
    for name, w in zip(NAMES, weights, strict=True):
        owner = Module()
        owner.weight = w
        model.add_module(name.replace(".", "_"), owner)
    theirs = pytorch_optimizer.AdamMini(
        model, lr=0.01, betas=(0.9, 0.95), weight_decay=0.3, num_embeds=16, num_heads=HEADS, num_query_groups=HEADS
    )
    alike = [NAMES.index(name) for name in ("q_proj", "k_proj", "norm")]
    mine, other = (
        [[step[place] for place in alike] for step in moved]
        for moved in (ours(VALUES, gradients), displacements(weights, [theirs], gradients))
    )
    assert furthest_apart(mine, other) < 2e-5


def test_gradients_of_one_size_in_a_block_make_adamw_s_steps():
    gradients = [[g.sign() * float(t + 1) for g in step] for t, step in enumerate(gradients_of(SHAPES))]
    adamw = of_entry(Entry(ROOT / "baselines/adamw/adamw.toml"), VALUES, gradients)
    assert furthest_apart(ours(VALUES, gradients), adamw) < 2e-5


@pytest.mark.parametrize("fused", [False, True], ids=["llama", "gpt2"])
def test_queries_and_keys_have_a_number_a_head_and_others_one_a_row(fused):
    shape = TINY.model_copy(update={"family": "gpt2"}) if fused else TINY  # width 32, two heads
    roles = roles_of(build_model(shape, 16, seed=0))
    optimizer = built(roles, VALUES)
    for w in roles.all:
        w.grad = torch.ones_like(w)
    optimizer.step()
    counts = {m.part: len(optimizer.state[m.weight]["second_moment"]) for m in roles.hidden if m.layer == 0}
    attention = {"c_attn": 2 + 2 + 32} if fused else {"q_proj": 2, "k_proj": 2, "v_proj": 32, "o_proj": 32}
    assert attention.items() <= counts.items()
    assert [len(optimizer.state[w]["second_moment"]) for w in roles.vectors] == [1] * len(roles.vectors)
    numbers = sum(len(optimizer.state[w]["second_moment"]) for w in roles.all)
    assert sum(t.nbytes for t in state_tensors([optimizer])) == 4 * (sum(w.numel() for w in roles.all) + numbers)
