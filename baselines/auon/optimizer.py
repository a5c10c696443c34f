"""AuON: momentum over its norm, divided by the root mean square of a hyperbolic cosine. Maity 2025, arXiv:2509.24320.

    M <- momentum M + (1 - momentum) G              W, G, M, U, X, N (m, n): one shape
    U <- momentum M + (1 - momentum) G              Nesterov
    X <- U / ||U||_F in the "paper", U in the "code"; in Hybrid-AuON then NewtonSchulz(X)
    r <- rms(cosh(gamma N)),  N = X / ||X||_F       gamma: 1 in the paper, 1.5 in the code
    W <- (1 - lr weight_decay) W
    W <- W - lr scale X / r                         scale: sqrt(max(1, m / n)) in the paper, 1 in the code

The brake r does next to nothing. Entries of N have the mean square 1 / mn, so r is 1 + gamma^2 / 2mn, within 1e-4 of 1
from 128 x 128 on, and a single spike in 512 x 512 makes it 1.000009 in the code. Thus AuON of the paper is normalized
momentum, which is this file with gamma = 0; that of the code is SGD with Nesterov momentum; Hybrid-AuON Muon with few
Newton-Schulz steps. The hidden matrices only, block by block. State: one momentum per weight, fp32.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from bench.linalg.matrixwise import Matrixwise
from bench.linalg.newton_schulz import JORDAN, newton_schulz
from bench.linalg.sizes import spectral
from bench.roles import Roles, Run

SMALLEST_NORM = 1e-7  # a momentum of zeros must not divide by zero


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    lr: float  # peak; "paper": a step's Frobenius norm, with Newton-Schulz near its spectral one; "code": SGD's
    momentum: float
    form: Literal["paper", "code"]
    gamma: float  # of the brake; 0: none
    newton_schulz: int  # Jordan's steps, in fp32; 0: none
    weight_decay: float

    def __post_init__(self) -> None:
        if self.newton_schulz < 0:
            raise ValueError(f"newton_schulz is {self.newton_schulz!r}, expected a whole number from 0")


class AuON(Matrixwise):
    def begin(self, gradients: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        return {"momentum": torch.zeros_like(gradients)}

    def update(self, gradients: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> Tensor:
        momentum = state["momentum"].lerp_(gradients, 1 - group["momentum"])
        x = gradients.lerp_(momentum, group["momentum"])
        if group["newton_schulz"]:
            x = newton_schulz(x, JORDAN * group["newton_schulz"], x.dtype)
        elif group["form"] == "paper":
            x = unit(x)
        return x / braking(x, group["gamma"]) if group["gamma"] else x

    def size(self, rows: int, columns: int) -> float:
        return spectral(rows, columns) if self.defaults["form"] == "paper" else 1.0


def unit(stack: Tensor) -> Tensor:
    norm: Tensor = stack.norm(dim=(-2, -1), keepdim=True)
    return stack / (norm + SMALLEST_NORM)


def braking(stack: Tensor, gamma: float) -> Tensor:
    """Return the root mean squares (k, 1, 1) of cosh(gamma N)."""
    return unit(stack).mul_(gamma).cosh_().square_().mean(dim=(-2, -1), keepdim=True).sqrt_()


def build(roles: Roles, hp: Hyperparameters, run: Run) -> Optimizer:
    return AuON(roles.hidden, asdict(hp))
