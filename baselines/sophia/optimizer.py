"""Sophia-G: momentum over an estimate of curvature, clipped. Liu et al. 2023, arXiv:2305.14342, Algorithms 2 and 3.

    m <- beta1 m + (1 - beta1) g                    w weight, g gradient, m momentum, h curvature: one shape
    h <- beta2 h + (1 - beta2) B s^2                every hessian_frequency steps, from the first on
    w <- (1 - lr weight_decay) w
    w <- w - lr clip(m / (rho h), -1, 1)

s is the gradient of the batch's mean loss at labels drawn from the model, B the tokens of the mean: B s^2 estimates the
diagonal of the Gauss-Newton matrix (Gauss-Newton-Bartlett). No bias correction. State: two tensors of a weight's shape.
"""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from bench.linalg.elementwise import Elementwise, decay
from bench.linalg.held import held
from bench.linalg.moments import advance_second
from bench.probe import Probe
from bench.roles import Roles, Run

TINY = 1e-15  # where no curvature was seen: there a step is the sign of the momentum, as in the authors' code


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    lr: float  # peak; no coordinate moves by more in a step
    beta1: float
    beta2: float  # of the curvature, once in hessian_frequency steps
    rho: float  # at which multiple of the curvature a step is clipped
    hessian_frequency: int  # steps
    weight_decay: float  # matrices, embedding and head; gains and biases get none


class Sophia(Elementwise):
    wants_probe = True

    def __init__(self, roles: Roles, hp: Hyperparameters, batch_tokens: int) -> None:
        super().__init__(roles, {**asdict(hp), "batch_tokens": batch_tokens})

    @torch.no_grad()
    def step(self, probe: Probe) -> None:
        if self.param_groups[0]["step"] % self.param_groups[0]["hessian_frequency"] == 0:
            self._look(probe)
        super().step()

    def _look(self, probe: Probe) -> None:
        sampled = probe.sampled_gradient()
        for group in self.param_groups:
            weights = [w for w in group["params"] if w.grad is not None]
            if weights:
                (curvatures,) = held(self, weights, "curvature")
                root = group["batch_tokens"] ** 0.5
                advance_second(curvatures, torch._foreach_mul([sampled[w] for w in weights], root), group["beta2"])

    def move(self, weights: tuple[Parameter, ...], gradients: tuple[Tensor, ...], group: dict[str, Any]) -> None:
        momenta, curvatures = held(self, weights, "momentum", "curvature")
        torch._foreach_lerp_(momenta, gradients, 1 - group["beta1"])
        bounds = list(torch._foreach_mul(curvatures, group["rho"]))
        torch._foreach_add_(bounds, TINY)
        steps = list(torch._foreach_div(momenta, bounds))
        torch._foreach_clamp_max_(steps, 1.0)
        torch._foreach_clamp_min_(steps, -1.0)
        decay(weights, group)
        torch._foreach_add_(weights, steps, alpha=-group["lr"])


def build(roles: Roles, hp: Hyperparameters, run: Run) -> Optimizer:
    return Sophia(roles, hp, run.batch_tokens)
