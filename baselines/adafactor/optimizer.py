"""Adafactor: a second moment of rank one. Shazeer and Stern 2018, arXiv:1804.04235, Algorithm 4, no momentum.

    b = 1 - t^-decay_exponent                       W weight (m, n), G gradient, R (m, 1), C (1, n)
    R <- b R + (1 - b) mean of G^2 + EPS1 over columns
    C <- b C + (1 - b) mean of G^2 + EPS1 over rows
    U  = G / sqrt(R C / mean(R));   U <- U / max(1, rms(U))
    W <- (1 - lr weight_decay) W - max(EPS2, rms(W)) min(lr, 1 / sqrt(t)) U

Of gains and biases the second moment is an average of G^2 + EPS1 itself.

State: R and C, 4 (m + n) / (m n) bytes per parameter; gains and biases a second moment; fp32.
"""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from bench.linalg.elementwise import Elementwise, decay
from bench.roles import Roles, Run

EPS1 = 1e-30  # the paper's: of a squared gradient
EPS2 = 1e-3  # the paper's: root mean square that a weight is taken to have at least


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    lr: float  # peak, of a step relative to the root mean square of a weight
    decay_exponent: float  # how fast the averages lengthen
    weight_decay: float  # matrices, embedding and head; gains and biases get none


class Adafactor(Elementwise):
    def move(self, weights: tuple[Parameter, ...], gradients: tuple[Tensor, ...], group: dict[str, Any]) -> None:
        newest = group["step"] ** -group["decay_exponent"]
        relative = min(group["lr"], group["step"] ** -0.5)
        rates = torch._foreach_norm(weights)
        torch._foreach_div_(rates, [w.numel() ** 0.5 for w in weights])
        torch._foreach_clamp_min_(rates, EPS2)
        decay(weights, group)
        for w, g, rate in zip(weights, gradients, rates, strict=True):
            squares = g * g
            scales = self._matrix(w, squares, newest) if w.ndim == 2 else self._line(w, squares, newest)
            w.addcmul_(g, scales.mul_(rate), value=-relative)

    def _matrix(self, w: Parameter, squares: Tensor, newest: float) -> Tensor:
        """Return what a gradient (m, n) is multiplied by, in the memory of its squares."""
        state = self.state[w]
        for name, means in (("rows", squares.mean(1, keepdim=True)), ("columns", squares.mean(0, keepdim=True))):
            state.setdefault(name, torch.zeros_like(means)).lerp_(means.add_(EPS1), newest)
        rows, columns = (state["rows"].mean() / state["rows"]), state["columns"].reciprocal()
        rms = ((squares @ columns.mT) * rows).mean().div_(squares.shape[1]).sqrt_()
        return torch.mul(rows.sqrt_().div_(rms.clamp_(min=1)), columns.sqrt_(), out=squares)

    def _line(self, w: Parameter, squares: Tensor, newest: float) -> Tensor:
        second: Tensor = self.state[w].setdefault("second_moment", torch.zeros_like(squares))
        scales = second.lerp_(squares + EPS1, newest).rsqrt()
        return scales.div_((squares * scales * scales).mean().sqrt_().clamp_(min=1))


def build(roles: Roles, hp: Hyperparameters, run: Run) -> Optimizer:
    return Adafactor(roles, asdict(hp))
