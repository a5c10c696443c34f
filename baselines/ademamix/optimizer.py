"""AdEMAMix: Adam with a second, slow momentum. Pagliardini, Ablin and Grangier 2024, arXiv:2409.03137, Algorithm 1.

    f <- beta1 f + (1 - beta1) g                    w weight, g gradient, f fast and s slow momentum, v: one shape
    s <- b s + (1 - b) g
    v <- beta2 v + (1 - beta2) g^2
    w <- w - lr ((f / (1 - beta1^t) + a s) / (sqrt(v / (1 - beta2^t)) + eps) + weight_decay w)

a rises linearly to alpha over the run, and the half-life of b from beta1's to beta3's, so that the slow momentum does
not start with a few gradients only. It has no bias correction. beta3 is told by its time constant, 1 / (1 - beta3).

State: two momenta and a second moment per weight, fp32.
"""

import math
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
    slow_time_constant: float  # steps; of the slow momentum at the end of the run, whose beta3 is 1 - 1 / this
    alpha: float  # weight of the slow momentum at the end of the run
    eps: float
    weight_decay: float  # matrices, embedding and head; gains and biases get none

    def __post_init__(self) -> None:
        if self.beta1 == 0:
            raise ValueError("beta1 is 0, expected more: it has no half-life to start with")
        if self.slow_time_constant <= 1:
            raise ValueError(f"slow_time_constant is {self.slow_time_constant}, expected more than 1 step")


class AdEMAMix(Elementwise):
    def move(self, weights: tuple[Parameter, ...], gradients: tuple[Tensor, ...], group: dict[str, Any]) -> None:
        fast, slow, seconds = held(self, weights, "fast_momentum", "slow_momentum", "second_moment")
        part = min(1.0, group["step"] / group["steps"])
        beta3 = slowing(group["beta1"], 1 - 1 / group["slow_time_constant"], part)
        alpha = part * group["alpha"]
        advance(fast, seconds, gradients, group)
        torch._foreach_lerp_(slow, gradients, 1 - beta3)
        mixed = torch._foreach_add(fast, slow, alpha=alpha * (1 - group["beta1"] ** group["step"]))
        decay(weights, group)
        torch._foreach_addcdiv_(weights, mixed, denominators(seconds, group), -group["lr"])


def slowing(first: float, last: float, part: float) -> float:
    """Return the beta whose half-life lies the given part of the way from the first's to the last's."""
    return math.exp(1 / ((1 - part) / math.log(first) + part / math.log(last)))


def build(roles: Roles, hp: Hyperparameters, run: Run) -> Optimizer:
    return AdEMAMix(roles, {**asdict(hp), "steps": run.steps})
