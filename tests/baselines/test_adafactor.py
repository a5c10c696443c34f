"""Adafactor against torch's and pytorch_optimizer's on the same gradients, and written out.

torch bounds V below by eps1^2 and mean(R) by eps1, where the paper adds its eps1 to squared gradients: the same at the
root of the paper's. At torch's default, 1.2e-7, it is another method on gradients as clipping leaves them, whose
mean(R) is less. pytorch_optimizer's momentum, its own schedule and its scaled decay are left off; its beta2 caps the
average's from step 5,600 on.
"""

from pathlib import Path

import numpy as np
import pytest
import pytorch_optimizer
import torch
from open_loop import (
    LINE,
    MATRICES,
    SQUARE,
    TALL,
    furthest_apart,
    gradients_of,
    of_entry,
    of_library,
    roles_with,
    run_of,
    weights_of,
)

from bench.entry import Entry
from bench.facts import state_tensors

ENTRY = Entry(Path(__file__).parents[2] / "baselines/adafactor/adafactor.toml")
SHAPES = [*MATRICES, LINE]
VALUES = {"lr": 0.01, "weight_decay": 0.0}


def theirs(weights):
    return pytorch_optimizer.AdaFactor(weights, lr=0.01, betas=(None, 0.999), relative_step=False, weight_decay=0.0)


def test_its_steps_are_those_of_torch_s():
    def make(weights):
        groups = [
            {"params": [w for w in weights if w.ndim == 2], "weight_decay": 0.3},
            {"params": [w for w in weights if w.ndim == 1], "weight_decay": 0.0},
        ]
        return torch.optim.Adafactor(groups, lr=0.01, eps=(1e-15, 1e-3))

    gradients = gradients_of(SHAPES)
    mine = of_entry(ENTRY, {**VALUES, "weight_decay": 0.3}, gradients)
    assert furthest_apart(mine, of_library(make, gradients)) < 1e-5


@pytest.mark.parametrize("size", [1.0, 1e-4], ids=["large gradients", "gradients as clipping leaves them"])
def test_its_steps_are_those_of_pytorch_optimizer_s(size):
    gradients = [[size * g for g in step] for step in gradients_of(SHAPES)]
    assert furthest_apart(of_entry(ENTRY, VALUES, gradients), of_library(theirs, gradients)) < 1e-5


def test_torch_s_default_eps1_is_another_method_on_small_gradients():
    gradients = [[1e-4 * g for g in step] for step in gradients_of(SHAPES)]
    bounded = of_library(lambda weights: torch.optim.Adafactor(weights, lr=0.01, weight_decay=0.0), gradients)
    assert furthest_apart(bounded, of_entry(ENTRY, VALUES, gradients)) > 0.1


def test_a_matrix_follows_the_paper_s_algorithm_written_out():
    gradients = gradients_of([TALL])
    (start,) = weights_of([TALL])
    w, r, c = start.detach().double().numpy(), 0.0, 0.0
    for t, ((g,), (moved,)) in enumerate(zip(gradients, of_entry(ENTRY, VALUES, gradients), strict=True), start=1):
        squares, kept = g.double().numpy() ** 2 + 1e-30, 1 - t**-0.8
        r = kept * r + (1 - kept) * squares.mean(1, keepdims=True)
        c = kept * c + (1 - kept) * squares.mean(0, keepdims=True)
        u = g.double().numpy() / np.sqrt(r * c / r.mean())
        u /= max(1.0, np.sqrt((u**2).mean()))
        step = -max(1e-3, np.sqrt((w**2).mean())) * min(0.01, t**-0.5) * u
        np.testing.assert_allclose(moved.numpy(), step, rtol=1e-4, atol=1e-6)
        w = w + step


def seen_in_part(shape: tuple[int, ...]) -> torch.Tensor:
    """A gradient of which most rows, and a column, were never seen: what a rare token's embedding gets."""
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    drawn[2:] = 0
    if len(shape) == 2:
        drawn[:, 0] = 0
    return drawn


@pytest.mark.parametrize("shape", [TALL, LINE], ids=["matrix", "line"])
def test_rows_without_a_gradient_do_not_shorten_the_others_steps(shape):
    """RMS(U) is of G alone: with EPS1 in it, a row that was never seen would count as if it had a gradient."""
    gradients = [[size * seen_in_part(shape)] for size in (0.01, 0.03)]
    mine = of_entry(ENTRY, VALUES, gradients)
    torch_s = of_library(lambda w: torch.optim.Adafactor(w, lr=0.01, weight_decay=0.0, eps=(1e-15, 1e-3)), gradients)
    assert float(mine[0][0].norm()) > 0
    assert furthest_apart(mine, torch_s) < 1e-5


def test_gradients_of_rank_one_make_steps_of_their_signs():
    a, b = torch.arange(1.0, 25.0), torch.arange(-4.0, 4.0) + 0.5
    (moved,) = of_entry(ENTRY, VALUES, [[torch.outer(a, b)]])[0]
    (w,) = weights_of([TALL])
    rms = w.detach().square().mean().sqrt()
    torch.testing.assert_close(moved, -0.01 * rms * torch.outer(a, b).sign(), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("shape", [SQUARE, TALL], ids=["square", "tall"])
def test_state_has_a_number_for_each_row_and_column(shape):
    weights = weights_of([shape])
    optimizer = ENTRY.module().build(roles_with(weights), ENTRY.hyperparameters(ENTRY.values({})), run_of())
    weights[0].grad = torch.ones(shape)
    optimizer.step()
    assert sum(state.nbytes for state in state_tensors([optimizer])) == 4 * sum(shape)
