"""Muon: momentum, orthogonalized. Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/.

    m <- momentum m + (1 - momentum) g              w weight (out, in), g gradient, m momentum: one shape
    u <- momentum m + (1 - momentum) g              Nesterov
    o <- NewtonSchulz(u)                            near the polar factor of u
    w <- (1 - lr weight_decay) w
    w <- w - lr scale o

    scale = sqrt(max(1, out / in))                  "spectral", Jordan's
    scale = 0.2 sqrt(max(out, in))                  "rms", Moonlight's: Liu et al. 2025, arXiv:2502.16982, Section 2.2

A weight that is several matrices side by side is orthogonalized block by block. The hidden matrices only. State: one
momentum per weight, fp32. Newton-Schulz runs in bf16, as in the source.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from bench.linalg.matrixwise import Matrixwise
from bench.linalg.newton_schulz import orthogonalized
from bench.roles import Roles, Run


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    lr: float  # peak; "spectral": times sqrt(max(1, out / in)) a step's spectral norm; "rms": its size in AdamW's units
    momentum: float
    orthogonalization: Literal["jordan", "polar-express", "exact"]  # the coefficients of Newton-Schulz, or none
    newton_schulz_steps: int
    scaling: Literal["spectral", "rms"]
    weight_decay: float


class Muon(Matrixwise):
    def begin(self, gradients: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        return {"momentum": torch.zeros_like(gradients)}

    def update(self, gradients: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> Tensor:
        momentum = state["momentum"].lerp_(gradients, 1 - group["momentum"])
        return orthogonalized(gradients.lerp_(momentum, group["momentum"]), group["orthogonalization"], group["steps"])

    def size(self, rows: int, columns: int) -> float:
        if self.defaults["scaling"] == "rms":
            return 0.2 * math.sqrt(max(rows, columns))
        return math.sqrt(max(1.0, rows / columns))


def build(roles: Roles, hp: Hyperparameters, run: Run) -> Optimizer:
    return Muon(
        roles.hidden,
        {
            "lr": hp.lr,
            "weight_decay": hp.weight_decay,
            "momentum": hp.momentum,
            "orthogonalization": hp.orthogonalization,
            "steps": hp.newton_schulz_steps,
            "scaling": hp.scaling,
        },
    )
