"""AdamP: Adam that does not step along weights without a scale. Heo et al. 2020, arXiv:2006.08217, Algorithm 2.

    m <- beta1 m + (1 - beta1) g                    w weight, g gradient, m and v moments: one shape
    v <- beta2 v + (1 - beta2) g^2
    u  = (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)
    where max |cos(g, w)| < 0.1 / sqrt(n), of rows of n or of the whole weight of n entries:
        u <- u - (w . u) w / ||w||^2  in that view, and decay is a tenth of weight_decay
    w <- (1 - lr weight_decay) w - lr u

State: two moments per weight, fp32.
"""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from bench.linalg.elementwise import Elementwise
from bench.linalg.held import held
from bench.linalg.moments import advance, denominators
from bench.linalg.radial import remove_radial
from bench.roles import Roles, Run


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    lr: float  # peak; a coordinate moves by at most about this much in a step
    beta1: float
    beta2: float
    eps: float
    weight_decay: float  # matrices, embedding and head; gains and biases get none


class AdamP(Elementwise):
    def move(self, weights: tuple[Parameter, ...], gradients: tuple[Tensor, ...], group: dict[str, Any]) -> None:
        firsts, seconds = held(self, weights, "first_moment", "second_moment")
        advance(firsts, seconds, gradients, group)
        steps = denominators(seconds, group)
        torch._foreach_reciprocal_(steps)
        torch._foreach_mul_(steps, firsts)
        ratios = remove_radial(steps, weights, gradients)
        decay = group["lr"] * group["weight_decay"]
        torch._foreach_mul_(weights, [1 - decay * ratio for ratio in ratios])
        torch._foreach_add_(weights, steps, alpha=-group["lr"])


def build(roles: Roles, hp: Hyperparameters, run: Run) -> Optimizer:
    return AdamP(roles, asdict(hp))
