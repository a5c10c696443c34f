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
LONG = 2  # the longer side over the shorter, q, from which pairs of steps save: 12 q + 22 for five, not 20 q + 10
LARGE = 512  # rows from which any of this saves time; smaller matrices are stepped as the libraries do
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
    short, long = sorted(stack.shape[-2:])
    x = stack.to(dtype)
    norms = torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True, dtype=torch.promote_types(dtype, torch.float32))
    x = x / (norms + SMALLEST_NORM).to(dtype)
    paired = len(coefficients) // 2 * 2 if short >= LARGE and long >= LONG * short else 0
    for first in range(0, paired, 2):
        x = _two_steps(x, coefficients[first], coefficients[first + 1])
    for quintic in coefficients[paired:]:
        x = _one_step(x, quintic)
    return x.to(stack.dtype)


def _one_step(x: Tensor, quintic: Quintic) -> Tensor:
    a, b, c = quintic
    gram = _syrk(_wide(x))
    return _applied(_syrk(gram, gram, beta=b, alpha=c), x, identity=a)


def _two_steps(x: Tensor, first: Quintic, second: Quintic) -> Tensor:
    """Return x after two steps by one Gram matrix A: x <- P x takes A to P A P, without a second X X^T."""
    (a, b, c), (d, e, f) = first, second
    gram = _syrk(_wide(x))
    p = _syrk(gram, gram, beta=b, alpha=c)  # P without a I, beside which bf16 would round it away
    half = torch.baddbmm(gram, gram, p, beta=a)
    gram = torch.baddbmm(half, half, p, beta=a)  # no longer symmetric to the last bit, and mirroring it costs accuracy
    q = torch.baddbmm(gram, gram, gram, beta=e, alpha=f)
    p.diagonal(dim1=-2, dim2=-1).add_(a)
    return _applied(torch.baddbmm(p, p, q, beta=d), x, identity=0.0)


def _wide(x: Tensor) -> Tensor:
    return x.mT if x.shape[-2] > x.shape[-1] else x


def _applied(p: Tensor, x: Tensor, identity: float) -> Tensor:
    """Return (p + identity I) x, for a tall x from the right: to transpose it would take longer than that."""
    left, right = (x, p.mT) if x.shape[-2] > x.shape[-1] else (p, x)
    return torch.baddbmm(x, left, right, beta=identity)


def _syrk(a: Tensor, c: Tensor | None = None, beta: float = 0.0, alpha: float = 1.0) -> Tensor:
    """Return beta c + alpha a a^T for a symmetric c; on a CPU, of a large one the upper blocks are a mirror's."""
    rows = a.shape[-2]
    out = a.new_empty(len(a), rows, rows)
    c = out if c is None else c
    if a.is_cuda or rows < LARGE:
        return torch.baddbmm(c, a, a.mT, beta=beta, alpha=alpha, out=out)
    height = -(-rows // 3)  # which leaves two thirds of the operations; narrower blocks gained no more
    for k in range(len(a)):
        for first in range(0, rows, height):
            of, upto = slice(first, first + height), slice(0, first + height)
            torch.addmm(c[k, of, upto], a[k, of], a[k, upto].T, beta=beta, alpha=alpha, out=out[k, of, upto])
            out[k, :first, of] = out[k, of, :first].T
    return out


def polar_factor(stack: Tensor) -> Tensor:
    """Return U V^T of each U S V^T of a stack, by singular value decomposition; where S is 0, so is the result."""
    u, s, vh = torch.linalg.svd(stack, full_matrices=False)
    zero = max(stack.shape[-2:]) * torch.finfo(stack.dtype).eps * s[..., :1]
    return torch.matmul(u * (s > zero)[..., None, :], vh)
