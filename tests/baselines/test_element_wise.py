"""What every element-wise method keeps: it knows coordinates, not matrices, and state of a weight's own shape."""

from pathlib import Path

import pytest
import torch
from open_loop import LINE, MATRICES, SQUARE, TALL, gradients_of, of_entry, roles_with, run_of, weights_of

from bench.entry import Entry
from bench.facts import state_tensors

BYTES = {
    "adamp": 8, "adamw": 8, "adan": 16, "ademamix": 12, "cautious-adamw": 8, "diffgrad": 12, "lion": 4,
    "mars-adamw": 12, "nadamw": 8, "prodigy": 16, "schedule-free-adamw": 8, "sgd": 4, "sgdp": 4, "signum": 4,
}  # fmt: skip
BLIND = [name for name in BYTES if name not in ("adamp", "sgdp")]  # to how gradients lie to the weights
EPS_FREE = ("adamw", "adan", "ademamix", "cautious-adamw", "nadamw", "schedule-free-adamw")
SCALE_FREE = {"lion": {}, "signum": {}} | {name: {"eps": 0.0} for name in EPS_FREE}
SHAPES = [*MATRICES, LINE]


def entry_named(name: str) -> Entry:
    (path,) = (Path(__file__).parents[2] / "baselines").glob(f"*/{name}.toml")
    return Entry(path)


@pytest.mark.parametrize("name", BLIND)
def test_permuting_and_flipping_coordinates_permutes_and_flips_the_steps(name):
    gradients = gradients_of(SHAPES)
    orders = [torch.randperm(shape[-1], generator=torch.Generator().manual_seed(1)) for shape in SHAPES]
    signs = [1.0 - 2.0 * (torch.arange(shape[-1]) % 2) for shape in SHAPES]
    turned = [[g[..., order] * sign for g, order, sign in zip(step, orders, signs, strict=True)] for step in gradients]
    values = {"weight_decay": 0.0}  # so that a step does not depend on the weights, which are not turned
    for mine, theirs in zip(*(of_entry(entry_named(name), values, g) for g in (gradients, turned)), strict=True):
        for plain, other, order, sign in zip(mine, theirs, orders, signs, strict=True):
            torch.testing.assert_close(plain[..., order] * sign, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", SCALE_FREE)
def test_larger_gradients_make_no_larger_steps(name):
    gradients = gradients_of(SHAPES)
    plain, larger = (
        of_entry(entry_named(name), SCALE_FREE[name], [[factor * g for g in step] for step in gradients])
        for factor in (1.0, 64.0)
    )
    for mine, theirs in zip(plain, larger, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", BYTES)
def test_gradients_of_zeros_and_no_decay_move_nothing(name):
    zeros = [[torch.zeros(shape) for shape in SHAPES]] * 3
    assert not any(moved.any() for step in of_entry(entry_named(name), {"weight_decay": 0.0}, zeros) for moved in step)


@pytest.mark.parametrize("shape", [SQUARE, TALL], ids=["square", "tall"])
@pytest.mark.parametrize("name", BYTES)
def test_state_has_the_bytes_per_parameter_that_the_method_needs(name, shape):
    entry, weights = entry_named(name), weights_of([shape])
    optimizer = entry.module().build(roles_with(weights), entry.hyperparameters(entry.values({})), run_of())
    weights[0].grad = torch.ones(shape)
    optimizer.step()
    assert sum(state.nbytes for state in state_tensors([optimizer])) == BYTES[name] * weights[0].numel()
