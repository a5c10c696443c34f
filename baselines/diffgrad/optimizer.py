"""diffGrad: Adam that slows down where the gradient changes little. Dubey et al. 2019, arXiv:1909.11015, Algorithm 1.

    x  = 1 / (1 + exp(-|g' - g|))                   w weight, g gradient, g' the one before, m and v: one shape
    m <- beta1 m + (1 - beta1) g                    g' is zero before the first step
    v <- beta2 v + (1 - beta2) g^2
    w <- (1 - lr weight_decay) w - lr x (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)

State: two moments and the gradient before, fp32.
"""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from bench.linalg.elementwise import Elementwise, decay
from bench.linalg.held import held
from bench.linalg.moments import advance, denominators
from bench.roles import Roles, Run


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    lr: float  # peak
    beta1: float
    beta2: float
    eps: float
    weight_decay: float  # matrices, embedding and head; gains and biases get none


class DiffGrad(Elementwise):
    def move(self, weights: tuple[Parameter, ...], gradients: tuple[Tensor, ...], group: dict[str, Any]) -> None:
        names = ("first_moment", "second_moment", "previous_gradient")
        firsts, seconds, previous = held(self, weights, *names)
        advance(firsts, seconds, gradients, group)
        frictions = previous  # written over: the gradient takes its place below
        torch._foreach_sub_(frictions, gradients)
        torch._foreach_abs_(frictions)
        torch._foreach_sigmoid_(frictions)
        torch._foreach_mul_(frictions, firsts)
        decay(weights, group)
        torch._foreach_addcdiv_(weights, frictions, denominators(seconds, group), -group["lr"])
        torch._foreach_copy_(previous, gradients)


def build(roles: Roles, hp: Hyperparameters, run: Run) -> Optimizer:
    return DiffGrad(roles, asdict(hp))
