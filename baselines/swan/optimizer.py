"""SWAN: the gradient, its rows standardized, then whitened; no state. Ma et al. 2024, arXiv:2412.13148, Algorithm 1.

    X <- (G - row means) / row standard deviations          W, G, X (m, n) = (out, in): one shape
    D <- (X X^T)^(-1/2) X                                   by coupled Newton-Schulz steps (bench.linalg.whitening)
    W <- (1 - lr weight_decay) W
    W <- W - lr lr_factor D ||X||_F / ||D||_F               the root mean square of a step is lr lr_factor

Where m >= n, X X^T has no inverse: rows of X sum to 0. There it is whitened from the right, which is the same where the
inverse is taken of what can be inverted. The hidden matrices only, block by block. Computed in fp32, as in the source.
"""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from bench.linalg.matrixwise import Matrixwise
from bench.linalg.whitening import whitened
from bench.roles import Roles, Run


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    lr: float  # peak; a coordinate moves by lr_factor times this
    lr_factor: float
    newton_schulz_steps: int
    newton_schulz_beta: float
    weight_decay: float


class SWAN(Matrixwise):
    def update(self, gradients: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> Tensor:
        x = standardized(gradients)
        d = whitened(x, group["newton_schulz_steps"], group["newton_schulz_beta"])
        return d.mul(group["lr_factor"] * norm_of(x) / norm_of(d).clamp(min=torch.finfo(d.dtype).tiny))


def standardized(stack: Tensor) -> Tensor:
    """Return (k, m, n) with rows of mean 0 and standard deviation 1; rows of one value only become zero."""
    largest = stack.abs().amax(dim=-1, keepdim=True)
    x = stack / largest.clamp(min=torch.finfo(stack.dtype).tiny)  # whose squares stay in the range of fp32
    x = x - x.mean(dim=-1, keepdim=True)
    deviation = x.square().mean(dim=-1, keepdim=True).sqrt()
    rounding = stack.shape[-1] ** 0.5 * torch.finfo(stack.dtype).eps  # of a mean of entries up to 1
    return torch.where(deviation > rounding, x / deviation, 0.0)


def norm_of(stack: Tensor) -> Tensor:
    norm: Tensor = stack.norm(dim=(-2, -1), keepdim=True)
    return norm


def build(roles: Roles, hp: Hyperparameters, run: Run) -> Optimizer:
    return SWAN(roles.hidden, asdict(hp))
