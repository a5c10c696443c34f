"""Prodigy: Adam that finds its own step size. Mishchenko and Defazio 2023, arXiv:2306.06101, Algorithm 4.

    b = sqrt(beta2);   a = d lr sqrt(1 - beta2^t) / (1 - beta1^t)     W weight, G gradient, m, v, s: one shape
    n <- b n + (d / d0) a <G, W0 - W>               W0 weight before the first step
    s <- b s + (d / d0) d G                         d for a: the authors' safeguard, as a is small in a warm-up
    m <- beta1 m + (1 - beta1) d G
    v <- beta2 v + (1 - beta2) d^2 G^2
    W <- (1 - a weight_decay) W - a m / (sqrt(v) + d eps)
    d <- max(d, n / ||s||_1)                        n, d and the norm are one number for all weights

d is a lower bound of the distance from W0 to a solution, and what Adam's rate should be; lr is the schedule.

State: two moments, s and W0 per weight, fp32.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from bench.linalg.elementwise import Elementwise, batches
from bench.linalg.held import held
from bench.roles import Roles, Run


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    lr: float  # peak, of the rate over d
    beta1: float
    beta2: float
    d0: float  # d before the first step
    eps: float
    weight_decay: float  # matrices, embedding and head; gains and biases get none

    def __post_init__(self) -> None:
        if self.d0 <= 0:
            raise ValueError(f"d0 is {self.d0}, expected more than 0: it never grows from there")


class Prodigy(Elementwise):
    @torch.no_grad()
    def step(self) -> None:
        """Step all groups at one d, which is kept in each of them, and then let d grow."""
        sums: list[Tensor] = []
        for group in self.param_groups:
            group["step"] += 1
            group["numerator"] *= math.sqrt(group["beta2"])
            for weights, gradients in batches(group):
                sums.append(self._estimate(weights, gradients, group))
                self.move(weights, gradients, group)
        if not sums:
            return
        along, total = torch.stack(sums).sum(0).tolist()
        for group in self.param_groups:
            group["numerator"] += group["d"] / group["d0"] * rate(group) * along
            if total > 0:
                group["d"] = max(group["d"], group["numerator"] / total)

    def _estimate(self, weights: tuple[Parameter, ...], gradients: tuple[Tensor, ...], group: dict[str, Any]) -> Tensor:
        """Take gradients into s and return (<G, W0 - W>, ||s||_1), summed over weights; W has not moved yet."""
        for w in weights:
            if "start" not in self.state[w]:
                self.state[w]["start"] = w.detach().clone()
        names = ("first_moment", "second_moment", "sum", "start")
        firsts, seconds, sums, starts = held(self, weights, *names)
        d, b = group["d"], math.sqrt(group["beta2"])
        torch._foreach_mul_(firsts, group["beta1"])
        torch._foreach_add_(firsts, gradients, alpha=d * (1 - group["beta1"]))
        torch._foreach_mul_(seconds, group["beta2"])
        torch._foreach_addcmul_(seconds, gradients, gradients, d * d * (1 - group["beta2"]))
        torch._foreach_mul_(sums, b)
        torch._foreach_add_(sums, gradients, alpha=d * d / group["d0"])
        ways = torch._foreach_sub(starts, weights)
        along = [torch.dot(g.flatten(), way.flatten()) for g, way in zip(gradients, ways, strict=True)]
        sizes = [torch.abs(s, out=way).sum() for s, way in zip(sums, ways, strict=True)]  # a norm of order 1 is slower
        return torch.stack([torch.stack(along).sum(), torch.stack(sizes).sum()])

    def move(self, weights: tuple[Parameter, ...], gradients: tuple[Tensor, ...], group: dict[str, Any]) -> None:
        firsts, seconds = held(self, weights, "first_moment", "second_moment")
        if group["weight_decay"]:
            torch._foreach_mul_(weights, 1 - rate(group) * group["weight_decay"])
        under = list(torch._foreach_sqrt(seconds))
        torch._foreach_add_(under, group["d"] * group["eps"])
        torch._foreach_addcdiv_(weights, firsts, under, -rate(group))


def rate(group: dict[str, Any]) -> float:
    """Return a, of the present step."""
    first, second = (1 - group[beta] ** group["step"] for beta in ("beta1", "beta2"))
    return float(group["d"] * group["lr"] * math.sqrt(second) / first)


def build(roles: Roles, hp: Hyperparameters, run: Run) -> Optimizer:
    return Prodigy(roles, {**asdict(hp), "d": hp.d0, "numerator": 0.0})
