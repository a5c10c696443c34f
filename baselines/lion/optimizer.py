"""Lion: the sign of a momentum that leans on the newest gradient. Chen et al. 2023, arXiv:2302.06675, Algorithm 2.

    u <- sign(beta1 m + (1 - beta1) g)              w weight, g gradient, m momentum: one shape
    w <- (1 - lr weight_decay) w
    w <- w - lr u
    m <- beta2 m + (1 - beta2) g

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
    beta1: float  # of the momentum in the update
    beta2: float  # of the momentum that is kept
    weight_decay: float  # matrices, embedding and head; gains and biases get none


class Lion(Optimizer):
    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            weights = [w for w in group["params"] if w.grad is not None]
            if not weights:
                continue
            gradients = [w.grad for w in weights]
            (momenta,) = held(self, weights, "momentum")
            updates = torch._foreach_lerp(momenta, gradients, 1 - group["beta1"])
            torch._foreach_sign_(updates)
            torch._foreach_lerp_(momenta, gradients, 1 - group["beta2"])
            torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(weights, updates, alpha=-group["lr"])


def build(roles: Roles, hp: Hyperparameters, run: Run) -> Optimizer:
    decayed = [*roles.matrices, *roles.embedding, *roles.head]
    groups = [
        {"params": decayed, "weight_decay": hp.weight_decay},
        {"params": list(roles.vectors), "weight_decay": 0.0},
    ]
    return Lion(groups, {"lr": hp.lr, "beta1": hp.beta1, "beta2": hp.beta2})
