"""Orthonormal factors of stacks (k, m, n), m >= n: the Q of A = Q R whose R has no negative entry on its diagonal.

    householder    LAPACK's or cuSOLVER's, through torch.linalg.qr: right for any input, one matrix after the other
    cholesky_qr    A <- A / ||A||_F;   three times: L L^T = A^T A, A <- A L^-T;   products and triangular solves only

The first Gram matrix gets a shift, as its small eigenvalues are lost in rounding. A shifted pass takes a singular value
s to s / sqrt(s^2 + shift): in fp32 a condition number of 1e5 comes down to about a hundred, and two plain passes do the
rest. Fukaya, Kannan, Nakatsukasa, Yamamoto and Yanagisawa 2018, arXiv:1809.11085. Worse conditioned, singular or
not a number falls back to Householder, which finds an orthonormal factor even of zeros.
"""

import math

import torch
from torch import Tensor

PASSES = 3
SHIFT = 10.0  # of the first Gram matrix, in units of rounding: above its error, whatever the gradient's scale
LARGEST_ERROR = 64.0  # of a factor that is kept, in units of rounding: 8e-6 in fp32


def orthonormal_factor(stack: Tensor, method: str) -> Tensor:
    """Return the orthonormal factors of (k, m, n) by "householder", "cholesky", or what suits the device.

    On one core Householder takes 0.25 to 0.4 of Cholesky's time. On a GPU it goes from matrix to matrix, and products
    are preferred, which is not measured yet. The kind of machine is part of every run: no run's bits are left open.
    """
    if method == "by device":
        method = "cholesky" if stack.is_cuda else "householder"
    return {"householder": householder, "cholesky": cholesky_qr}[method](stack)


def householder(stack: Tensor) -> Tensor:
    """Return the orthonormal factors of (k, m, n)."""
    q: Tensor
    r: Tensor
    q, r = torch.linalg.qr(stack)
    negative = r.diagonal(dim1=-2, dim2=-1) < 0
    return q * torch.where(negative, -1.0, 1.0).to(q.dtype)[:, None, :]


def cholesky_qr(stack: Tensor) -> Tensor:
    """Return the orthonormal factors of (k, m, n), of which Householder makes those that Cholesky cannot."""
    epsilon = torch.finfo(stack.dtype).eps
    q: Tensor = stack / stack.norm(dim=(-2, -1), keepdim=True)
    failed = torch.zeros(len(stack), dtype=torch.bool, device=stack.device)
    for turn in range(PASSES):
        gram = q.mT @ q
        if turn == 0:
            gram.diagonal(dim1=-2, dim2=-1).add_(SHIFT * epsilon)
        lower, info = torch.linalg.cholesky_ex(gram)
        q = torch.linalg.solve_triangular(lower.mT, q, upper=True, left=False)
        failed |= info != 0
    failed |= ~(orthogonality_error(q) <= LARGEST_ERROR * epsilon)  # so written, no number fails too
    if failed.any():
        q[failed] = householder(stack[failed])
    return q


def orthogonality_error(q: Tensor) -> Tensor:
    """Return ||Q^T Q - I||_F / sqrt(n) of each of (k, m, n): 0 where columns are orthonormal, 1 where they are zero."""
    gram = q.mT @ q
    gram.diagonal(dim1=-2, dim2=-1).sub_(1)
    error: Tensor = gram.norm(dim=(-2, -1)) / math.sqrt(q.shape[-1])
    return error
