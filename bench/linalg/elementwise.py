"""The shell of an element-wise method: groups, step count, weights without a gradient. A method adds its own `move`."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from bench.roles import Roles

CACHED = 2**18  # entries that go together on a CPU, unless one weight has more: 1 MiB of fp32, so that caches hold them


class Elementwise(Optimizer):
    """Moves every weight of the model by foreach kernels, on a GPU a whole group at a time.

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
            for weights, gradients in batches(group):
                self.move(weights, gradients, group)


def batches(group: dict[str, Any]) -> Iterator[tuple[tuple[Parameter, ...], tuple[Tensor, ...]]]:
    """Yield the weights that have gradients, with them: all at once, or on a CPU as many as its caches hold."""
    weights: list[Parameter] = [w for w in group["params"] if w.grad is not None]
    first, entries = 0, 0
    for place, w in enumerate(weights):
        if place > first and w.device.type == "cpu" and entries + w.numel() > CACHED:
            yield _with_gradients(weights[first:place])
            first, entries = place, 0
        entries += w.numel()
    if weights:
        yield _with_gradients(weights[first:])


def _with_gradients(weights: Sequence[Parameter]) -> tuple[tuple[Parameter, ...], tuple[Tensor, ...]]:
    return tuple(weights), tuple(w.grad for w in weights if w.grad is not None)


def decay(weights: tuple[Parameter, ...], group: dict[str, Any]) -> None:
    """w <- (1 - lr weight_decay) w: decoupled decay, under the scheduled rate."""
    if group["weight_decay"]:
        torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
