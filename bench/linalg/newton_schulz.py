"""Orthogonalization: the polar factor of matrices by quintic Newton-Schulz steps, batched over stacks of one shape.

    X <- G / ||G||_F;   A <- X X^T;   X <- a X + (b A + c A^2) X        X is (stack, rows, columns), rows <= columns

A step maps every singular value s to a s + b s^3 + c s^5 and leaves the singular vectors as they are.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

Quintic = tuple[float, float, float]

# Jordan 2024 (the Muon write-up), every step alike: steepest at 0; singular values end near 0.7 to 1.2, not at 1.
JORDAN = ((3.4445, -4.7750, 2.0315),)
# Amsel et al. 2025, arXiv:2505.16932: the best five steps in turn for singular values from 1e-3 to 1, as released with
# a margin of 1.02 by which the input is divided, so that rounding lifts none above 1.
POLAR_EXPRESS = (
    (8.156554524902461 / 1.02, -22.48329292557795 / 1.02**3, 15.878769915207462 / 1.02**5),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)
COEFFICIENTS: dict[str, Sequence[Quintic]] = {"jordan": JORDAN, "polar-express": POLAR_EXPRESS}
SMALLEST_NORM = 1e-7  # an all-zero matrix must not divide by zero


def orthogonalized(stack: Tensor, method: str, steps: int) -> Tensor:
    """Return the polar factors of (stack, m, n) if the method is "exact", else what so many of its steps make of them.

    Steps are computed in bf16, as the sources do, except for a float64 stack.
    """
    if method == "exact":
        return polar_factor(stack)
    given = COEFFICIENTS[method]
    coefficients = [given[min(step, len(given) - 1)] for step in range(steps)]
    return newton_schulz(stack, coefficients, torch.bfloat16 if stack.dtype == torch.float32 else stack.dtype)


def newton_schulz(stack: Tensor, coefficients: Sequence[Quintic], dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """Return matrices near the polar factors of (stack, m, n), computed in dtype, returned in the input's."""
    tall = stack.shape[-2] > stack.shape[-1]
    x = (stack.mT if tall else stack).to(dtype)
    x = x / (x.float().norm(dim=(-2, -1), keepdim=True) + SMALLEST_NORM).to(dtype)
    for a, b, c in coefficients:
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).to(stack.dtype)


def polar_factor(stack: Tensor) -> Tensor:
    """Return U V^T of each U S V^T of a stack, by singular value decomposition; where S is 0, so is the result."""
    u, s, vh = torch.linalg.svd(stack, full_matrices=False)
    zero = max(stack.shape[-2:]) * torch.finfo(stack.dtype).eps * s[..., :1]
    return (u * (s > zero)[..., None, :]) @ vh
