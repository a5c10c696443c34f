"""Muon: momentum, orthogonalized. Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/.

    m <- momentum m + (1 - momentum) g              w weight (out, in), g gradient, m momentum: one shape
    u <- momentum m + (1 - momentum) g              Nesterov
    o <- NewtonSchulz(u)                            near the polar factor of u
    w <- (1 - lr weight_decay) w
    w <- w - lr sqrt(max(1, out / in)) o

A weight that is several matrices side by side is orthogonalized block by block. The hidden matrices only; State: one
momentum per weight, fp32. Newton-Schulz runs in bf16, as in the source.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from bench.linalg.newton_schulz import newton_schulz
from bench.linalg.stacks import map_stacks
from bench.roles import Matrix, Roles, Run


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    lr: float  # peak, times sqrt(max(1, out / in)): the spectral norm of a step
    momentum: float
    newton_schulz_steps: int
    weight_decay: float


class Muon(Optimizer):
    def __init__(self, matrices: tuple[Matrix, ...], hp: Hyperparameters) -> None:
        self._blocks = {matrix.weight: matrix.blocks for matrix in matrices}
        super().__init__(
            [{"params": [matrix.weight for matrix in matrices]}],
            {"lr": hp.lr, "momentum": hp.momentum, "steps": hp.newton_schulz_steps, "weight_decay": hp.weight_decay},
        )

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            weights = [w for w in group["params"] if w.grad is not None]
            if not weights:
                continue
            gradients = [w.grad for w in weights]
            for w in weights:
                if not self.state[w]:
                    self.state[w]["momentum"] = torch.zeros_like(w)
            momenta = [self.state[w]["momentum"] for w in weights]
            torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
            updates = list(torch._foreach_lerp(gradients, momenta, group["momentum"]))
            torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(weights, self._orthogonalized(weights, updates, group["steps"]), alpha=-group["lr"])

    def _orthogonalized(self, weights: list[Parameter], updates: list[Tensor], steps: int) -> list[Tensor]:
        """Return the updates with each block near its polar factor, scaled by sqrt(max(1, out / in)) of the block."""
        blocks = [block for w, u in zip(weights, updates, strict=True) for block in u.split(self._blocks[w])]
        done = map_stacks(blocks, lambda stack: newton_schulz(stack, steps))
        torch._foreach_mul_(done, [max(1.0, b.shape[0] / b.shape[1]) ** 0.5 for b in blocks])
        ends = iter(done)
        return [torch.cat([next(ends) for _ in self._blocks[w]]) for w in weights]


def build(roles: Roles, hp: Hyperparameters, run: Run) -> Optimizer:
    return Muon(roles.hidden, hp)
