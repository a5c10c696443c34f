"""Signum: the sign of the momentum. Bernstein et al. 2018, arXiv:1802.04434, Algorithm 2.

    m <- momentum m + (1 - momentum) g              w weight, g gradient, m momentum: one shape
    w <- (1 - lr weight_decay) w
    w <- w - lr sign(m)

State: one momentum per weight, fp32.
"""

from dataclasses import dataclass

import torch
from torch.optim import Optimizer

from bench.linalg.held import held
from bench.roles import Roles, Run


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    lr: float  # peak; every coordinate moves by this much in a step
    momentum: float
    weight_decay: float  # matrices, embedding and head; gains and biases get none


class Signum(Optimizer):
    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            weights = [w for w in group["params"] if w.grad is not None]
            if not weights:
                continue
            (momenta,) = held(self, weights, "momentum")
            torch._foreach_lerp_(momenta, [w.grad for w in weights], 1 - group["momentum"])
            torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(weights, torch._foreach_sign(momenta), alpha=-group["lr"])


def build(roles: Roles, hp: Hyperparameters, run: Run) -> Optimizer:
    decayed = [*roles.matrices, *roles.embedding, *roles.head]
    groups = [
        {"params": decayed, "weight_decay": hp.weight_decay},
        {"params": list(roles.vectors), "weight_decay": 0.0},
    ]
    return Signum(groups, {"lr": hp.lr, "momentum": hp.momentum})
