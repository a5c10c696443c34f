"""Running Gram matrices of stacks, total <- beta total + alpha X X^T, of which only the lower triangle is computed.

Panels of rows, each from the left edge to its diagonal block: for p panels (p + 1) / 2p of the products of a full one.
Above the diagonal blocks a total is stale until it is mirrored: for readers of both triangles only.
"""

from torch import Tensor

PANEL = 256  # rows: narrow ones save more products, wide ones run nearer to the processor's peak


def accumulate(total: Tensor, x: Tensor, beta: float, alpha: float) -> None:
    """Make totals (k, n, n) beta times themselves plus alpha X X^T of (k, n, m), in place, in the lower triangles."""
    for first in range(0, total.shape[-1], PANEL):
        last = first + PANEL
        total[:, first:last, :last].baddbmm_(x[:, first:last], x[:, :last].mT, beta=beta, alpha=alpha)


def mirror(total: Tensor) -> Tensor:
    """Copy the lower triangles to the upper ones, in place, and return the totals."""
    for last in range(PANEL, total.shape[-1], PANEL):
        panel = slice(last, last + PANEL)
        total[:, :last, panel].copy_(total[:, panel, :last].mT)
    return total
