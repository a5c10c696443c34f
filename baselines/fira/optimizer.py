"""Fira: GaLore, with the rest of the gradient added at Adam's size. Chen et al. 2024, arXiv:2410.01623, Algorithm 1.

    P, R, M, V as GaLore's (bench.linalg.low_rank_adam)     W, G, S (m, n), m < n; P (m, r); R, u (r, n)
    u <- M / (sqrt(V) + eps)
    phi_j <- ||u_j|| / (||R_j|| + 1e-8)                     one factor a column; where m >= n, a row
    S <- (G - share P R) diag(phi)                          share: 1 in the paper, alpha in its code
    S <- S min(1, limit s / ||S||);  s <- ||S||             a norm grows by at most limit in a step; s is inf at first
    W <- (1 - lr weight_decay) W
    W <- W - lr sqrt(1 - beta2^t) / (1 - beta1^t) (alpha P u + S)

The code's s has 1e-8 added, which matters after a gradient of zeros only: from there S grows by the limit a step, so
that it stays near nothing for some two thousand steps. The hidden matrices only, block by block. State, fp32: GaLore's,
4 (r m + 2 r n) / mn bytes a parameter, and s.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from bench.linalg.low_rank_adam import LowRankAdam, check_rank, factors
from bench.roles import Roles, Run

EPS = 1e-8  # the released code's, of phi and of s


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    lr: float  # peak; a coordinate of the subspace moves by at most about alpha times this in a step
    beta1: float
    beta2: float
    eps: float
    rank: float  # of the projection, as a part of the shorter side
    subspace_frequency: int  # steps between two projections
    alpha: float
    limit: float  # of the growth of a residual's norm in a step
    residual: Literal["code", "paper"]
    weight_decay: float

    def __post_init__(self) -> None:
        check_rank(self.rank)


class Fira(LowRankAdam):
    def begin(self, gradients: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        unlimited = gradients.new_full((len(gradients), 1, 1), torch.inf)
        return {**super().begin(gradients, group), "residual_norm": unlimited}

    def update(self, gradients: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> Tensor:
        low, direction, correction = self.direction(gradients, state, group)
        along = -1 if gradients.shape[-2] >= gradients.shape[-1] else -2
        phi = direction.norm(dim=along, keepdim=True) / (low.norm(dim=along, keepdim=True) + EPS)
        share = group["alpha"] if group["residual"] == "code" else 1.0
        residual = torch.baddbmm(gradients, *factors(low, state["basis"]), alpha=-share)
        norm = (residual.norm(dim=along, keepdim=True) * phi).norm(dim=(-2, -1), keepdim=True)
        excess = (norm / (state["residual_norm"] + EPS) / group["limit"]).clamp(min=1.0)
        state["residual_norm"] = norm / excess
        residual *= phi * (correction / excess)
        return residual.baddbmm_(*factors(direction, state["basis"]), alpha=group["alpha"] * correction)


def build(roles: Roles, hp: Hyperparameters, run: Run) -> Optimizer:
    return Fira(roles.hidden, asdict(hp))
