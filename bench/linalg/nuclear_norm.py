"""Nuclear norms of stacks, the sums of singular values, without a decomposition: ||X||_* = <X, polar factor of X>.

The polar factor by five steps of Polar Express, a few percent from the exact one where a singular value is above 1e-3
of the norm; smaller ones count too little, and add as little.
"""

from torch import Tensor

from bench.linalg.newton_schulz import orthogonalized


def nuclear_norm(stack: Tensor) -> Tensor:
    """Return the nuclear norms (k, 1, 1) of matrices (k, m, n), within 3 percent where their spectrum is not steep."""
    return (orthogonalized(stack, "polar-express", 5) * stack).sum((-2, -1), keepdim=True)
