"""ARO, adaptively rotated optimization (a reconstruction). Gong et al. 2026, arXiv:2602.09006, equation 4.

    M <- momentum M + (1 - momentum) G         W, G, M (m, n), the residual stream on the rows
    R <- QR(M f(R^T M)^T)                      R (m, min(m, n)), at first I; the orthonormal factor; f the base map
    U <- R f(R^T M)
    W <- (1 - lr weight_decay) W
    W <- W - lr update_rms U / RMS(U)

The base map is Sinkhorn's rows and columns normalized at once, a sign, or rows of one norm; of the last, U tends to
Muon's polar factor. Adam's has a state, V of the shape of R^T M, which follows the rotated momentum and is not rotated:

    f(X) = X / sqrt(beta2 V + (1 - beta2) X^2)     twice a step: what V would be at the last R finds R, and is dropped;
    V <- beta2 V + (1 - beta2) X^2                 what it is at the new one is kept

With rotation "eigen" the second line is R <- QR(M M^T R), f left out: a step of power iteration to the eigenvectors of
M M^T, in whose basis SOAP runs Adam. Where m > n, the columns of R beyond n would meet zero rows of R^T M, and are left
out. State, fp32: one momentum and one rotation per block, and V with Adam's base map.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from bench.linalg.base_maps import base_map, norm_of, of_rms, without_rounding
from bench.linalg.matrixwise import Matrixwise
from bench.linalg.qr import orthonormal_factor
from bench.roles import Matrix, Roles, Run


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    lr: float  # peak, as AdamW's: a coordinate moves by update_rms times this
    momentum: float
    base: Literal["sinkhorn", "sign", "row-norm", "adam"]
    sinkhorn_rounds: int
    beta2: float  # of Adam's base map
    rotation: Literal["aro", "eigen"]
    qr: Literal["householder", "cholesky", "by device"]
    update_rms: float
    weight_decay: float


class ARO(Matrixwise):
    def begin(self, gradients: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        k, m, n = gradients.shape
        identity = torch.eye(m, min(m, n), dtype=gradients.dtype, device=gradients.device)
        state = {"momentum": torch.zeros_like(gradients), "rotation": identity.repeat(k, 1, 1)}
        if group["base"] == "adam":
            state["second"] = gradients.new_zeros(k, min(m, n), n)
        return state

    def update(self, gradients: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> Tensor:
        momentum = state["momentum"].lerp_(gradients, 1 - group["momentum"])
        norm = norm_of(momentum)
        unit = momentum / norm
        rotated = state["rotation"].mT @ unit
        guide = rotated if group["rotation"] == "eigen" else based(rotated, norm, state, group)
        rotation = state["rotation"] = orthonormal_factor(unit @ guide.mT, group["qr"])
        step = based(rotation.mT @ unit, norm, state, group, keep=True)
        return of_rms(rotation @ step, group["update_rms"])

    def flipped(self, matrix: Matrix, rows: int, columns: int) -> bool:
        return matrix.residual == "in"


def based(rotated: Tensor, norm: Tensor, state: dict[str, Tensor], group: dict[str, Any], keep: bool = False) -> Tensor:
    """Return the base map of rotated momenta (k, m, n), given over their norms (k, 1, 1); keep what Adam's has seen."""
    if group["base"] != "adam":
        return base_map(rotated, group["base"], group["sinkhorn_rounds"])
    x = without_rounding(rotated) * norm
    second = state["second"].lerp(x.square(), 1 - group["beta2"])
    if keep:
        state["second"] = second
    return x / second.sqrt().clamp(min=torch.finfo(x.dtype).tiny)


def build(roles: Roles, hp: Hyperparameters, run: Run) -> Optimizer:
    return ARO(roles.hidden, asdict(hp))
