"""Eigenbases of stacks of symmetric matrices: found in full, and kept up by one power step and a QR factorization.

    full      S = Q diag(e) Q^T, e descending
    refresh   order the columns of Q by diag(Q^T S Q), descending;  Q <- qr(S Q).Q          SOAP's, arXiv:2409.11321

A refresh of the eigenbasis of S is that basis; away from it, it is one step of orthogonal iteration. Only the lower
triangle of a matrix is read by the full decomposition, both triangles are by the refresh.
"""

import torch
from torch import Tensor


def decomposed(stack: Tensor) -> tuple[Tensor, Tensor]:
    """Return eigenvalues (k, n), ascending, and eigenvectors (k, n, n) as columns, read from the lower triangles.

    Where the solver fails on finite numbers, it is asked once more in float64; where it fails again, its error stands.
    """
    try:
        values, vectors = torch.linalg.eigh(stack)
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
        if stack.dtype == torch.float64 or not stack.isfinite().all():
            raise
        values, vectors = torch.linalg.eigh(stack.double())
    return values.to(stack.dtype), vectors.to(stack.dtype)


def eigenbasis(stack: Tensor) -> Tensor:
    """Return the eigenvectors (k, n, n) as columns, the largest eigenvalue's first."""
    return decomposed(stack)[1].flip(-1)


def refreshed(stack: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
    """Return a basis nearer to the eigenbasis, and the order (k, n) in which it took the old one's columns.

    What belongs to a column, as a second moment does, must be taken in that order too.
    """
    image = stack @ basis
    order = (basis * image).sum(-2).argsort(dim=-1, descending=True, stable=True)
    return torch.linalg.qr(image.gather(-1, order.unsqueeze(-2).expand_as(image)))[0], order
