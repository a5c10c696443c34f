"""Adafactor: a second moment of rank one. Shazeer and Stern 2018, arXiv:1804.04235, Algorithm 4, without momentum.

    b <- 1 - t^-decay_exponent                      W weight (m, n), G gradient, R (m, 1), C (1, n)
    R <- b R + (1 - b) mean of G^2 over columns     V (m, n); of gains and biases V is an average of G^2 itself
    C <- b C + (1 - b) mean of G^2 over rows
    V  = R C / mean(R)
    U  = G / sqrt(max(V, EPS1^2));   U <- U / max(1, rms(U))
    W <- (1 - lr weight_decay) W - max(EPS2, rms(W)) min(lr, 1 / sqrt(t)) U

torch's own, by foreach kernels. State: R and C, 4 (m + n) / (m n) bytes per parameter, and a step count per tensor.
"""

from dataclasses import dataclass

from torch.optim import Adafactor, Optimizer

from bench.roles import Roles, Run

EPS1 = 1e-15  # floor of a root of V; its square is the paper's, which is added to squared gradients
EPS2 = 1e-3  # the paper's: root mean square that a weight is taken to have at least


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    lr: float  # peak, of a step relative to the root mean square of a weight
    decay_exponent: float  # how fast the averages lengthen
    weight_decay: float  # matrices, embedding and head; gains and biases get none


def build(roles: Roles, hp: Hyperparameters, run: Run) -> Optimizer:
    groups = [
        {"params": [*roles.matrices, *roles.embedding, *roles.head], "weight_decay": hp.weight_decay},
        {"params": list(roles.vectors), "weight_decay": 0.0},
    ]
    return Adafactor(groups, lr=hp.lr, beta2_decay=-hp.decay_exponent, eps=(EPS1, EPS2), foreach=True)
