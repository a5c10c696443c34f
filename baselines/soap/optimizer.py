"""SOAP: Adam in the eigenbasis of Shampoo's factors. Vyas et al. 2024, arXiv:2409.11321, Algorithm 3.

    first step: L = (1 - beta2) G G^T, R = (1 - beta2) G^T G, QL and QR their eigenbases; no weight moves
    W, G (m, n); L, QL (m, m); R, QR (n, n); M, V (m, n), both in the eigenbasis; t counts from the second step

    G' = QL^T G QR
    M <- beta1 M + (1 - beta1) G'                   V <- beta2 V + (1 - beta2) G'^2
    W <- (1 - lr weight_decay) W
    W <- W - lr sqrt(1 - beta2^t) / (1 - beta1^t) QL [M / (sqrt(V) + eps)] QR^T
    L <- beta2 L + (1 - beta2) G G^T                R <- beta2 R + (1 - beta2) G^T G
    every precondition_frequency steps: a power step and QR of QL and QR; V is reordered with their columns, M rotated

With M kept in the eigenbasis two rotations are enough. The hidden matrices only, none of them beyond the source's limit
of 10,000 on a factor's side. State, fp32: 8 + 8 (m^2 + n^2) / mn bytes a parameter, 24 for a square matrix.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from bench.linalg.eigenbasis import eigenbasis, refreshed
from bench.linalg.gram import accumulate, mirror
from bench.linalg.matrixwise import Matrixwise
from bench.roles import Roles, Run


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    lr: float  # peak; a coordinate of the eigenbasis moves by at most about this much in a step
    beta1: float
    beta2: float  # of the second moment and of the factors
    eps: float
    precondition_frequency: int
    weight_decay: float


class SOAP(Matrixwise):
    def begin(self, gradients: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        k, m, n = gradients.shape
        left, right = gradients.new_zeros(k, m, m), gradients.new_zeros(k, n, n)
        _observe(left, right, gradients, group["beta2"])
        moments = {name: torch.zeros_like(gradients) for name in ("m", "v")}
        bases = {"left_basis": eigenbasis(left), "right_basis": eigenbasis(right)}
        return {"left": left, "right": right, **bases, **moments}

    def update(self, gradients: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> Tensor | None:
        if group["step"] == 1:  # it made the basis
            return None
        t, beta1, beta2 = group["step"] - 1, group["beta1"], group["beta2"]
        left, right, m, v = state["left_basis"], state["right_basis"], state["m"], state["v"]
        rotated = left.mT @ gradients @ right
        m.lerp_(rotated, 1 - beta1)
        v.mul_(beta2).addcmul_(rotated, rotated, value=1 - beta2)
        update = left @ torch.div(m, v.sqrt().add_(group["eps"])) @ right.mT
        _observe(state["left"], state["right"], gradients, beta2)
        if t % group["precondition_frequency"] == 0:
            _refresh(state)
        return update.mul_(math.sqrt(1 - beta2**t) / (1 - beta1**t))


def _observe(left: Tensor, right: Tensor, gradients: Tensor, beta2: float) -> None:
    accumulate(left, gradients, beta2, 1 - beta2)
    accumulate(right, gradients.mT, beta2, 1 - beta2)


def _refresh(state: dict[str, Tensor]) -> None:
    """Step both bases towards the factors' eigenvectors, and let the moments follow."""
    momentum = state["left_basis"] @ state["m"] @ state["right_basis"].mT
    state["left_basis"], rows = refreshed(mirror(state["left"]), state["left_basis"])
    state["right_basis"], columns = refreshed(mirror(state["right"]), state["right_basis"])
    state["m"] = state["left_basis"].mT @ momentum @ state["right_basis"]
    by_row = state["v"].gather(1, rows.unsqueeze(2).expand_as(momentum))
    state["v"] = by_row.gather(2, columns.unsqueeze(1).expand_as(momentum))


def build(roles: Roles, hp: Hyperparameters, run: Run) -> Optimizer:
    return SOAP(roles.hidden, vars(hp))
