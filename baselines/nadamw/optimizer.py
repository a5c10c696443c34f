"""NAdamW: AdamW with Nesterov's look ahead. Dozat 2016, openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ, Algorithm 8; its
decay decoupled as in arXiv:1711.05101, Algorithm 2.

    mu_t = beta1 (1 - 0.96^(t momentum_decay) / 2)  P_t = mu_1 ... mu_t
    m <- beta1 m + (1 - beta1) g                    w weight, g gradient, m and v moments: one shape
    v <- beta2 v + (1 - beta2) g^2
    w <- (1 - lr weight_decay) w
    w <- w - lr (mu_{t+1} m / (1 - P_{t+1}) + (1 - mu_t) g / (1 - P_t)) / (sqrt(v / (1 - beta2^t)) + eps)

torch's own, by foreach kernels. State: two moments per weight, fp32, and a step count and P per tensor.
"""

from dataclasses import dataclass

from torch.optim import NAdam, Optimizer

from bench.roles import Roles, Run


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    lr: float  # peak; a coordinate moves by at most about this much in a step
    beta1: float
    beta2: float
    momentum_decay: float  # how slowly mu rises from half of beta1
    eps: float
    weight_decay: float  # matrices, embedding and head; gains and biases get none


def build(roles: Roles, hp: Hyperparameters, run: Run) -> Optimizer:
    groups = [
        {"params": [*roles.matrices, *roles.embedding, *roles.head], "weight_decay": hp.weight_decay},
        {"params": list(roles.vectors), "weight_decay": 0.0},
    ]
    return NAdam(
        groups, lr=hp.lr, betas=(hp.beta1, hp.beta2), eps=hp.eps, momentum_decay=hp.momentum_decay,
        decoupled_weight_decay=True, foreach=True,
    )  # fmt: skip
