"""The rho_a bound on a step's length, around any optimizer. Sao 2026, arXiv:2603.13552.

    p                                               the wrapped optimizer's step, decay and learning rate in it
    a = d z(w + s p) / ds  at s = 0                 z logits of a position, w weights: one Jacobian-vector product
    delta = max over positions of (max a - min a)   over the vocabulary
    w <- w + min(1, ratio pi / delta) p

Along p, per unit of s, the softmax partition function has no complex zero nearer than pi / delta, so up to there the
loss is as its Taylor series says. The bound does not depend on the scale of p: half the step has twice the reach. No
state of its own; it acts on all matrices that are stepped together.
"""

import math
from dataclasses import dataclass

import torch
from torch.optim import Optimizer

from bench.linalg.around import Around
from bench.probe import Probe
from bench.roles import Roles, Run


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    ratio: float  # longest step, over pi / delta; above 1 nothing is guaranteed


class RhoBound(Around):
    wants_probe = True

    def __init__(self, inner: list[Optimizer], ratio: float) -> None:
        super().__init__(inner)
        self.ratio = ratio

    @torch.no_grad()
    def step(self, probe: Probe) -> None:
        weights = self.stepped_weights()
        before = [w.detach().clone() for w in weights]
        self.step_inner(probe)
        after = [w.detach().clone() for w in weights]
        for w, old in zip(weights, before, strict=True):
            w.copy_(old)
        steps = {w: new - old for w, new, old in zip(weights, after, before, strict=True)}
        spread = (
            probe.logits_along(steps, lambda a: a.amax(dim=-1) - a.amin(dim=-1)).max() if steps else torch.zeros(())
        )
        factor = self.ratio * math.pi / float(spread) if spread > 0 else math.inf
        for w, new in zip(weights, after, strict=True):
            w.copy_(new) if factor >= 1 else w.add_(steps[w], alpha=factor)


def build(roles: Roles, hp: Hyperparameters, run: Run, wrapped: list[Optimizer]) -> Optimizer:
    return RhoBound(wrapped, hp.ratio)
