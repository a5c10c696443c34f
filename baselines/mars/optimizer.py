"""MARS: Adam on a gradient whose variance is reduced. Yuan, Liu et al. 2024, arXiv:2411.10438, Algorithm 2.

    c  = g + gamma beta1 / (1 - beta1) (g - g')     w weight, g gradient, g' the one before: one shape
    c <- c / ||c||                                  where ||c|| > 1, of each tensor by itself
    m <- beta1 m + (1 - beta1) c
    v <- beta2 v + (1 - beta2) c^2
    w <- (1 - lr weight_decay) w - lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)

This is the approximate form: g' was taken on the batch before, not on the present one, which would cost a second pass.
Gains and biases have AdamW at a rate and betas of their own, as the paper's.

State: two moments and the gradient before, fp32; gains and biases two moments.
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
from bench.linalg.variance_reduction import corrected
from bench.roles import Roles, Run


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    lr: float  # peak; a coordinate moves by at most about this much in a step
    vector_lr_factor: float  # the gains' and biases' lr over the others'
    beta1: float
    beta2: float
    vector_beta1: float  # of gains and biases
    vector_beta2: float
    eps: float
    gamma: float  # how much of the correction is taken; 0 is AdamW on clipped gradients
    weight_decay: float  # matrices, embedding and head; gains and biases get none


class MARS(Elementwise):
    def __init__(self, roles: Roles, hp: Hyperparameters) -> None:
        plain = {"lr": hp.lr * hp.vector_lr_factor, "beta1": hp.vector_beta1, "beta2": hp.vector_beta2, "gamma": None}
        super().__init__(roles, asdict(hp), vectors=plain)

    def move(self, weights: tuple[Parameter, ...], gradients: tuple[Tensor, ...], group: dict[str, Any]) -> None:
        firsts, seconds = held(self, weights, "first_moment", "second_moment")
        estimates: Any = gradients
        if group["gamma"] is not None:
            (previous,) = held(self, weights, "previous_gradient")
            estimates = corrected(gradients, previous, group["gamma"] * group["beta1"] / (1 - group["beta1"]))
            torch._foreach_copy_(previous, gradients)
        advance(firsts, seconds, estimates, group)
        decay(weights, group)
        torch._foreach_addcdiv_(weights, firsts, denominators(seconds, group), -group["lr"])


def build(roles: Roles, hp: Hyperparameters, run: Run) -> Optimizer:
    return MARS(roles, hp)
