"""Scion: conditional gradients in a ball of each layer's own norm. Pethick et al. 2025, arXiv:2502.07529, Algorithm 2.

    d <- momentum d + (1 - momentum) g              w weight, g gradient, d their average: one shape
    w <- (1 - lr) w - lr radius lmo(d)              lr is the Frank-Wolfe step: w moves towards a corner of the ball

    hidden (out, in)             lmo(d) = sqrt(out / in) NewtonSchulz(d)     Spectral
    embedding, head (out, in)    lmo(d) = sign(d) / in                       Sign
    vectors                      lmo(d) = d / rms(d)                         BiasRMS

The shrinking by 1 - lr is what is called weight_decay = 1 here; without it (0) the method is unconstrained Scion. A
weight that is several matrices side by side is stepped block by block. No Adam anywhere. State: one average per weight,
fp32. Newton-Schulz runs in bf16, as in the source.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from bench.linalg.held import held
from bench.linalg.matrixwise import Matrixwise
from bench.linalg.newton_schulz import orthogonalized
from bench.roles import Roles, Run

EPS = 1e-8  # a vector of zeros must not divide by zero


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    lr: float  # peak, of the way to a corner of the ball
    momentum: float
    hidden_radius: float  # spectral norm over sqrt(out / in)
    table_radius: float  # embedding and head: largest entry times in
    vector_radius: float  # root mean square
    orthogonalization: Literal["jordan", "polar-express", "exact"]  # the coefficients of Newton-Schulz, or none
    newton_schulz_steps: int
    weight_decay: float


class Spectral(Matrixwise):
    def begin(self, gradients: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        return {"average": torch.zeros_like(gradients)}

    def update(self, gradients: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> Tensor:
        average = state["average"].lerp_(gradients, 1 - group["momentum"])
        return orthogonalized(average, group["orthogonalization"], group["steps"])

    def size(self, rows: int, columns: int) -> float:
        return float(self.defaults["radius"]) * math.sqrt(rows / columns)


class Elementwise(Optimizer):
    """Sign for tables, BiasRMS for vectors."""

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            weights = [w for w in group["params"] if w.grad is not None]
            if not weights:
                continue
            (averages,) = held(self, weights, "average")
            torch._foreach_lerp_(averages, [w.grad for w in weights], 1 - group["momentum"])
            torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
            for w, average in zip(weights, averages, strict=True):
                if w.ndim == 1:
                    w.add_(average / (average.square().mean().sqrt() + EPS), alpha=-group["lr"] * group["radius"])
                else:
                    w.add_(average.sign(), alpha=-group["lr"] * group["radius"] / w.shape[1])


def build(roles: Roles, hp: Hyperparameters, run: Run) -> list[Optimizer]:
    shared = {"lr": hp.lr, "momentum": hp.momentum, "weight_decay": hp.weight_decay}
    newton_schulz = {"orthogonalization": hp.orthogonalization, "steps": hp.newton_schulz_steps}
    rest = [
        {"params": [*roles.embedding, *roles.head], "radius": hp.table_radius},
        {"params": list(roles.vectors), "radius": hp.vector_radius},
    ]
    hidden = Spectral(roles.hidden, {**shared, **newton_schulz, "radius": hp.hidden_radius})
    return [hidden, Elementwise(rest, shared)]
