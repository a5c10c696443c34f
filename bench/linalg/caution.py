"""The mask of cautious optimizers. Liang et al. 2024, arXiv:2411.16085, Algorithm 1.

u <- u 1[u g > 0] / max(mean(1[u g > 0]), LEAST)    u a step, g the gradient: one shape
"""

import torch
from torch import Tensor

Tensors = list[Tensor] | tuple[Tensor, ...]
LEAST = 1e-3  # the authors' code: a step of which nothing is left stays small


def cautious(steps: Tensors, gradients: Tensors) -> list[Tensor]:
    """Return of each step what has the gradient's sign, the scale of the rest made up for, tensor by tensor."""
    kept = list(torch._foreach_mul(steps, gradients))
    torch._foreach_sign_(kept)
    torch._foreach_clamp_min_(kept, 0.0)  # 1 where signs agree
    shares = [mask.sum() for mask in kept]
    torch._foreach_div_(shares, [float(step.numel()) for step in steps])
    torch._foreach_clamp_min_(shares, LEAST)
    torch._foreach_mul_(kept, steps)
    torch._foreach_div_(kept, shares)
    return kept
