"""Steps of the isotropic curvature model (a reconstruction). Su 2025, arXiv:2511.00674.

    m <- momentum m + (1 - momentum) g              w weight (out, in), g gradient, m momentum: one shape
    u <- momentum m + (1 - momentum) g              Nesterov, as in Muon;  u = U diag(sigma) V^T
    q <- U diag(s) V^T                              s of norm 1
    w <- (1 - lr weight_decay) w
    w <- w - lr update_rms sqrt(out in) q

The model's step Q minimizes -tr(Q u^T) + E H(||Q z||), z uniform on a sphere: it has u's singular vectors, and where H
grows faster than a square, singular values nearer to each other, in the same order. The paper leaves H open.

    "quartic"    H(r) = r^4:  2 s^3 + |s|^2 s = k sigma, k such that |s| = 1
    "power"      s ~ sigma^exponent: 0 would be Muon's exact polar factor, 1 normalized momentum

The first follows from E ||Q z||^4 ~ |s|^4 + 2 sum s^4; the second is no solution for a given H, but the line from one
extreme to the other. The hidden matrices only, block by block. State: one momentum per weight, fp32.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from bench.linalg.matrixwise import Matrixwise
from bench.linalg.spectrum import with_spectrum
from bench.roles import Roles, Run

HALVINGS = 52  # of an interval of length 2, in float64: k to its last bits


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    lr: float  # peak, as AdamW's: a coordinate moves by update_rms times this
    momentum: float
    spectrum: Literal["quartic", "power"]
    exponent: float  # of "power"
    update_rms: float
    weight_decay: float

    def __post_init__(self) -> None:
        if not 0 <= self.exponent <= 1:
            raise ValueError(f"exponent is {self.exponent}, expected a number from 0 to 1")


class IsotropicCurvature(Matrixwise):
    def begin(self, gradients: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        return {"momentum": torch.zeros_like(gradients)}

    def update(self, gradients: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> Tensor:
        momentum = state["momentum"].lerp_(gradients, 1 - group["momentum"])
        u = gradients.lerp_(momentum, group["momentum"])
        law = quartic if group["spectrum"] == "quartic" else lambda sigma: power(sigma, group["exponent"])
        return with_spectrum(u, law).mul_(group["update_rms"] * (u.shape[1] * u.shape[2]) ** 0.5)


def power(sigma: Tensor, exponent: float) -> Tensor:
    """Return sigma^exponent (k, n) of norm 1; zeros stay zeros."""
    return normalized(torch.where(sigma > 0, normalized(sigma) ** exponent, 0.0))


def quartic(sigma: Tensor) -> Tensor:
    """Return s (k, n) of norm 1 with 2 s^3 + s = k sigma for some k; zeros stay zeros.

    With |sigma| = 1: as s <= k sigma, k is at least 1; as 2 s^3 <= 2 s, it is at most 3. The norm of s grows with k.
    """
    x = normalized(sigma.double())
    low = torch.ones_like(x[:, :1])
    high = 3 * low
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        beyond = root(middle * x).square().sum(-1, keepdim=True) > 1
        low, high = torch.where(beyond, low, middle), torch.where(beyond, middle, high)
    return root(low * x).to(sigma.dtype)


def root(c: Tensor) -> Tensor:
    """Return the real root s of 2 s^3 + s = c, by the hyperbolic form of Cardano's formula."""
    return (2 / 6**0.5) * torch.sinh(torch.asinh(1.5 * 6**0.5 * c) / 3)


def normalized(x: Tensor) -> Tensor:
    """Return rows (k, n) of norm 1; rows of zeros stay so."""
    return torch.nn.functional.normalize(x, dim=-1, eps=torch.finfo(x.dtype).tiny)


def build(roles: Roles, hp: Hyperparameters, run: Run) -> Optimizer:
    return IsotropicCurvature(roles.hidden, asdict(hp))
