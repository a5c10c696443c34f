"""SGDP: momentum that does not step along weights without a scale. Heo et al. 2020, arXiv:2006.08217, Algorithm 1.

    m <- momentum m + g                             w weight, g gradient, m momentum, u step: one shape
    u  = m
    where max |cos(g, w)| < 0.1 / sqrt(n), of rows of n or of the whole weight of n entries:
        u <- u - (w . u) w / ||w||^2  in that view, and decay is a tenth of weight_decay
    w <- (1 - lr weight_decay / (1 - momentum)) w - lr u

State: one momentum per weight, fp32.
"""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from bench.linalg.elementwise import Elementwise
from bench.linalg.held import held
from bench.linalg.radial import remove_radial
from bench.roles import Roles, Run


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    lr: float  # peak, per unit of gradient
    momentum: float
    weight_decay: float  # matrices, embedding and head; gains and biases get none


class SGDP(Elementwise):
    def move(self, weights: tuple[Parameter, ...], gradients: tuple[Tensor, ...], group: dict[str, Any]) -> None:
        (momenta,) = held(self, weights, "momentum")
        torch._foreach_mul_(momenta, group["momentum"])
        torch._foreach_add_(momenta, gradients)
        steps = [m.clone() for m in momenta]  # what is removed from a step stays in the momentum
        ratios = remove_radial(steps, weights, gradients)
        decay = group["lr"] * group["weight_decay"] / (1 - group["momentum"])
        torch._foreach_mul_(weights, [1 - decay * ratio for ratio in ratios])
        torch._foreach_add_(weights, steps, alpha=-group["lr"])


def build(roles: Roles, hp: Hyperparameters, run: Run) -> Optimizer:
    return SGDP(roles, asdict(hp))
