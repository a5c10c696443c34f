"""MARS with both gradients on one batch. Yuan, Liu et al. 2024, arXiv:2411.10438, Algorithm 1 with Adam's moments.

    c  = g + gamma beta1 / (1 - beta1) (g - g')     g gradient, g' that at the weights before the last step, same batch
    c <- c / ||c||                                  where ||c|| > 1, of each tensor by itself
    m <- beta1 m + (1 - beta1) c
    v <- beta2 v + (1 - beta2) c^2
    w <- (1 - lr weight_decay) w - lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)

g' is one more pass a step; both are clipped to the task's norm, each by its own. In the first step g' = g. Gains and
biases have AdamW at a rate and betas of their own, as the paper's.

State: two moments and the weight before, fp32.
"""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from bench.linalg.held import held
from bench.linalg.variance_reduced_adam import VarianceReducedAdam
from bench.linalg.variance_reduction import corrected
from bench.probe import Gradients, Probe
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


class ExactMARS(VarianceReducedAdam):
    wants_probe = True

    def __init__(self, roles: Roles, values: dict[str, Any]) -> None:
        super().__init__(roles, values)
        self._there: Gradients = {}  # during a step

    @torch.no_grad()
    def step(self, probe: Probe) -> None:
        weights = [w for group in self.param_groups for w in group["params"]]
        before = {w: self.state[w]["previous_weight"] for w in weights if "previous_weight" in self.state[w]}
        self._there = probe.gradient(at=before, clipped=True) if before else {}
        if weights:
            (kept,) = held(self, weights, "previous_weight")
            torch._foreach_copy_(kept, weights)
        super().step()
        self._there = {}

    def estimates(self, weights: tuple[Parameter, ...], gradients: tuple[Tensor, ...], factor: float) -> list[Tensor]:
        return corrected(gradients, [self._there.get(w, g) for w, g in zip(weights, gradients, strict=True)], factor)


def build(roles: Roles, hp: Hyperparameters, run: Run) -> Optimizer:
    return ExactMARS(roles, asdict(hp))
