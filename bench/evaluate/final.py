"""The end of a run: both halves of the validation text at the weights that the entry evaluates with."""

import math
from dataclasses import dataclass

from bench.assemble import Assembly
from bench.evaluate.loss import block_means, evaluate
from bench.model import weights_digest


@dataclass(frozen=True)
class Final:
    select_loss: float | None
    score_loss: float | None
    score_blocks: tuple[float, ...]
    evaluated: str  # digest of the weights


def measure(assembly: Assembly) -> Final:
    """Evaluate both halves; a loss that is no number is None. The training weights stay as they are."""
    with assembly.evaluation_weights():
        select, score = (
            evaluate(assembly.parts.losses_of, half, assembly.evaluation_batch, assembly.parts.device, assembly.workers)
            for half in (assembly.select, assembly.score)
        )
        evaluated = weights_digest(assembly.model)
    means = [float(losses.mean()) for losses in (select, score)]
    if not all(math.isfinite(mean) for mean in means):
        return Final(None, None, (), evaluated)
    return Final(means[0], means[1], block_means(score), evaluated)
