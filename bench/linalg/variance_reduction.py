"""The variance-reduced gradient of MARS. Yuan, Liu et al. 2024, arXiv:2411.10438, Algorithms 1 and 2.

    c = g + gamma beta1 / (1 - beta1) (g - g'),  over its Frobenius norm where that is above 1

g' is the gradient at the previous weights: of the same batch in the exact form, of the batch before in the other.
"""

import torch
from torch import Tensor

Tensors = list[Tensor] | tuple[Tensor, ...]


def corrected(gradients: Tensors, previous: Tensors, factor: float) -> list[Tensor]:
    """Return c of each tensor by itself; factor is gamma beta1 / (1 - beta1)."""
    found = list(torch._foreach_lerp(previous, gradients, 1 + factor))  # g' + (1 + factor)(g - g')
    norms = torch._foreach_norm(found)
    torch._foreach_clamp_min_(norms, 1.0)
    torch._foreach_div_(found, norms)
    return found
