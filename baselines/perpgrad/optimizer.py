"""perpGrad: the gradient's part across the weights, around any optimizer. Prieto et al. 2025, arXiv:2501.04697.

    p <- g - (<w, g> / <w, w>) w                    w weight, g gradient, of one shape; each tensor by itself
    g <- p |g| / |p|                                as long as before
    then the wrapped optimizer's step

The part along the weights only makes logits larger, by which the loss goes on falling when nothing is left to learn.
The weights grow instead of decaying. No state of its own.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Optimizer

from bench.linalg.around import Around
from bench.probe import Probe
from bench.roles import Roles, Run

TINY = 1e-30  # against division by the zero of a weight that starts there, as in the authors' code


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    pass


class PerpGrad(Around):
    @torch.no_grad()
    def step(self, probe: Probe | None = None) -> None:
        for w in self.stepped_weights():
            assert w.grad is not None
            w.grad.copy_(across(w, w.grad))
        self.step_inner(probe)


def across(w: Tensor, g: Tensor) -> Tensor:
    """Return g's part orthogonal to w, at the length of g."""
    part = g - (w * g).sum() / (w.square().sum() + TINY) * w
    scaled: Tensor = part * (g.norm() / (part.norm() + TINY))
    return scaled


def build(roles: Roles, hp: Hyperparameters, run: Run, wrapped: list[Optimizer]) -> Optimizer:
    return PerpGrad(wrapped)
