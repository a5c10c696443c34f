"""LANTON, noise-adaptive rates by layer (a reconstruction). Hao et al. 2025, arXiv:2510.14009, options I and II.

    B <- momentum B + (1 - momentum) G              for each matrix; W weight (out, in), G gradient: one shape
    H <- beta2 H + (1 - beta2) ||G - G'||_*^2       its noise; ||.||_* the sum of singular values, the
    a  = alpha / sqrt(alpha^2 + H)                  dual of the norm that its step is measured in
    r  = sqrt(a / largest a of all matrices)        in (0, 1], 1 for the least noisy
    W <- (1 - lr weight_decay) W
    W <- W - lr r 0.2 sqrt(max(out, in)) NewtonSchulz(B)

G' is the last step's gradient (option I), or that of a second batch of fresh data, as large, through the probe (II):
the run then has half as many steps. H is 0 until there are two gradients. With alpha far below the noise r depends on
the noises' ratios only, far above it r is 1 and LANTON is Moonlight's Muon without Nesterov. The hidden matrices only,
which are one group; a weight that is several matrices side by side is as many layers. State, fp32: momentum, one number
a matrix, and in option I the last gradient.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from bench.linalg.matrixwise import Matrixwise
from bench.linalg.newton_schulz import orthogonalized
from bench.linalg.nuclear_norm import nuclear_norm
from bench.linalg.sizes import rms_matched
from bench.probe import Gradients, Probe
from bench.roles import Roles, Run


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    lr: float  # peak, of the least noisy matrix, in AdamW's units
    momentum: float
    beta2: float  # of the noise, a squared nuclear norm
    alpha: float  # a nuclear norm: noise below it changes no rate
    orthogonalization: Literal["jordan", "polar-express", "exact"]  # the coefficients of Newton-Schulz, or none
    newton_schulz_steps: int
    weight_decay: float
    second_batch: bool  # the noise is the difference of two batches' gradients, not of two steps'


class LANTON(Matrixwise):
    @torch.no_grad()
    def step(self) -> None:
        (group,) = self.param_groups
        stacks = list(self._stacks([w for w in group["params"] if w.grad is not None]))
        if stacks:
            group["least"] = torch.cat([self._heard(weights, group) for weights in stacks]).amin()
        super().step()
        group.pop("least", None)

    def _heard(self, weights: list[Parameter], group: dict[str, Any]) -> Tensor:
        """Return the noises (k, 1, 1) of a stack, its gradients of this step included."""
        gradients = torch.cat([self._blocks(w, w.grad) for w in weights])
        if not self.state[weights[0]]:
            for name, stack in self.begin(gradients, group).items():
                self._keep(weights, name, stack)
            return self._joined(weights, "noise")
        previous = self._joined(weights, "previous")
        noise = self._hear(weights, gradients - previous, group)
        previous.copy_(gradients)
        return noise

    def _hear(self, weights: list[Parameter], differences: Tensor, group: dict[str, Any]) -> Tensor:
        """Take a difference of gradients into the noises of a stack, and return them."""
        return self._joined(weights, "noise").lerp_(nuclear_norm(differences).square(), 1 - group["beta2"])

    def begin(self, gradients: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        zeros = torch.zeros_like(gradients, memory_format=torch.contiguous_format)
        return {"momentum": zeros, "previous": gradients.clone(), "noise": gradients.new_zeros(len(gradients), 1, 1)}

    def update(self, gradients: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> Tensor:
        momentum = state["momentum"].lerp_(gradients, 1 - group["momentum"])
        direction = orthogonalized(momentum, group["orthogonalization"], group["newton_schulz_steps"])
        return direction * rates(state["noise"], group["least"], group["alpha"])

    def size(self, rows: int, columns: int) -> float:
        return rms_matched(rows, columns)


class TwoBatchLANTON(LANTON):
    """Option II. In the last step, for which no fresh data is left, the noises stay as they are."""

    wants_probe = True

    def __init__(self, roles: Roles, values: dict[str, Any]) -> None:
        super().__init__(roles.hidden, values)
        self._second: Gradients = {}  # during a step

    @torch.no_grad()
    def step(self, probe: Probe) -> None:
        self._second = probe.fresh_gradient(probe.sequences, clipped=True) or {}
        super().step()
        self._second = {}

    def _heard(self, weights: list[Parameter], group: dict[str, Any]) -> Tensor:
        gradients = torch.cat([self._blocks(w, w.grad) for w in weights])
        if not self.state[weights[0]]:
            for name, stack in self.begin(gradients, group).items():
                self._keep(weights, name, stack)
        if not self._second:
            return self._joined(weights, "noise")
        second = torch.cat([self._blocks(w, self._second[w]) for w in weights])
        return self._hear(weights, gradients - second, group)

    def begin(self, gradients: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        begun = super().begin(gradients, group)
        return {name: begun[name] for name in ("momentum", "noise")}


def rates(noise: Tensor, least: Tensor, alpha: float) -> Tensor:
    """Return r for noises of any shape and the least of all; 1 where neither they nor alpha tell."""
    floor = alpha**2 + torch.finfo(noise.dtype).tiny
    return ((floor + least) / (floor + noise)) ** 0.25


def build(roles: Roles, hp: Hyperparameters, run: Run) -> Optimizer:
    return TwoBatchLANTON(roles, asdict(hp)) if hp.second_batch else LANTON(roles.hidden, asdict(hp))
