"""GaLore: Adam on gradients projected to low rank. Zhao et al. 2024, arXiv:2403.03507, Algorithm 2.

    every subspace_frequency steps: P <- the r leading singular vectors of G
    R <- P^T G                                      W, G (m, n), m < n; P (m, r); R, M, V (r, n)
    M <- beta1 M + (1 - beta1) R                    V <- beta2 V + (1 - beta2) R^2
    W <- (1 - lr weight_decay) W
    W <- W - lr scale sqrt(1 - beta2^t) / (1 - beta1^t) P [M / (sqrt(V) + eps)]

The shorter side is projected; where m >= n, R is G P (bench.linalg.low_rank_adam). The moments are not rotated
when P changes. Between two changes a weight moves in the span of P only. The hidden matrices only, block by block.
State, fp32: 4 (r m + 2 r n) / mn bytes a parameter, 3 for a square matrix at a rank of 1/4; Adam's are 8.
"""

from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from bench.linalg.low_rank_adam import LowRankAdam, check_rank, factors
from bench.roles import Roles, Run


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    lr: float  # peak; a coordinate of the subspace moves by at most about scale times this in a step
    beta1: float
    beta2: float
    eps: float
    rank: float  # of the projection, as a part of the shorter side
    subspace_frequency: int  # steps between two projections
    scale: float
    weight_decay: float

    def __post_init__(self) -> None:
        check_rank(self.rank)


class GaLore(LowRankAdam):
    def update(self, gradients: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> Tensor:
        _, direction, correction = self.direction(gradients, state, group)
        left, right = factors(direction.mul_(group["scale"] * correction), state["basis"])
        return left @ right


def build(roles: Roles, hp: Hyperparameters, run: Run) -> Optimizer:
    return GaLore(roles.hidden, asdict(hp))
