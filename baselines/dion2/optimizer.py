"""Dion2: the largest slices of a buffer, orthogonalized alone, with error feedback. Ahn et al. 2025, arXiv:2512.16928.

    M <- M + G                              W weight (m, n), G gradient, M buffer: one shape
    K  = the share `fraction` of slices of M along its shorter side whose entries' absolute values sum to the most
    O  = NewtonSchulz(M_K)                  near the polar factor of those rows (or columns, where m > n)
    M_K <- momentum M_K                     error feedback: slices that were not stepped stay whole in M
    W <- (1 - lr weight_decay) W
    W_K <- W_K - lr sqrt(m / n) O

The number of slices is the nearest, and at least one. With a fraction of 1 it is Muon without Nesterov, a heavy-ball
momentum and another size. The hidden matrices only, block by block. State: M, fp32. Newton-Schulz runs in bf16, as in
the source.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from bench.linalg.matrixwise import Matrixwise
from bench.linalg.newton_schulz import orthogonalized
from bench.linalg.sizes import unit_gain
from bench.roles import Matrix, Roles, Run


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    lr: float  # peak; times sqrt(out / in), a step's spectral norm
    momentum: float  # share that stays of what was stepped
    fraction: float  # of the slices, above 0 and at most 1
    orthogonalization: Literal["jordan", "polar-express", "exact"]  # the coefficients of Newton-Schulz, or none
    newton_schulz_steps: int
    weight_decay: float

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 1:
            raise ValueError(f"fraction is {self.fraction}, expected a number above 0 and at most 1")


class Dion2(Matrixwise):
    def begin(self, gradients: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        return {"buffer": torch.zeros_like(gradients)}

    def update(self, gradients: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> Tensor:
        buffer = state["buffer"].add_(gradients)
        chosen = largest_rows(buffer, max(1, round(group["fraction"] * buffer.shape[1])))
        rows = buffer.gather(1, chosen)
        step = orthogonalized(rows, group["orthogonalization"], group["newton_schulz_steps"])
        buffer.scatter_(1, chosen, rows.mul_(group["momentum"]))
        return torch.zeros_like(buffer).scatter_(1, chosen, step)

    def size(self, rows: int, columns: int) -> float:
        return unit_gain(rows, columns)

    def flipped(self, matrix: Matrix, rows: int, columns: int) -> bool:
        return rows > columns


def largest_rows(stack: Tensor, count: int) -> Tensor:
    """Return for (k, m, n) the numbers of the rows of largest sums of absolute values, as an index (k, count, n)."""
    order = stack.abs().sum(-1).argsort(dim=-1, descending=True, stable=True)
    return order[:, :count, None].expand(-1, -1, stack.shape[2])


def build(roles: Roles, hp: Hyperparameters, run: Run) -> Optimizer:
    return Dion2(roles.hidden, asdict(hp))
