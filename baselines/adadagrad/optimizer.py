"""AdAdaGrad: AdaGrad with batches that grow by the norm test. Lau et al. 2024, arXiv:2402.11215.

    s <- s + g^2                                    w weight, g gradient, s sum: one shape
    w <- (1 - lr weight_decay) w
    w <- w - lr g / (sqrt(s) + eps)

    needed = V / (eta^2 |mean g_i|^2)               every test_frequency steps; V the variance of a sequence's gradient
    batch <- max(batch, needed)                     up to eight times the task's batch; it never shrinks

V is estimated from the gradients of equal groups of the batch: for J of them, V = (batch / J) sum |g_j - mean|^2 /
(J - 1). |mean|^2 holds the mean's own noise, V / batch, as in the paper: so a test asks for at most about 1 / eta^2
times the batch, and from eta = 1 on for no more than it has. The budget is in tokens: larger batches make fewer steps.
State: one tensor of a weight's shape, and the batch.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from bench.linalg.elementwise import Elementwise, decay
from bench.linalg.held import held
from bench.probe import Probe
from bench.roles import Roles, Run

GROUPS = 8  # at most: more tell the variance better, and make smaller products
MOST = 8  # largest batch, over the task's


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    lr: float  # peak; the first step moves a coordinate by this much, later ones less
    eps: float
    eta: float  # standard error of a batch's gradient over its length that is let pass, below 1
    test_frequency: int  # steps
    weight_decay: float  # matrices, embedding and head; gains and biases get none


class AdaDaGrad(Elementwise):
    wants_probe = True

    def __init__(self, roles: Roles, hp: Hyperparameters, sequences: int) -> None:
        super().__init__(roles, {**asdict(hp), "sequences": sequences})
        self._most = MOST * sequences

    def next_batch_sequences(self) -> int:
        return int(self.param_groups[0]["sequences"])

    @torch.no_grad()
    def step(self, probe: Probe) -> None:
        group = self.param_groups[0]
        if group["step"] % group["test_frequency"] == 0 and group["sequences"] < self._most:
            needed = needed_sequences(probe, group["eta"])
            whole = min(self._most, math.ceil(min(needed, self._most) / probe.grain) * probe.grain)
            group["sequences"] = max(group["sequences"], whole)
        super().step()

    def move(self, weights: tuple[Parameter, ...], gradients: tuple[Tensor, ...], group: dict[str, Any]) -> None:
        (sums,) = held(self, weights, "sum")
        torch._foreach_addcmul_(sums, gradients, gradients)
        roots = list(torch._foreach_sqrt(sums))
        torch._foreach_add_(roots, group["eps"])
        decay(weights, group)
        torch._foreach_addcdiv_(weights, gradients, roots, -group["lr"])


def needed_sequences(probe: Probe, eta: float) -> float:
    """Return the sequences whose mean gradient has a relative error of eta."""
    share, micro = probe.sequences // probe.ranks, probe.grain // probe.ranks
    whole = [n for n in range(1, GROUPS + 1) if share % n == 0]
    # a group is read in micro-batches that count alike, so that none of them may be a shorter one
    groups = max(n for n in whole if share // n <= micro or share // n % micro == 0)
    if groups == 1:
        return 0.0  # one sequence tells no variance
    mean: list[Tensor] = []
    squares = 0.0
    for found in probe.group_gradients(groups):
        squares += norm_squared(list(found.values()))
        if mean:
            torch._foreach_add_(mean, list(found.values()), alpha=1 / groups)
        else:
            mean = list(torch._foreach_mul(list(found.values()), 1 / groups))
    signal = norm_squared(mean)
    between = (squares - groups * signal) / (groups - 1)  # of groups, each batch / groups sequences
    return probe.sequences / groups * between / (eta**2 * signal) if signal else 0.0


def norm_squared(tensors: list[Tensor]) -> float:
    return float(torch.stack(torch._foreach_norm(tensors)).double().square().sum())


def build(roles: Roles, hp: Hyperparameters, run: Run) -> Optimizer:
    return AdaDaGrad(roles, hp, run.batch_sequences)
