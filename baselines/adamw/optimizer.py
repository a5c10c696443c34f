"""AdamW: Adam with decoupled weight decay. Loshchilov and Hutter 2017, arXiv:1711.05101, Algorithm 2.

    m <- beta1 m + (1 - beta1) g                    w weight, g gradient, m and v moments: one shape
    v <- beta2 v + (1 - beta2) g^2
    w <- (1 - lr weight_decay) w                    decay follows the scheduled lr
    w <- w - lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)

torch's own, fused. State: two moments per weight, fp32, and a step count per tensor.
"""

from dataclasses import dataclass

from torch.optim import AdamW, Optimizer

from bench.roles import Roles, Run


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    lr: float  # peak; a coordinate moves by at most about this much in a step
    rest_lr_factor: float  # the embedding's, head's and vectors' lr over the hidden matrices'; 0 leaves them unclaimed
    beta1: float
    beta2: float
    eps: float
    weight_decay: float  # matrices, embedding and head; gains and biases get none


def build(roles: Roles, hp: Hyperparameters, run: Run) -> Optimizer:
    rest_lr = hp.lr * hp.rest_lr_factor
    groups = [{"params": roles.matrices, "weight_decay": hp.weight_decay}]
    if rest_lr > 0:
        groups += [
            {"params": [*roles.embedding, *roles.head], "lr": rest_lr, "weight_decay": hp.weight_decay},
            {"params": list(roles.vectors), "lr": rest_lr, "weight_decay": 0.0},
        ]
    return AdamW(groups, lr=hp.lr, betas=(hp.beta1, hp.beta2), eps=hp.eps, fused=True)
