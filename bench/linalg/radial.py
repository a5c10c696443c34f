"""The projection of AdamP and SGDP. Heo et al. 2020, arXiv:2006.08217, Algorithms 1 and 2.

Where a loss does not change with the size of a weight, its gradient is perpendicular to it, and a step along the weight
only makes later steps shorter. A weight is taken to be such a one, first row by row, then as a whole, where

    max |cos(g, w)| < DELTA / sqrt(entries of the view)

and its step loses the part along the weight, in that view.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

DELTA = 0.1  # the paper's: how near to perpendicular, against chance
DECAY_RATIO = 0.1  # the paper's: of the decay of a weight without scale to that of others
EPS = 1e-8  # below which a norm counts as this


def remove_radial(steps: Sequence[Tensor], weights: Sequence[Tensor], gradients: Sequence[Tensor]) -> list[float]:
    """Change steps (m, n) in place where their weights look free of scale; lines (n,) are passed over.

    Return by what each weight's decay is to be multiplied: DECAY_RATIO where the step was changed, else 1.

    One word from the device for all tensors, so that they wait for it once.
    """
    matrices = [place for place, w in enumerate(weights) if w.ndim == 2]
    if not matrices:
        return [1.0] * len(steps)
    told = torch.stack([_verdicts(weights[i], gradients[i]) for i in matrices]).tolist()
    ratios = [1.0] * len(steps)
    for place, (by_row, whole) in zip(matrices, told, strict=True):
        if by_row or whole:
            ratios[place] = DECAY_RATIO
            w = weights[place] if by_row else weights[place].view(1, -1)
            step = steps[place].view_as(w)
            norms = torch.linalg.vector_norm(w, dim=1, keepdim=True) + EPS
            step.addcmul_(w, (step * w).sum(1, keepdim=True) / norms.square(), value=-1)
    return ratios


def _verdicts(w: Tensor, g: Tensor) -> Tensor:
    """Return (row by row, as a whole): whether the largest cosine of the view is below its threshold."""
    products = (w * g).sum(1)
    norms = [torch.linalg.vector_norm(x, dim=1) for x in (w, g)]
    rows = products.abs() / (norms[0].clamp(min=EPS) * norms[1].clamp(min=EPS))
    lengths = [torch.linalg.vector_norm(norm).clamp(min=EPS) for norm in norms]
    whole = products.sum().abs() / (lengths[0] * lengths[1])
    return torch.stack([rows.max() < DELTA / math.sqrt(w.shape[1]), whole < DELTA / math.sqrt(w.numel())])
