"""Multi-normalized gradient descent: the gradient, normalized by several norms in turn; no state.

    X <- G                                      W, G, X (m, n) = (out, in): one shape
    rounds times, for each norm of norms:
        X <- sqrt(mn) argmax <X, Z> over Z of norm 1, divided by its Frobenius norm
    W <- (1 - lr weight_decay) W
    W <- W - lr lr_factor X

    row         the largest L2 norm of a row            X <- sqrt(n) X / row norms
    column      the largest L2 norm of a column         X <- sqrt(m) X / column norms
    spectral    the largest singular value              X <- sqrt(max(m, n)) NewtonSchulz(X)

Scetbon et al. 2025, arXiv:2502.06742, Algorithm 1 (MNGD). Each norm leaves the root mean square at 1, the spectral one
where X has full rank. Rows, then columns, is SinkGD. Rows, then spectral, is SWAN but for its row means: a polar factor
with m <= n has rows of one norm, so the second round changes nothing; with m > n rounds lead to a tight frame of rows
of one norm. The hidden matrices only, block by block. Newton-Schulz runs in bf16.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from bench.linalg.matrixwise import Matrixwise
from bench.linalg.newton_schulz import orthogonalized
from bench.roles import Roles, Run

NORMS = ("row", "column", "spectral")


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    lr: float  # peak; a coordinate moves by lr_factor times this
    lr_factor: float
    norms: str  # in the order in which they are enforced, by commas
    rounds: int
    orthogonalization: Literal["jordan", "polar-express", "exact"]  # the coefficients of Newton-Schulz, or none
    newton_schulz_steps: int
    weight_decay: float

    def __post_init__(self) -> None:
        for norm in self.norms.split(","):
            if norm not in NORMS:
                raise ValueError(f"norms has {norm!r}, expected {', '.join(NORMS)}, with commas and no spaces")


class MultiNormalized(Matrixwise):
    def update(self, gradients: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> Tensor:
        x = gradients / gradients.abs().amax(dim=(-2, -1), keepdim=True).clamp(min=torch.finfo(gradients.dtype).tiny)
        for _ in range(group["rounds"]):
            for norm in group["norms"].split(","):
                x = normalized(x, norm, group)
        return x.mul_(group["lr_factor"])


def normalized(x: Tensor, norm: str, group: dict[str, Any]) -> Tensor:
    """Return the nearest (k, m, n) of a norm, all scaled to the root mean square of 1; zeros stay zeros."""
    if norm == "spectral":
        factor = orthogonalized(x, group["orthogonalization"], group["newton_schulz_steps"])
        return factor.mul_(math.sqrt(max(x.shape[-2:])))
    along = {"row": -1, "column": -2}[norm]
    squares = x.square().mean(dim=along, keepdim=True)
    return x * torch.where(squares > 0, squares.rsqrt(), 0.0)


def build(roles: Roles, hp: Hyperparameters, run: Run) -> Optimizer:
    return MultiNormalized(roles.hidden, asdict(hp))
