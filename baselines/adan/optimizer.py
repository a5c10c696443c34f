"""Adan: Nesterov momentum from differences of gradients. Xie et al. 2022, arXiv:2208.06677, Algorithm 1, no restarts.

    d  = g - g'                                     w weight, g gradient, g' the one before, m, q, v: one shape
    m <- beta1 m + (1 - beta1) g                    d is zero in the first step
    q <- beta2 q + (1 - beta2) d
    v <- beta3 v + (1 - beta3) (g + beta2 d)^2
    u  = (m / (1 - beta1^t) + beta2 q / (1 - beta2^t)) / (sqrt(v / (1 - beta3^t)) + eps)
    w <- (w - lr u) / (1 + lr weight_decay)

The betas are what is kept; the paper writes what is replaced.

State: three moments and the gradient before, fp32.
"""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from bench.linalg.elementwise import Elementwise
from bench.linalg.held import held
from bench.linalg.moments import advance_second, denominators
from bench.roles import Roles, Run


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    lr: float  # peak
    beta1: float  # of the gradient
    beta2: float  # of its differences
    beta3: float  # of the squares
    eps: float
    weight_decay: float  # proximal; matrices, embedding and head; gains and biases get none


class Adan(Elementwise):
    def move(self, weights: tuple[Parameter, ...], gradients: tuple[Tensor, ...], group: dict[str, Any]) -> None:
        for w, g in zip(weights, gradients, strict=True):
            if "previous_gradient" not in self.state[w]:
                self.state[w]["previous_gradient"] = g.clone()
        names = ("first_moment", "difference_moment", "second_moment", "previous_gradient")
        firsts, differences, seconds, previous = held(self, weights, *names)
        changes = list(torch._foreach_sub(gradients, previous))
        torch._foreach_copy_(previous, gradients)
        torch._foreach_lerp_(firsts, gradients, 1 - group["beta1"])
        torch._foreach_lerp_(differences, changes, 1 - group["beta2"])
        torch._foreach_mul_(changes, group["beta2"])
        torch._foreach_add_(changes, gradients)
        advance_second(seconds, changes, group["beta3"])
        self._step_by(weights, firsts, differences, denominators(seconds, group, group["beta3"]), group)

    def _step_by(
        self, weights: tuple[Parameter, ...], firsts: list[Tensor], differences: list[Tensor], under: list[Tensor],
        group: dict[str, Any],
    ) -> None:  # fmt: skip
        first, second = (1 - group[beta] ** group["step"] for beta in ("beta1", "beta2"))
        torch._foreach_addcdiv_(weights, firsts, under, -group["lr"])
        torch._foreach_addcdiv_(weights, differences, under, -group["lr"] * group["beta2"] * first / second)
        if group["weight_decay"]:
            torch._foreach_div_(weights, 1 + group["lr"] * group["weight_decay"])


def build(roles: Roles, hp: Hyperparameters, run: Run) -> Optimizer:
    return Adan(roles, asdict(hp))
