"""The learning-rate schedule: a function of tokens, the same for every entry."""

from typing import Literal


def multiplier(
    seen: int, batch_tokens: int, budget_tokens: int, warmup_fraction: float, kind: Literal["decay", "constant"]
) -> float:
    """Return what the peak learning rate is multiplied by in the step that starts after `seen` tokens.

    Linear from 0 to 1 over warmup_fraction of the budget, then linear to 0 at its end (decay) or 1 (constant).
    Neither zero is ever applied: the first step counts its own tokens, and the last one starts before the end.
    """
    warmup_tokens = warmup_fraction * budget_tokens
    if seen + batch_tokens <= warmup_tokens:
        return (seen + batch_tokens) / warmup_tokens
    if kind == "constant":
        return 1.0
    return (budget_tokens - seen) / max(budget_tokens - warmup_tokens, budget_tokens - seen)
