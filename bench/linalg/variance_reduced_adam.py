"""The shell of MARS with Adam's moments. Yuan, Liu et al. 2024, arXiv:2411.10438, Algorithms 1 and 2.

    m <- beta1 m + (1 - beta1) c                    c as in bench.linalg.variance_reduction, m and v of its shape
    v <- beta2 v + (1 - beta2) c^2
    w <- (1 - lr weight_decay) w - lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)

Gains and biases have AdamW at a rate and betas of their own, as the paper's. What a form adds is its own `estimates`.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from bench.linalg.elementwise import Elementwise, decay
from bench.linalg.held import held
from bench.linalg.moments import advance, denominators
from bench.roles import Roles


class VarianceReducedAdam(Elementwise):
    """values: lr, beta1, beta2, eps, gamma, weight_decay, and vector_lr_factor, vector_beta1, vector_beta2."""

    def __init__(self, roles: Roles, values: dict[str, Any]) -> None:
        own = {name: values[f"vector_{name}"] for name in ("beta1", "beta2")}
        rate = values["lr"] * values["vector_lr_factor"]
        super().__init__(roles, values, vectors={**own, "lr": rate, "gamma": None})

    def estimates(self, weights: tuple[Parameter, ...], gradients: tuple[Tensor, ...], factor: float) -> list[Tensor]:
        """Return c of each weight; factor is gamma beta1 / (1 - beta1)."""
        raise NotImplementedError

    def move(self, weights: tuple[Parameter, ...], gradients: tuple[Tensor, ...], group: dict[str, Any]) -> None:
        firsts, seconds = held(self, weights, "first_moment", "second_moment")
        estimates: Any = gradients
        if group["gamma"] is not None:
            estimates = self.estimates(weights, gradients, group["gamma"] * group["beta1"] / (1 - group["beta1"]))
        advance(firsts, seconds, estimates, group)
        decay(weights, group)
        torch._foreach_addcdiv_(weights, firsts, denominators(seconds, group), -group["lr"])
