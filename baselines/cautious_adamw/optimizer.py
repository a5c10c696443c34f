"""C-AdamW: AdamW that leaves out what goes against the gradient. Liang et al. 2024, arXiv:2411.16085, Algorithm 1.

    m <- beta1 m + (1 - beta1) g                    w weight, g gradient, m and v moments: one shape
    v <- beta2 v + (1 - beta2) g^2
    u  = (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)
    u <- u 1[u g > 0] / mean(1[u g > 0])            the mean of each tensor by itself, 1e-3 at least
    w <- (1 - lr weight_decay) w - lr u

State: two moments per weight, fp32.
"""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from bench.linalg.caution import cautious
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


class CautiousAdamW(Elementwise):
    def move(self, weights: tuple[Parameter, ...], gradients: tuple[Tensor, ...], group: dict[str, Any]) -> None:
        firsts, seconds = held(self, weights, "first_moment", "second_moment")
        advance(firsts, seconds, gradients, group)
        decay(weights, group)
        kept = cautious(firsts, gradients)  # a step has the sign of its momentum
        torch._foreach_addcdiv_(weights, kept, denominators(seconds, group), -group["lr"])


def build(roles: Roles, hp: Hyperparameters, run: Run) -> Optimizer:
    return CautiousAdamW(roles, asdict(hp))
