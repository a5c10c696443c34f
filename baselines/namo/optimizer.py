"""NAMO: Muon's direction, its size from Adam's moments of norms. Zhang, Liu and Schaeffer 2026, arXiv:2602.17080.

    M <- momentum M + (1 - momentum) G              W, G, M, U, O (m, n): one shape
    U <- momentum M + (1 - momentum) G              with nesterov, as in the released code; U <- M in the paper
    O <- NewtonSchulz(U)
    v <- beta2 v + (1 - beta2) ||G||^2              a number; "column" (NAMO-D): n numbers, and norms are columns'
    s <- ||U|| / (sqrt(v) + eps)                    "column": clamped to [c mean(s), mean(s) / c]; c = 0: not at all
    a <- lr sqrt(1 - beta2^t) / (1 - momentum^t) s
    W <- (1 - weight_decay min(a, 1)) W
    W <- W - min(1, 0.2 sqrt(max(m, n)) a) O        "column": each column has its own a

On a constant gradient, without nesterov, a is lr; in noise it is near lr sqrt((1 - momentum) / (1 + momentum)), 0.16 lr
at 0.95, hence rates several times AdamW's. With nesterov a begins at 1.95 lr. The hidden matrices only, block by block.
State: one momentum per weight and v, fp32. Newton-Schulz runs in bf16, as in the source.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from bench.linalg.matrixwise import Matrixwise
from bench.linalg.newton_schulz import orthogonalized
from bench.linalg.sizes import rms_matched
from bench.roles import Roles, Run

EPS = 1e-8  # outside the root, as in the released code


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    lr: float  # peak; a step's root mean square is 0.2 lr at most, and less the noisier gradients are
    momentum: float
    nesterov: bool
    beta2: float  # of squared norms
    norms: Literal["matrix", "column"]
    column_clamp: float  # c: how far below the mean a column's size may be; 0: as far as it is
    orthogonalization: Literal["jordan", "polar-express", "exact"]  # the coefficients of Newton-Schulz, or none
    newton_schulz_steps: int
    weight_decay: float

    def __post_init__(self) -> None:
        if not 0 <= self.column_clamp <= 1:
            raise ValueError(f"column_clamp is {self.column_clamp!r}, expected a number from 0 to 1")


class NAMO(Matrixwise):
    def begin(self, gradients: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        return {"momentum": torch.zeros_like(gradients), "second": torch.zeros_like(norms_of(gradients, group))}

    def update(self, gradients: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> tuple[Tensor, Tensor]:
        second = state["second"].lerp_(norms_of(gradients, group).square(), 1 - group["beta2"])
        momentum = state["momentum"].lerp_(gradients, 1 - group["momentum"])
        u = gradients.lerp_(momentum, group["momentum"]) if group["nesterov"] else momentum
        sizes = clamped(norms_of(u, group) / (second.sqrt() + EPS), group["column_clamp"])
        sizes *= math.sqrt(1 - group["beta2"] ** group["step"]) / (1 - group["momentum"] ** group["step"])
        lr = group["lr"]
        most = 1 / lr if lr else math.inf  # steps are in units of lr
        o = orthogonalized(u, group["orthogonalization"], group["newton_schulz_steps"])
        step = o.mul_((rms_matched(*o.shape[-2:]) * sizes).clamp(max=most))
        return step, (lr * sizes).clamp(max=1.0).mul_(group["weight_decay"])


def norms_of(stack: Tensor, group: dict[str, Any]) -> Tensor:
    """Return the Frobenius norms (k, 1, 1) of matrices, or the norms (k, 1, n) of their columns."""
    norms: Tensor = stack.norm(dim=-2 if group["norms"] == "column" else (-2, -1), keepdim=True)
    return norms


def clamped(sizes: Tensor, c: float) -> Tensor:
    """Return (k, 1, n) kept between c times their mean and their mean over c."""
    if c == 0:
        return sizes
    mean = sizes.mean(dim=-1, keepdim=True)
    return sizes.clamp(c * mean, mean / c)


def build(roles: Roles, hp: Hyperparameters, run: Run) -> Optimizer:
    return NAMO(roles.hidden, asdict(hp))
