"""Sven: a step that would undo every sample's residual to first order. Bright-Thonney et al. 2026, arXiv:2604.01279.

    r_a = loss_a^(kappa / 2)                        of each sequence a of the batch
    M = dr / dw                                     (B, P): a row of all parameters for each sequence
    w <- w - lr M^T U diag(1 / sigma^2) U^T r       M M^T = U diag(sigma^2) U^T, its largest kept_share alone

That is lr times M's pseudo-inverse, truncated, applied to r, by way of the Gram matrix (B, B) in fp64. No state.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Optimizer

from bench.probe import Probe
from bench.roles import Roles, Run

CUT = 1e-4  # singular values this much smaller than the largest are none: the authors' own for a transformer


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    lr: float  # peak; 1 would undo the residuals in one step, were they linear in the weights
    kappa: float  # 2: residuals are the losses
    kept_share: float  # of the singular values, largest first


class Sven(Optimizer):
    wants_probe = True

    def __init__(self, roles: Roles, hp: Hyperparameters) -> None:
        super().__init__(roles.all, {"lr": hp.lr})
        self.kappa, self.kept_share = hp.kappa, hp.kept_share

    @torch.no_grad()
    def step(self, probe: Probe) -> None:
        residuals, rows = probe.sequence_jacobian(lambda loss: loss ** (self.kappa / 2))
        for group in self.param_groups:
            jacobian = {w: rows[w] for w in group["params"] if w.grad is not None and w in rows}
            if jacobian:
                weighing = solved(list(jacobian.values()), residuals, self.kept_share)
                for w, row in jacobian.items():
                    w.sub_(torch.tensordot(weighing, row, dims=1), alpha=group["lr"])


def solved(jacobian: list[Tensor], residuals: Tensor, kept_share: float) -> Tensor:
    """Return (B,) what each row of the Jacobian, given in parts (B, ...), has in the pseudo-inverse times residuals."""
    flat = [part.flatten(1).double() for part in jacobian]
    squares, basis = torch.linalg.eigh(torch.stack([part @ part.mT for part in flat]).sum(dim=0))  # ascending
    kept = max(1, round(kept_share * len(squares)))
    large = squares > CUT**2 * squares[-1]
    large[: len(squares) - kept] = False
    inverse = torch.where(large, 1 / squares, 0.0)
    weighing: Tensor = basis @ (inverse * (basis.mT @ residuals.double()))
    return weighing.to(residuals.dtype)


def build(roles: Roles, hp: Hyperparameters, run: Run) -> Optimizer:
    return Sven(roles, hp)
