"""Schedule-Free AdamW: averaging in place of a schedule. Defazio et al. 2024, arXiv:2405.15682, Algorithm 1.

    y  = (1 - beta1) z + beta1 x                    the weights that train; g is their gradient
    v <- beta2 v + (1 - beta2) g^2                  x, y, z, v, g: one shape; z = x = y before the first step
    d  = g / (sqrt(v / (1 - beta2^t)) + eps) + weight_decay y
    z <- z - lr_t d
    x <- (1 - c) x + c z                            c = lr_t^2 / (lr_1^2 + ... + lr_t^2)

x, the mean of all z weighted by lr_t^2, is what is evaluated. It is not kept: it is y + (1 - 1 / beta1) (z - y), which
put in above leaves y <- (1 - c) y + c z - lr_t (1 - beta1 (1 - c)) d with the old z. lr_t never falls, so the largest
rate so far, by which the authors' code weights z, is the present one.

State: z and a second moment per weight, fp32.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from bench.linalg.held import held
from bench.roles import Roles, Run


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    lr: float  # after the warm-up; there is no decay
    beta1: float  # how far y lies from z towards x
    beta2: float
    eps: float
    weight_decay: float  # matrices, embedding and head; gains and biases get none

    def __post_init__(self) -> None:
        if self.beta1 == 0:
            raise ValueError("beta1 is 0, expected more: y would be z, and x could not be told from them")


class ScheduleFreeAdamW(Optimizer):
    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            group["step"] += 1
            group["sum"] += group["lr"] ** 2
            weights = [w for w in group["params"] if w.grad is not None]
            if not weights:
                continue
            lr, c = group["lr"], group["lr"] ** 2 / group["sum"] if group["sum"] else 0.0
            zs, seconds = self._held(weights)
            directions = _directions(weights, seconds, group)
            torch._foreach_lerp_(weights, zs, c)
            torch._foreach_add_(weights, directions, alpha=-lr * (1 - group["beta1"] * (1 - c)))
            torch._foreach_add_(zs, directions, alpha=-lr)

    def _held(self, weights: list[Parameter]) -> tuple[list[Tensor], list[Tensor]]:
        for w in weights:
            if "z" not in self.state[w]:
                self.state[w]["z"] = w.detach().clone()
        zs, seconds = held(self, weights, "z", "second_moment")
        return zs, seconds


def _directions(weights: list[Tensor], seconds: list[Tensor], group: dict[str, Any]) -> list[Tensor]:
    gradients = [w.grad for w in weights if w.grad is not None]
    torch._foreach_mul_(seconds, group["beta2"])
    torch._foreach_addcmul_(seconds, gradients, gradients, 1 - group["beta2"])
    directions = list(torch._foreach_sqrt(seconds))
    torch._foreach_div_(directions, math.sqrt(1 - group["beta2"] ** group["step"]))
    torch._foreach_add_(directions, group["eps"])
    torch._foreach_reciprocal_(directions)
    torch._foreach_mul_(directions, gradients)
    if group["weight_decay"]:
        torch._foreach_add_(directions, weights, alpha=group["weight_decay"])
    return directions


@contextmanager
def evaluation_weights(optimizers: Sequence[Optimizer]) -> Iterator[None]:
    """Put x where y is; whoever asks puts y back."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            weights = [w for w in group["params"] if "z" in optimizer.state.get(w, {})]  # x is y before a first step
            if weights:
                with torch.no_grad():
                    torch._foreach_lerp_(weights, [optimizer.state[w]["z"] for w in weights], 1 - 1 / group["beta1"])
    yield


def build(roles: Roles, hp: Hyperparameters, run: Run) -> Optimizer:
    decayed = [*roles.matrices, *roles.embedding, *roles.head]
    groups = [
        {"params": decayed, "weight_decay": hp.weight_decay, "step": 0, "sum": 0.0},
        {"params": list(roles.vectors), "weight_decay": 0.0, "step": 0, "sum": 0.0},
    ]
    return ScheduleFreeAdamW(groups, {"lr": hp.lr, "beta1": hp.beta1, "beta2": hp.beta2, "eps": hp.eps})
