"""Inverse p-th roots of stacks of symmetric positive matrices, through their eigendecomposition.

    S^(-1/p) ~ Q diag((e - min(e_min, 0) + eps)^(-1/p)) Q^T          S = Q diag(e) Q^T

Rounding makes the smallest eigenvalues of a singular S negative: the spectrum is shifted up by the most negative one
before eps is added, as Distributed Shampoo does (arXiv:2309.06497). The relative error grows with the condition number:
about (machine epsilon) (e_max / (e_min + eps)) / p.
"""

import torch
from torch import Tensor

from bench.linalg.eigenbasis import decomposed


def inverse_root(stack: Tensor, p: float, eps: float, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return S^(-1/p) of (k, n, n) matrices, read from their lower triangles; computed in dtype, returned in theirs."""
    values, vectors = decomposed(stack.to(dtype))
    positive = values - values.amin(-1, keepdim=True).clamp(max=0) + eps
    return ((vectors * positive.pow(-1 / p).unsqueeze(-2)) @ vectors.mT).to(stack.dtype)
