"""Adam-mini: one second moment for a block of weights. Zhang et al. 2024, arXiv:2406.16793, Algorithms 1 and 2.

    m <- beta1 m + (1 - beta1) g                    w weight, g gradient, m momentum: one shape
    v <- beta2 v + (1 - beta2) mean of g^2          v one number for each block of w
    w <- (1 - lr weight_decay) w
    w <- w - lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)

Blocks: a head's rows in queries and keys; a row of any other matrix, and of the embedding and the head; all of a gain
or bias.

State: one momentum per weight and one number per block, fp32.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from bench.linalg.elementwise import Elementwise, decay
from bench.linalg.held import held
from bench.linalg.moments import denominators
from bench.roles import Matrix, Roles, Run


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    lr: float  # peak
    beta1: float
    beta2: float
    eps: float
    weight_decay: float  # matrices, embedding and head; gains and biases get none


Partition = list[tuple[int, int]]  # of a weight from above: rows, and how many blocks they make


def partition(matrix: Matrix) -> Partition:
    heads = matrix.heads or (0,) * len(matrix.blocks)
    return [(rows, count or rows) for rows, count in zip(matrix.blocks, heads, strict=True)]


class AdamMini(Elementwise):
    def __init__(self, roles: Roles, values: dict[str, Any]) -> None:
        super().__init__(roles, values)
        self._partitions = {matrix.weight: partition(matrix) for matrix in roles.hidden}
        self._partitions |= {w: [(len(w), len(w))] for w in (*roles.embedding, *roles.head)}
        self._partitions |= {w: [(len(w), 1)] for w in roles.vectors}

    def move(self, weights: tuple[Parameter, ...], gradients: tuple[Tensor, ...], group: dict[str, Any]) -> None:
        (momenta,) = held(self, weights, "momentum")
        torch._foreach_lerp_(momenta, gradients, 1 - group["beta1"])
        decay(weights, group)
        seconds = self._second_moments(weights)
        parts, moved, found = (self._cut(weights, tensors) for tensors in (weights, momenta, gradients))
        means = [torch.linalg.vector_norm(g, dim=1, keepdim=True).square_().div_(g.shape[1]) for g in found]
        torch._foreach_lerp_(seconds, means, 1 - group["beta2"])
        torch._foreach_addcdiv_(parts, moved, denominators(seconds, group), -group["lr"])

    def _second_moments(self, weights: Sequence[Parameter]) -> list[Tensor]:
        """Return v of all blocks, (blocks, 1), in the pieces that _cut makes."""
        pieces: list[Tensor] = []
        for w in weights:
            counts = [count for _, count in self._partitions[w]]
            if "second_moment" not in self.state[w]:
                self.state[w]["second_moment"] = w.new_zeros(sum(counts), 1)
            pieces += self.state[w]["second_moment"].split(counts)
        return pieces

    def _cut(self, weights: Sequence[Parameter], tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return views (blocks, entries of a block) of tensors shaped as the weights."""
        return [
            piece.view(count, -1)
            for w, tensor in zip(weights, tensors, strict=True)
            for piece, (_, count) in zip(
                tensor.split([rows for rows, _ in self._partitions[w]]), self._partitions[w], strict=True
            )
        ]


def build(roles: Roles, hp: Hyperparameters, run: Run) -> Optimizer:
    return AdamMini(roles, asdict(hp))
