"""The learning-rate schedule: a function of tokens, the same for every entry."""

import math
from collections.abc import Sequence
from typing import Literal

Kind = Literal["decay", "constant", "cosine", "wsd", "refined"]
STABLE = 0.8  # share of the budget before wsd decays (Hu et al. 2024, arXiv:2404.06395: a last tenth to fifth)


def multiplier(
    seen: int, batch_tokens: int, budget_tokens: int, warmup_fraction: float, kind: Kind, shape: Sequence[float] = ()
) -> float:
    """Return what the peak learning rate is multiplied by in the step that starts after `seen` tokens.

    Linear from 0 to 1 over warmup_fraction of the budget, then to 0 at its end: linearly (decay), by half a cosine, or
    linearly over the last fifth (wsd: warm-up, stable, decay); or 1 throughout (constant). Neither zero is ever
    applied: the first step counts its own tokens, and the last one starts before the end. A refined schedule is the
    warm-up's line times a shape, given at equal distances over the budget (bench.refine makes one).
    """
    warmup_tokens = warmup_fraction * budget_tokens
    if kind == "refined":
        rise = min(1.0, (seen + batch_tokens) / warmup_tokens) if warmup_tokens else 1.0
        return rise * _at(shape, seen / budget_tokens)
    if seen + batch_tokens <= warmup_tokens:
        return (seen + batch_tokens) / warmup_tokens
    if kind == "constant":
        return 1.0
    left = (budget_tokens - seen) / max(budget_tokens - warmup_tokens, budget_tokens - seen)
    if kind == "cosine":
        return 0.5 - 0.5 * math.cos(math.pi * left)
    if kind == "wsd":
        return min(1.0, (budget_tokens - seen) / (budget_tokens * (1 - max(STABLE, warmup_fraction))))
    return left


def _at(shape: Sequence[float], share: float) -> float:
    """Return a shape's value at a share of the budget, straight between its points."""
    place = share * (len(shape) - 1)
    below = min(int(place), len(shape) - 2)
    return shape[below] + (place - below) * (shape[below + 1] - shape[below])
