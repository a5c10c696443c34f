"""Adam's moments and what divides a step by them. Kingma and Ba 2014, arXiv:1412.6980, Algorithm 1.

    m <- beta1 m + (1 - beta1) g                    m, v, g: one shape
    v <- beta2 v + (1 - beta2) g^2
    (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)     Adam's direction

beta1, beta2, eps and the step t, from 1, are read off the group.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

Tensors = list[Tensor] | tuple[Tensor, ...]


def advance(firsts: Tensors, seconds: Tensors, gradients: Tensors, group: dict[str, Any]) -> None:
    """Take gradients into both moments, in place."""
    torch._foreach_lerp_(firsts, gradients, 1 - group["beta1"])
    advance_second(seconds, gradients, group["beta2"])


def advance_second(seconds: Tensors, gradients: Tensors, beta2: float) -> None:
    torch._foreach_mul_(seconds, beta2)
    torch._foreach_addcmul_(seconds, gradients, gradients, 1 - beta2)


def denominators(seconds: Sequence[Tensor], group: dict[str, Any], beta2: float | None = None) -> list[Tensor]:
    """Return (1 - beta1^t) (sqrt(v / (1 - beta2^t)) + eps): m over it is Adam's direction. beta2 is the group's, or v's
    own where it goes by another name."""
    betas = group["beta1"], group["beta2"] if beta2 is None else beta2
    first, second = (1 - beta ** group["step"] for beta in betas)
    found = list(torch._foreach_sqrt(list(seconds)))
    torch._foreach_mul_(found, first / math.sqrt(second))
    torch._foreach_add_(found, first * group["eps"])
    return found
