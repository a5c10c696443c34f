"""Adam on gradients projected to low rank: a shell for the methods that keep their moments in a subspace.

    every subspace_frequency steps, from the first:  P <- the r leading singular vectors of G
    R = P^T G                                        G (m, n), m < n, P (m, r), R (r, n)
    M <- beta1 M + (1 - beta1) R                     V <- beta2 V + (1 - beta2) R^2
    u = M / (sqrt(V) + eps)                          r = rank m, rounded; at least 1

The shorter side is projected: with m >= n it is R = G P, (m, r), as in GaLore's code also for a square matrix. The
moments stay as they are when P changes. State, fp32: 4 (r m + 2 r n) bytes a block with m <= n. The projection comes
from G G^T in float64: in fp32 its small singular vectors would be lost.
"""

import math
from typing import Any

import torch
from torch import Tensor

from bench.linalg.eigenbasis import eigenbasis
from bench.linalg.matrixwise import Matrixwise
from bench.linalg.moments import advance


class LowRankAdam(Matrixwise):
    """defaults, beside the shell's: rank (of the shorter side), subspace_frequency, beta1, beta2, eps."""

    def begin(self, gradients: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        rank = max(1, round(group["rank"] * min(gradients.shape[-2:])))
        basis = subspace(gradients, rank)
        moments = {name: torch.zeros_like(projected(gradients, basis)) for name in ("m", "v")}
        return {"basis": basis, **moments}

    def direction(
        self, gradients: Tensor, state: dict[str, Tensor], group: dict[str, Any]
    ) -> tuple[Tensor, Tensor, float]:
        """Return R, u and the factor that corrects u's bias, by a subspace renewed when it is time."""
        t = group["step"]
        if t > 1 and (t - 1) % group["subspace_frequency"] == 0:
            state["basis"] = subspace(gradients, state["basis"].shape[-1])
        low = projected(gradients, state["basis"])
        advance([state["m"]], [state["v"]], [low], group)
        denominator = state["v"].sqrt().add_(group["eps"])
        correction = math.sqrt(1 - group["beta2"] ** t) / (1 - group["beta1"] ** t)
        return low, torch.div(state["m"], denominator, out=denominator), correction


def check_rank(rank: float) -> None:
    """Raise ValueError unless it is a part of the shorter side."""
    if not 0 < rank <= 1:
        raise ValueError(f"rank is {rank!r}, expected a part of the shorter side: above 0, up to 1")


def projected(stack: Tensor, basis: Tensor) -> Tensor:
    """Return R of (k, m, n): (k, m, r) where m >= n, else (k, r, n)."""
    return stack @ basis if stack.shape[-2] >= stack.shape[-1] else basis.mT @ stack


def factors(low: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
    """Return the two factors whose product is P R, or R P^T where m >= n."""
    return (low, basis.mT) if low.shape[-1] == basis.shape[-1] else (basis, low)


def subspace(stack: Tensor, rank: int) -> Tensor:
    """Return the leading singular vectors (k, shorter side, rank) of (k, m, n), of its columns' side where m >= n."""
    return leading_vectors(stack.mT if stack.shape[-2] >= stack.shape[-1] else stack, rank)


def leading_vectors(stack: Tensor, rank: int) -> Tensor:
    """Return the left singular vectors (k, m, rank) of (k, m, n), the largest singular value's first.

    A vector's sign is free: its largest entry is made positive, the first of them where several are.
    """
    wide = stack.double()
    vectors = eigenbasis(wide @ wide.mT)[..., :rank]
    largest = vectors.gather(-2, vectors.abs().argmax(dim=-2, keepdim=True))
    return (vectors * torch.where(largest < 0, -1.0, 1.0)).to(stack.dtype)
