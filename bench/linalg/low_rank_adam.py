"""Adam on gradients projected to low rank: a shell for the methods that keep their moments in a subspace.

    every subspace_frequency steps, from the first:  P <- the r leading singular vectors of G
    R = P^T G                                        G (m, n), m <= n, P (m, r), R (r, n)
    M <- beta1 M + (1 - beta1) R                     V <- beta2 V + (1 - beta2) R^2
    u = M / (sqrt(V) + eps)                          r = rank m, rounded; at least 1

The shorter side is projected; a block with at least as many rows as columns is seen transposed, so of a square one it
is the input's side, as in GaLore's code. The moments stay as they are when P changes. State, fp32: 4 (r m + 2 r n)
bytes a block. The projection comes from G G^T in float64: in fp32 its small singular vectors would be lost.
"""

import math
from typing import Any

import torch
from torch import Tensor

from bench.linalg.eigenbasis import eigenbasis
from bench.linalg.matrixwise import Matrixwise
from bench.linalg.moments import advance
from bench.roles import Matrix


class LowRankAdam(Matrixwise):
    """defaults, beside the shell's: rank (of the shorter side), subspace_frequency, beta1, beta2, eps."""

    def begin(self, gradients: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        k, m, n = gradients.shape
        rank = max(1, round(group["rank"] * m))
        moments = {name: gradients.new_zeros(k, rank, n) for name in ("m", "v")}
        return {"basis": leading_vectors(gradients, rank), **moments}

    def flipped(self, matrix: Matrix, rows: int, columns: int) -> bool:
        return rows >= columns

    def projected(self, gradients: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> Tensor:
        """Return R (k, r, n), by a subspace renewed when it is time."""
        if group["step"] > 1 and (group["step"] - 1) % group["subspace_frequency"] == 0:
            state["basis"] = leading_vectors(gradients, state["basis"].shape[-1])
        return state["basis"].mT @ gradients


def adam(projected: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> tuple[Tensor, float]:
    """Return u (k, r, n) of the moments after this step, and the factor that corrects their bias."""
    m, v, t = state["m"], state["v"], group["step"]
    advance([m], [v], [projected], group)
    correction = math.sqrt(1 - group["beta2"] ** t) / (1 - group["beta1"] ** t)
    return m / v.sqrt().add_(group["eps"]), correction


def leading_vectors(stack: Tensor, rank: int) -> Tensor:
    """Return the left singular vectors (k, m, rank) of (k, m, n), the largest singular value's first.

    A vector's sign is free: its largest entry is made positive, the first of them where several are.
    """
    wide = stack.double()
    vectors = eigenbasis(wide @ wide.mT)[..., :rank]
    largest = vectors.gather(-2, vectors.abs().argmax(dim=-2, keepdim=True))
    return (vectors * torch.where(largest < 0, -1.0, 1.0)).to(stack.dtype)
