"""MARS-M: Muon on a gradient whose variance is reduced. Liu, Yuan and Gu 2025, arXiv:2510.21800, Algorithm 1.

    c  = g + gamma momentum / (1 - momentum) (g - g')    w weight (out, in), g gradient, g' the one before: one shape
    c <- c / ||c||_F                                     where ||c||_F > 1
    m <- momentum m + (1 - momentum) c
    w <- (1 - lr weight_decay) w
    w <- w - lr scale NewtonSchulz(m)

    scale = 0.2 sqrt(max(out, in))                       "rms", MARS-M's, which is Moonlight's
    scale = sqrt(max(1, out / in))                       "spectral", MARS-Shampoo's: arXiv:2411.10438, Section 3.3

This is the approximate form: g' was taken on the batch before, not on the present one, which would cost a second pass.
The hidden matrices only; a weight that is several matrices side by side is as many. State, fp32: momentum and the
gradient before, which is zero at first. Newton-Schulz runs in bf16, as in the source.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from bench.linalg.matrixwise import Matrixwise
from bench.linalg.newton_schulz import orthogonalized
from bench.linalg.sizes import rms_matched, spectral
from bench.linalg.variance_reduction import corrected
from bench.roles import Roles, Run


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    lr: float  # peak; "rms": a step's size in AdamW's units; "spectral": times sqrt(max(1, out / in)) its spectral norm
    momentum: float
    gamma: float  # how much of the correction is taken; 0 is Muon without Nesterov on clipped gradients
    orthogonalization: Literal["jordan", "polar-express", "exact"]  # the coefficients of Newton-Schulz, or none
    newton_schulz_steps: int
    scaling: Literal["spectral", "rms"]
    weight_decay: float


class MARSMuon(Matrixwise):
    def begin(self, gradients: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        return {"momentum": torch.zeros_like(gradients), "previous": torch.zeros_like(gradients)}

    def update(self, gradients: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> Tensor:
        factor = group["gamma"] * group["momentum"] / (1 - group["momentum"])
        estimate = torch.stack(corrected(gradients.unbind(), state["previous"].unbind(), factor))
        state["previous"].copy_(gradients)
        momentum = state["momentum"].lerp_(estimate, 1 - group["momentum"])
        return orthogonalized(momentum, group["orthogonalization"], group["newton_schulz_steps"])

    def size(self, rows: int, columns: int) -> float:
        if self.defaults["scaling"] == "rms":
            return rms_matched(rows, columns)
        return spectral(rows, columns)


def build(roles: Roles, hp: Hyperparameters, run: Run) -> Optimizer:
    return MARSMuon(roles.hidden, asdict(hp))
