"""Shampoo with Adam grafting. Gupta et al. 2018, arXiv:1802.09568, Algorithm 1; Shi et al. 2023, arXiv:2309.06497.

    W, G (m, n); L (m, m), R (n, n); M, V (m, n); t counts from 1; hats are bias corrections, x / (1 - beta^t)

    L <- beta2 L + (1 - beta2) G G^T                R <- beta2 R + (1 - beta2) G^T G
    M <- beta1 M + (1 - beta1) G                    V <- beta2 V + (1 - beta2) G^2
    at start_step, and then every precondition_frequency steps:
        PL = (L^ + eps I)^(-1/4)                    PR = (R^ + eps I)^(-1/4)
    D = M^ / (sqrt(V^) + graft_eps)                 Adam's step
    U = PL M^ PR                                    its direction, with Adam's length:
    W <- (1 - lr weight_decay) W
    W <- W - lr U |D|_F / |U|_F                     D itself before start_step

The hidden matrices only, none of them beyond the 8,192 rows or columns at which the source splits into blocks.
State, fp32: 8 + 8 (m^2 + n^2) / mn bytes a parameter, 24 for a square matrix.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from bench.linalg.gram import accumulate
from bench.linalg.matrixwise import Matrixwise
from bench.linalg.roots import inverse_root
from bench.roles import Roles, Run

ORDER = 4  # the root of each of two factors, which together make a square root


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    lr: float  # peak; the length of a step is Adam's
    beta1: float
    beta2: float  # of the factors and of Adam's second moment
    eps: float
    graft_eps: float
    precondition_frequency: int
    start_step: int
    weight_decay: float


class Shampoo(Matrixwise):
    def begin(self, gradients: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        k, m, n = gradients.shape
        square = {"left": m, "left_root": m, "right": n, "right_root": n}
        factors = {name: gradients.new_zeros(k, side, side) for name, side in square.items()}
        return {**factors, "m": torch.zeros_like(gradients), "v": torch.zeros_like(gradients)}

    def update(self, gradients: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> Tensor:
        t, beta1, beta2, start = group["step"], group["beta1"], group["beta2"], group["start_step"]
        accumulate(state["left"], gradients, beta2, 1 - beta2)
        accumulate(state["right"], gradients.mT, beta2, 1 - beta2)
        m = state["m"].lerp_(gradients, 1 - beta1)
        v = state["v"].mul_(beta2).addcmul_(gradients, gradients, value=1 - beta2)
        adam = torch.div(m, (v / (1 - beta2**t)).sqrt_().add_(group["graft_eps"])).div_(1 - beta1**t)
        if t < start:
            return adam
        if t == start or t % group["precondition_frequency"] == 0:
            for side in ("left", "right"):
                state[f"{side}_root"] = inverse_root(state[side] / (1 - beta2**t), ORDER, group["eps"], m.dtype)
        update = state["left_root"] @ m @ state["right_root"]
        return update.mul_(_norm(adam) / _norm(update).clamp(min=torch.finfo(m.dtype).tiny))


def _norm(stack: Tensor) -> Tensor:
    norm: Tensor = stack.norm(dim=(-2, -1), keepdim=True)
    return norm


def build(roles: Roles, hp: Hyperparameters, run: Run) -> Optimizer:
    return Shampoo(roles.hidden, vars(hp))
