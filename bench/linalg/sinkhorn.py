"""Sinkhorn normalization of stacks (k, m, n): rows of L2 norm sqrt(n) and columns of L2 norm sqrt(m), nearly.

    X <- diag(a) G diag(b)          a = sqrt(n) / row norms of G diag(b),  b = sqrt(m) / column norms of diag(a) G

Each round finds a, then b. Alternating, b is found from the new a (Gauss-Seidel): the columns are exact at the end, so
the root mean square is 1. Simultaneous, from the old one (Jacobi): both are near, the scale is free, and convergence
takes about twice the rounds. With P = G * G a round is two products, P b^2 and P^T a^2, in place of four passes over G.
"""

import torch
from torch import Tensor

SMALLEST = 1e-20  # a mean square, the largest entry being 1: rows and columns below it stay small, and zeros stay zeros


def sinkhorn(stack: Tensor, rounds: int, simultaneous: bool = False) -> Tensor:
    """Return (k, m, n) with rows and columns normalized so many times, each matrix to a scale of its own."""
    x = stack / stack.abs().amax(dim=(-2, -1), keepdim=True).clamp(min=torch.finfo(stack.dtype).tiny)
    squares = x.square()
    k, m, n = x.shape
    rows, columns = x.new_ones(k, 1, m), x.new_ones(k, 1, n)  # a^2 and b^2
    for _ in range(rounds):
        new = _inverse_mean(columns @ squares.mT, n)  # P b^2 has other bits where the stack is one matrix
        columns = _inverse_mean((rows if simultaneous else new) @ squares, m)
        rows = new
    return x.mul_(rows.mT.sqrt()).mul_(columns.sqrt())


def _inverse_mean(sums: Tensor, count: int) -> Tensor:
    return 1 / (sums / count).clamp(min=SMALLEST)
