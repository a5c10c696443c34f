"""Dion: a low-rank orthonormal step by one power iteration, with error feedback. Ahn et al. 2025, arXiv:2504.05295.

    M <- M + G                              W weight (m, n), G gradient, M buffer: one shape
    P <- QR(M Q)                            P (m, r) orthonormal; Q (n, r) normal numbers at first
    R <- M^T P                              (n, r): P R^T is near M's best approximation of rank r, from step to step
    M <- M - (1 - momentum) P R^T           error feedback: what was not stepped stays whole in M
    Q <- R, its columns of norm 1
    W <- (1 - lr weight_decay) W
    W <- W - lr sqrt(m / n) P Q^T

r is rank_fraction of the shorter side, rounded up. At full rank and a gradient that stays, P Q^T tends to M's polar
factor. A column of R that is mere rounding error, as where M has a lower rank, becomes zero instead of a step. Q's
stream depends on the seed and the matrix's number only, so it is the same on any number of ranks. The hidden matrices
only, block by block. State, fp32: M and Q, 4 (1 + r / m) bytes a parameter.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import count
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from bench.linalg.matrixwise import Matrixwise
from bench.linalg.qr import orthonormal_factor
from bench.linalg.sizes import unit_gain
from bench.roles import Matrix, Roles, Run

ROUNDING = 8.0  # units: columns of R below it by ||M||_F are error, which norm 1 would make as large as any


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    lr: float  # peak; times sqrt(out / in), a step's spectral norm
    momentum: float  # share that stays of what was stepped
    rank_fraction: float  # of the shorter side
    qr: Literal["householder", "cholesky", "by device"]
    weight_decay: float

    def __post_init__(self) -> None:
        if not 0 < self.rank_fraction <= 1:
            raise ValueError(f"rank_fraction is {self.rank_fraction}, expected a number above 0 and at most 1")


class Dion(Matrixwise):
    def __init__(self, matrices: Sequence[Matrix], defaults: dict[str, Any]) -> None:
        super().__init__(matrices, defaults)
        numbers = count(defaults["seed"])
        self._numbers_of = {matrix.weight: [next(numbers) for _ in matrix.blocks] for matrix in matrices}

    def begin(self, gradients: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        k, m, n = gradients.shape
        basis = gradients.new_empty(k, n, math.ceil(group["rank_fraction"] * min(m, n)))
        generator = torch.Generator(gradients.device)
        for number, part in zip(self._numbers, basis, strict=True):
            part.normal_(generator=generator.manual_seed(number))
        return {"buffer": torch.zeros_like(gradients), "basis": basis}

    def update(self, gradients: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> Tensor:
        buffer = state["buffer"].add_(gradients)
        error = ROUNDING * torch.finfo(buffer.dtype).eps * buffer.norm(dim=(-2, -1), keepdim=True)
        p = orthonormal_factor(buffer @ state["basis"], group["qr"])
        r = buffer.mT @ p
        buffer.baddbmm_(p, r.mT, alpha=group["momentum"] - 1)
        norms = r.norm(dim=-2, keepdim=True)
        state["basis"] = torch.where(norms > error, r / norms, 0.0)
        return p @ state["basis"].mT

    def size(self, rows: int, columns: int) -> float:
        return unit_gain(rows, columns)

    def _step_together(self, weights: list[Parameter], group: dict[str, Any]) -> None:
        self._numbers = [number for w in weights for number in self._numbers_of[w]]
        super()._step_together(weights, group)


def build(roles: Roles, hp: Hyperparameters, run: Run) -> Optimizer:
    seed = int(torch.randint(2**31, (), generator=run.generator, device=run.device))
    return Dion(roles.hidden, {**asdict(hp), "seed": seed})
