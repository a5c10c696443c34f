"""ARO with chain-coupled rotations (a reconstruction). Gong et al. 2026, arXiv:2602.09006, section 6.

A rotation of the residual stream turns what writes into it on the left, and what reads from it on the right: a network
without residual connections could have another basis after every layer. So there is one rotation R_l a place of the
chain, l = 0 to L: the readers of layer l + 1 and the writers of layer l share it.

    M_p <- momentum M_p + (1 - momentum) G_p        for each matrix p at the place; W, G, M (m, n), residual on the rows
    M   <- [M_1, M_2, ...]                          side by side, (m, N)
    R   <- QR(M f(R^T M)^T)                         R (m, min(m, N)), at first I; f the base map
    U_p <- R f(R^T M_p)
    W_p <- (1 - lr weight_decay) W_p
    W_p <- W_p - lr update_rms U_p / RMS(U_p)

The base map is Sinkhorn's rows and columns normalized at once, a sign, or rows of one norm. State, fp32: one momentum
per matrix, and one rotation a place, kept with the place's first weight.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from bench.linalg.base_maps import base_map, norm_of, of_rms
from bench.linalg.matrixwise import Matrixwise
from bench.linalg.qr import orthonormal_factor
from bench.roles import Matrix, Roles, Run


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    lr: float  # peak, as AdamW's: a coordinate moves by update_rms times this
    momentum: float
    base: Literal["sinkhorn", "sign", "row-norm"]
    sinkhorn_rounds: int
    qr: Literal["householder", "cholesky", "by device"]
    update_rms: float
    weight_decay: float


class ChainARO(Matrixwise):
    def __init__(self, matrices: Sequence[Matrix], defaults: dict[str, Any]) -> None:
        super().__init__(matrices, defaults)
        places: dict[int, list[Parameter]] = defaultdict(list)
        for matrix in matrices:
            places[matrix.layer + (matrix.residual == "out")].append(matrix.weight)
        self._places = list(places.values())

    @torch.no_grad()
    def step(self) -> None:
        (group,) = self.param_groups
        group["step"] += 1
        for place in self._places:
            weights = [w for w in place if w.grad is not None]
            if weights:
                self._step_place(place[0], weights, group)

    def _step_place(self, first: Parameter, weights: list[Parameter], group: dict[str, Any]) -> None:
        for w in weights:
            gradients = self._blocks(w, w.grad)
            if "momentum" not in self.state[w]:
                self.state[w]["momentum"] = torch.zeros_like(gradients, memory_format=torch.contiguous_format)
            self.state[w]["momentum"].lerp_(gradients, 1 - group["momentum"])
        wide = torch.cat([block for w in weights for block in self.state[w]["momentum"]], dim=-1)[None]
        rotation = self._rotated(first, wide / norm_of(wide), group)
        if group["weight_decay"]:
            torch._foreach_mul_(list[Tensor](weights), 1 - group["lr"] * group["weight_decay"])
        for alike in self._stacks(weights):
            momentum = torch.cat([self.state[w]["momentum"] for w in alike])
            rotated = rotation.mT @ (momentum / norm_of(momentum))
            updates = rotation @ base_map(rotated, group["base"], group["sinkhorn_rounds"])
            for w, part in self._parts(alike, of_rms(updates, group["update_rms"])):
                self._blocks(w, w).add_(part, alpha=-group["lr"])

    def _rotated(self, first: Parameter, unit: Tensor, group: dict[str, Any]) -> Tensor:
        """Return a place's new rotation (m, min(m, N)) for its momenta (1, m, N) of norm 1."""
        _, m, columns = unit.shape
        if "rotation" not in self.state[first]:
            self.state[first]["rotation"] = torch.eye(m, min(m, columns), dtype=unit.dtype, device=unit.device)
        rotation: Tensor = self.state[first]["rotation"]
        guide = base_map(rotation.mT @ unit, group["base"], group["sinkhorn_rounds"])
        return rotation.copy_(orthonormal_factor(unit @ guide.mT, group["qr"])[0])

    def flipped(self, matrix: Matrix, rows: int, columns: int) -> bool:
        return matrix.residual == "in"


def build(roles: Roles, hp: Hyperparameters, run: Run) -> Optimizer:
    return ChainARO(roles.hidden, asdict(hp))
