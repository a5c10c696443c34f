"""The modes of a finished checkpoint, measured: each on the float weights anew, against the float loss made here."""

import datetime
import math
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from bench.children import AfterTraining
from bench.errors import BenchError
from bench.evaluate.loss import evaluate
from bench.mode import read_mode
from bench.model import sequence_losses
from bench.quantize.after import apply, needs_calibration
from bench.quantize.calibration import Calibration
from bench.quantize.proof import layer_facts, rounding_facts, why_inert
from bench.spec import validate


def measure_modes(
    load: Callable[[], PreTrainedModel], names: Sequence[str], calibration: Calibration | None, score_NS: np.ndarray,
    batch: int, machine: str,
) -> Iterator[tuple[str, AfterTraining]]:  # fmt: skip
    """Yield each mode's measurements; load gives the float model again for every mode, since rounding uses it up.

    score_NS is the scoring half, batch its sequences in a forward pass, machine the digest of this kind of machine.
    """
    float_loss, model = None, None
    for place, name in enumerate(names):
        model = load()
        if place == 0:
            float_loss = scored(model, score_NS, batch)
        start = time.perf_counter()
        facts = measure_mode(model, name, calibration, score_NS, batch, float_loss)
        own = {
            "machine": machine,
            "seconds": round(time.perf_counter() - start, 3),
            "made": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }
        model = None  # before the next is loaded: one resident copy
        yield name, validate({**facts, **own}, AfterTraining, f"mode {name}")


def measure_mode(
    model: PreTrainedModel, name: str, calibration: Calibration | None, score_NS: np.ndarray, batch: int,
    float_loss: float | None,
) -> dict[str, Any]:  # fmt: skip
    """Put a float model into a mode for good, and return loss, perplexity, degradation in nats, and the proof."""
    mode = read_mode(name, "after")
    applied = apply(model, mode, calibration)
    loss = scored(model, score_NS, batch)
    quantization = {**layer_facts(model), "float_score_loss": float_loss, "weights": applied.weights}
    tokens = torch.from_numpy(score_NS[:batch]).to(model.device)
    quantization["activations"] = rounding_facts(model, lambda: sequence_losses(model, tokens))["activations"]
    idle = why_inert(quantization)
    if idle or quantization["forwards"] != 1.0:
        raise BenchError(f"mode {name}: {idle or 'a layer did not round in every pass'}", "a fault of the harness")
    return {
        "mode_digest": mode.digest,
        "loss": loss,
        "perplexity": perplexity(loss),
        "degradation": None if loss is None or float_loss is None else loss - float_loss,
        "quantization": quantization,
        "calibration": calibration.digest if calibration and needs_calibration(mode) else None,
        "gptq": applied.gptq,
        "hawq": applied.hawq,
    }


def scored(model: PreTrainedModel, score_NS: np.ndarray, batch: int) -> float | None:
    """Return the mean loss in nats per token; None where it is no number."""
    loss = float(evaluate(partial(sequence_losses, model), score_NS, batch, model.device).mean())
    return loss if math.isfinite(loss) else None


def perplexity(loss: float | None) -> float | None:
    """Return exp(loss); None where that is no number either."""
    return math.exp(loss) if loss is not None and loss < 700 else None
