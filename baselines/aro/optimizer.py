"""ARO, adaptively rotated optimization (a reconstruction). Gong et al. 2026, arXiv:2602.09006, equation 4.

    M <- momentum M + (1 - momentum) G         W, G, M (m, n), the residual stream on the rows
    R <- QR(M f(R^T M)^T)                      R (m, min(m, n)), at first I; the orthonormal factor; f the base map
    U <- R f(R^T M)
    W <- (1 - lr weight_decay) W
    W <- W - lr update_rms U / RMS(U)

The base map is Sinkhorn's rows and columns normalized at once, a sign, or rows of one norm; of the last, U tends to
Muon's polar factor. With rotation "eigen" the second line is R <- QR(M M^T R), f left out: a step of power iteration to
the eigenvectors of M M^T, in whose basis SOAP runs Adam. Where m > n, the columns of R beyond n would meet zero rows of
R^T M, and are left out. State: one momentum and one rotation per block, fp32.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args, get_type_hints

import torch
from torch import Tensor
from torch.nn.functional import normalize
from torch.optim import Optimizer

from bench.linalg.matrixwise import Matrixwise
from bench.linalg.qr import orthonormal_factor
from bench.linalg.sinkhorn import sinkhorn
from bench.roles import Matrix, Roles, Run

ROUNDING = 8.0  # units: rows of R^T M below it by ||M||_F are error, which a base map would make as large as any
SMALLEST_NORM = 1e-20  # an all-zero momentum must not divide by zero


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    lr: float  # peak, as AdamW's: a coordinate moves by update_rms times this
    momentum: float
    base: Literal["sinkhorn", "sign", "row-norm"]
    sinkhorn_rounds: int
    rotation: Literal["aro", "eigen"]
    qr: Literal["householder", "cholesky", "by device"]
    update_rms: float
    weight_decay: float

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(type(self)).items():
            known, value = get_args(kind), getattr(self, name)
            if known and value not in known:
                raise ValueError(f"{name} is {value!r}, expected one of {', '.join(known)}")


class ARO(Matrixwise):
    def begin(self, gradients: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        k, m, n = gradients.shape
        identity = torch.eye(m, min(m, n), dtype=gradients.dtype, device=gradients.device)
        return {"momentum": torch.zeros_like(gradients), "rotation": identity.repeat(k, 1, 1)}

    def update(self, gradients: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> Tensor:
        momentum = state["momentum"].lerp_(gradients, 1 - group["momentum"])
        unit = momentum / norm_of(momentum)
        rotated = state["rotation"].mT @ unit
        guide = rotated if group["rotation"] == "eigen" else based(rotated, group)
        rotation = state["rotation"] = orthonormal_factor(unit @ guide.mT, group["qr"])
        update = rotation @ based(rotation.mT @ unit, group)
        return update.mul_(group["update_rms"] * (update.shape[1] * update.shape[2]) ** 0.5 / norm_of(update))

    def flipped(self, matrix: Matrix, rows: int, columns: int) -> bool:
        return matrix.residual == "in"


def based(rotated: Tensor, group: dict[str, Any]) -> Tensor:
    """Return the base map of rotated matrices (k, m, n) of norm 1, rows of mere rounding error made zero."""
    error = ROUNDING * torch.finfo(rotated.dtype).eps
    x = rotated.masked_fill(rotated.norm(dim=-1, keepdim=True) <= error, 0.0)
    if group["base"] == "sinkhorn":
        return sinkhorn(x, group["sinkhorn_rounds"], simultaneous=True)
    return x.sign() if group["base"] == "sign" else normalize(x, dim=-1)


def norm_of(stack: Tensor) -> Tensor:
    norm: Tensor = stack.norm(dim=(-2, -1), keepdim=True).clamp(min=SMALLEST_NORM)
    return norm


def build(roles: Roles, hp: Hyperparameters, run: Run) -> Optimizer:
    return ARO(roles.hidden, asdict(hp))
