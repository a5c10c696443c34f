"""Whitening of stacks by coupled Newton-Schulz steps: (X X^T)^(-1/2) X, near the polar factor of X.

    Y <- X X^T / ||X X^T||_F;  Z <- I;   Y <- beta Y (3 I - Z Y),  Z <- beta (3 I - Z Y) Z        X (m, n), m <= n

For beta = 1/2 (Higham) Z tends to the inverse square root of the first Y. A small singular value grows by 3/2 a step,
so that ten steps whiten those above a fiftieth of the largest or so, and none ever exceeds 1. A beta above 1/2 has no
fixed point of singular value 1. SWAN's: arXiv:2412.13148, Algorithm 2.
"""

import torch
from torch import Tensor


def whitened(stack: Tensor, steps: int, beta: float = 0.5) -> Tensor:
    """Return (k, m, n) after so many steps, one or more, in the input's precision; tall ones from the right."""
    if stack.shape[-2] > stack.shape[-1]:
        return whitened(stack.mT, steps, beta).mT
    gram = stack @ stack.mT
    norm: Tensor = gram.norm(dim=(-2, -1), keepdim=True).clamp(min=torch.finfo(stack.dtype).tiny)
    three = 3 * torch.eye(stack.shape[-2], dtype=stack.dtype, device=stack.device).expand_as(gram)
    y = gram / norm
    z = factor = beta * (three - y)  # the first step's, where Z is I
    for _ in range(steps - 1):
        y = y @ factor
        factor = torch.baddbmm(three, z, y, beta=beta, alpha=-beta)
        z = factor @ z
    done: Tensor = z @ (stack / norm.sqrt())
    return done
