"""The learning-rate schedule: a function of tokens, the same for every entry."""

import math
from typing import Literal

Kind = Literal["decay", "constant", "cosine", "wsd"]
STABLE = 0.8  # share of the budget before wsd decays (Hu et al. 2024, arXiv:2404.06395: a last tenth to fifth)


def multiplier(seen: int, batch_tokens: int, budget_tokens: int, warmup_fraction: float, kind: Kind) -> float:
    """Return what the peak learning rate is multiplied by in the step that starts after `seen` tokens.

    Linear from 0 to 1 over warmup_fraction of the budget, then to 0 at its end: linearly (decay), by half a cosine, or
    linearly over the last fifth (wsd: warm-up, stable, decay); or 1 throughout (constant). Neither zero is ever
    applied: the first step counts its own tokens, and the last one starts before the end.
    """
    warmup_tokens = warmup_fraction * budget_tokens
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
