"""Base maps of rotated steps: what turns R^T M into a step before it is rotated back, batched over stacks (k, m, n).

    sinkhorn    rows and columns normalized at once, so many rounds
    sign        the sign of every entry
    row-norm    rows of norm 1

Each keeps directions whose size is mere rounding error as large as any other, so such rows are made zero first.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from bench.linalg.sinkhorn import sinkhorn

BaseMap = Literal["sinkhorn", "sign", "row-norm"]
ROUNDING = 8.0  # units: rows of R^T M below it by ||M||_F are error, which a base map would make as large as any
SMALLEST_NORM = 1e-20  # an all-zero momentum must not divide by zero


def base_map(rotated: Tensor, base: BaseMap, rounds: int) -> Tensor:
    """Return the base map of rotated matrices (k, m, n) of norm 1, each to a scale of its own."""
    x = without_rounding(rotated)
    if base == "sinkhorn":
        return sinkhorn(x, rounds, simultaneous=True)
    return x.sign() if base == "sign" else normalize(x, dim=-1)


def without_rounding(rotated: Tensor) -> Tensor:
    """Return rotated matrices (k, m, n) of norm 1, rows of mere rounding error made zero."""
    error = ROUNDING * torch.finfo(rotated.dtype).eps
    return rotated.masked_fill(rotated.norm(dim=-1, keepdim=True) <= error, 0.0)


def norm_of(stack: Tensor) -> Tensor:
    """Return the Frobenius norms (k, 1, 1), which may be divided by."""
    norm: Tensor = stack.norm(dim=(-2, -1), keepdim=True).clamp(min=SMALLEST_NORM)
    return norm


def of_rms(stack: Tensor, rms: float) -> Tensor:
    """Scale matrices (k, m, n) in place so that their root mean square is as asked, and return them; zeros stay."""
    return stack.mul_(rms * (stack.shape[1] * stack.shape[2]) ** 0.5 / norm_of(stack))
