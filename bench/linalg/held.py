"""State of element-wise methods: tensors of a weight's shape, zero before the first step."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer


def held(optimizer: Optimizer, weights: Sequence[Parameter], *names: str) -> list[list[Tensor]]:
    """Return for each name the state of all weights, made of zeros where a weight has none yet."""
    for w in weights:
        for name in names:
            if name not in optimizer.state[w]:
                optimizer.state[w][name] = torch.zeros_like(w)
    return [[optimizer.state[w][name] for w in weights] for name in names]
