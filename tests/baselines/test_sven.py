"""Sven against NumPy's pseudo-inverse in float64, and what it promises of a linear model."""

from pathlib import Path

import numpy as np
import pytest
import torch
from asked import furthest, of_asking
from open_loop import LINE, MATRICES, gradients_of

from bench.entry import Entry

ENTRY = Entry(Path(__file__).parents[2] / "baselines/sven/sven.toml")
SHAPES, ROWS = [*MATRICES, LINE], 8
solved = ENTRY.module().solved


def jacobian_at(step: int, weights: list) -> tuple[torch.Tensor, dict]:
    """Losses and rows; of rank 5 at the second step."""
    generator = torch.Generator().manual_seed(step)
    rank = 5 if step == 1 else ROWS
    mixing = torch.randn(ROWS, rank, generator=generator)
    rows = {w: torch.tensordot(mixing, torch.randn(rank, *w.shape, generator=generator), dims=1) for w in weights}
    return torch.rand(ROWS, generator=generator) + 1, rows


def transcribed(shares: float, kappa: float, lr: float, steps: int) -> list[list]:
    """-lr pinv(M) r by a full singular value decomposition of all of M."""
    moved, weights = [], [torch.empty(shape) for shape in SHAPES]
    for step in range(steps):
        losses, rows = jacobian_at(step, weights)
        whole = np.concatenate([row.flatten(1).double().numpy() for row in rows.values()], axis=1)
        u, sigma, vt = np.linalg.svd(whole, full_matrices=False)
        kept = (sigma > 1e-4 * sigma[0]) & (np.arange(ROWS) < round(shares * ROWS))
        inverse = np.where(kept, 1 / sigma, 0.0)
        step_of = -lr * vt.T @ (inverse * (u.T @ losses.double().numpy() ** (kappa / 2)))
        parts = np.split(step_of, np.cumsum([w.numel() for w in weights])[:-1])
        moved.append([part.reshape(w.shape) for part, w in zip(parts, weights, strict=True)])
    return moved


@pytest.mark.parametrize("share, kappa", [(1.0, 2.0), (0.5, 2.0), (1.0, 1.0)])
def test_its_step_is_the_pseudo_inverse_s(share, kappa):
    gradients = gradients_of(SHAPES, steps=3)
    mine, _ = of_asking(ENTRY, {"lr": 30.0, "kept_share": share, "kappa": kappa}, gradients,
                        {"sequence_jacobian": jacobian_at})  # fmt: skip
    assert furthest(mine, transcribed(share, kappa, 30.0, 3)) < 2e-4


def test_a_linear_model_is_fitted_in_one_step_by_the_least_change_of_weights():
    generator = torch.Generator().manual_seed(0)
    a, y = torch.randn(5, 20, generator=generator).double(), torch.randn(5, generator=generator).double()
    change = -a.mT @ solved([a], -y, kept_share=1.0)
    torch.testing.assert_close(a @ change, y, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(change, torch.linalg.lstsq(a, y).solution, rtol=1e-9, atol=1e-9)


def test_rows_that_are_alike_share_a_residual():
    row = torch.randn(1, 12, generator=torch.Generator().manual_seed(0)).double()
    a = torch.cat([row, row])
    change = -a.mT @ solved([a], torch.tensor([1.0, 3.0]).double(), kept_share=1.0)
    torch.testing.assert_close(a @ change, torch.tensor([-2.0, -2.0]).double(), rtol=1e-10, atol=1e-10)
