"""Where a module stands in a model: the number of its block, and its name inside the block. Numbers for a record."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

DIGITS = 4  # significant, of a figure in a record


def place_of(name: str) -> tuple[int | None, str]:
    """Return block and name inside it: (3, "mlp.c_fc") for "transformer.h.3.mlp.c_fc"; outside the blocks no number."""
    parts = name.split(".")
    at = next((i for i, part in enumerate(parts) if part.isdigit()), None)
    return (None, parts[-1]) if at is None else (int(parts[at]), ".".join(parts[at + 1 :]))


def significant(value: float | None) -> float | None:
    """Return the value rounded to four significant digits; None where it is no finite number."""
    return float(f"{value:.{DIGITS}g}") if value is not None and math.isfinite(value) else None


def ratio(over: float, under: float) -> float | None:
    """Return the quotient; None where there is nothing to relate to."""
    return over / under if under > 0 else None


@contextmanager
def looking(model: nn.Module) -> Iterator[list[torch.utils.hooks.RemovableHandle]]:
    """Evaluate without gradients or autocast; the hooks put on the list are gone afterwards, and training goes on."""
    training, hooks = model.training, list[torch.utils.hooks.RemovableHandle]()
    device = next(model.parameters()).device.type
    try:
        model.eval()
        with torch.no_grad(), torch.autocast(device, enabled=False):
            yield hooks
    finally:
        for hook in hooks:
            hook.remove()
        model.train(training)


def hidden_of(model: PreTrainedModel, tokens_BT: Tensor) -> Tensor:
    """Return the output of the last norm, shape (B, T, D)."""
    hidden: Tensor = model.base_model(input_ids=tokens_BT.to(model.device)).last_hidden_state
    return hidden
