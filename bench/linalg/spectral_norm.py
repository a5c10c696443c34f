"""Spectral norms of stacks of symmetric matrices, from below: one power step from the longest row.

    x = S s,  s the longest row of S;   ||S x|| / ||x|| <= ||S||_2

Li's bound for PSGD (github.com/lixilinx/psgd_torch). The row makes it tight where a single direction stands out.
"""

import torch
from torch import Tensor


def norm_from_below(stack: Tensor) -> Tensor:
    """Return (k, 1, 1) lower bounds of the spectral norms of symmetric positive (k, n, n) matrices."""
    largest = stack.abs().amax((-2, -1), keepdim=True)
    scaled = stack / torch.where(largest > 0, largest, 1)  # squares must not leave the range of fp32
    longest = scaled.square().sum(-1).argmax(-1)
    x = _applied(scaled, scaled[torch.arange(len(stack), device=stack.device), longest])
    x = x / x.norm(dim=-1, keepdim=True).clamp(min=torch.finfo(stack.dtype).tiny)
    bound: Tensor = largest * _applied(scaled, x).norm(dim=-1)[:, None, None]
    return bound


def _applied(stack: Tensor, x: Tensor) -> Tensor:
    """Return S x of (k, n, n) and (k, n), as sums: a product of stacks rounds otherwise for a stack of one."""
    return (stack * x.unsqueeze(-2)).sum(-1)
