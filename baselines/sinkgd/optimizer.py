"""SinkGD: the gradient, its rows and columns normalized; no state. Scetbon et al. 2025, arXiv:2502.06742.

    X <- G                                      W, G, X (m, n) = (out, in): one shape
    rounds times:
        X <- sqrt(n) X / row norms              L2
        X <- sqrt(m) X / column norms
    W <- (1 - lr weight_decay) W
    W <- W - lr lr_factor X                     the root mean square of X is 1

The hidden matrices only; a weight that is several matrices side by side is normalized block by block.
"""

from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from bench.linalg.matrixwise import Matrixwise
from bench.linalg.sinkhorn import sinkhorn
from bench.roles import Roles, Run


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    lr: float  # peak; a coordinate moves by lr_factor times this
    lr_factor: float
    rounds: int
    weight_decay: float


class SinkGD(Matrixwise):
    def update(self, gradients: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> Tensor:
        return sinkhorn(gradients, group["rounds"]).mul_(group["lr_factor"])


def build(roles: Roles, hp: Hyperparameters, run: Run) -> Optimizer:
    return SinkGD(roles.hidden, asdict(hp))
