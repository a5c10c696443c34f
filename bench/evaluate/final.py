"""The end of a run: both halves of the validation text at the weights, and in the mode, that it is scored with."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from bench.assemble import Assembly
from bench.evaluate.loss import block_means, evaluate
from bench.model import sequence_losses, weights_digest
from bench.quantize.linear import enable
from bench.quantize.proof import layer_facts, rounding_facts


@dataclass(frozen=True)
class Final:
    select_loss: float | None
    score_loss: float | None
    score_blocks: tuple[float, ...]
    evaluated: str  # digest of the weights
    quantization: dict[str, Any] | None  # of a mode that quantizes


def measure(assembly: Assembly) -> Final:
    """Evaluate both halves; a loss that is no number is None. The training weights stay as they are."""
    with assembly.evaluation_weights():
        select, score = (_losses(assembly, half) for half in (assembly.select, assembly.score))
        evaluated = weights_digest(assembly.model)
        quantization = _quantization(assembly) if assembly.mode.quantizes else None
    means = [float(losses.mean()) for losses in (select, score)]
    if not all(math.isfinite(mean) for mean in means):
        return Final(None, None, (), evaluated, quantization)
    return Final(means[0], means[1], block_means(score), evaluated, quantization)


def _losses(assembly: Assembly, half: np.ndarray) -> np.ndarray:
    parts = assembly.parts
    return evaluate(parts.losses_of, half, assembly.evaluation_batch, parts.device, assembly.workers)


def _quantization(assembly: Assembly) -> dict[str, Any]:
    """Return the facts of the passes so far and of one batch, and the scoring loss with the quantizers off."""
    model, batch = assembly.model, assembly.select[: assembly.course.micro_batch]
    tokens = torch.from_numpy(batch).to(assembly.parts.device)
    facts = {**layer_facts(model), **rounding_facts(model, lambda: sequence_losses(model, tokens))}
    enable(model, False)
    loss = float(_losses(assembly, assembly.score).mean())
    enable(model, True)
    return {**facts, "float_score_loss": loss if math.isfinite(loss) else None}
