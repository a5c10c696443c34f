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

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from bench.linalg.held import held
from bench.linalg.variance_reduced_adam import VarianceReducedAdam
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


class MARS(VarianceReducedAdam):
    def estimates(self, weights: tuple[Parameter, ...], gradients: tuple[Tensor, ...], factor: float) -> list[Tensor]:
        (previous,) = held(self, weights, "previous_gradient")
        found = corrected(gradients, previous, factor)
        torch._foreach_copy_(previous, gradients)
        return found


def build(roles: Roles, hp: Hyperparameters, run: Run) -> Optimizer:
    return MARS(roles, asdict(hp))
