"""The shell of an element-wise method: groups, step count, weights without a gradient. A method adds its own `move`."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from bench.roles import Roles


class Elementwise(Optimizer):
    """Moves every weight of the model, a whole group at a time, by foreach kernels.

    Two groups: matrices, embedding and head, which decay; gains and biases, which do not, and which may have values of
    their own. group["step"] counts from 1; lr, weight_decay and all else that move() reads stand in the groups.
    """

    def __init__(self, roles: Roles, values: dict[str, Any], vectors: dict[str, Any] | None = None) -> None:
        groups = [
            {"params": [*roles.matrices, *roles.embedding, *roles.head], "step": 0},
            {"params": list(roles.vectors), "step": 0, "weight_decay": 0.0, **(vectors or {})},
        ]
        super().__init__(groups, values)

    def move(self, weights: tuple[Parameter, ...], gradients: tuple[Tensor, ...], group: dict[str, Any]) -> None:
        """Decay and step the weights, in place. Gradients are the optimizer's to read, not to write over."""
        raise NotImplementedError

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            group["step"] += 1
            weights = tuple(w for w in group["params"] if w.grad is not None)
            if weights:
                self.move(weights, tuple(w.grad for w in weights), group)


def decay(weights: tuple[Parameter, ...], group: dict[str, Any]) -> None:
    """w <- (1 - lr weight_decay) w: decoupled decay, under the scheduled rate."""
    if group["weight_decay"]:
        torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
