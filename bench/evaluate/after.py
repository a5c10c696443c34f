"""The modes of a finished checkpoint, measured: each on the float weights anew, against the float loss made here."""

import datetime
import gc
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from bench.children import AfterTraining, Failed, Tails
from bench.diagnose.layers import significant
from bench.diagnose.propagation import FloatWeight
from bench.diagnose.quantization import Seen, diagnose
from bench.diagnosis import ByPart, Diagnosed
from bench.errors import BenchError
from bench.evaluate.loss import evaluate
from bench.evaluate.weights import Checkpoint
from bench.mode import read_mode
from bench.model import sequence_losses
from bench.quantize.after import Applied, apply, check, needs_calibration
from bench.quantize.calibration import Calibration
from bench.quantize.linear import reset_counts
from bench.quantize.proof import layer_facts, rounding_facts, why_inert
from bench.spec import validate

QUANTITIES = tuple(Tails.model_fields)
DIAGNOSED_TOKENS = 2048  # or one sequence where that is more


def measure_modes(
    checkpoint: Checkpoint, names: Sequence[str], calibration: Calibration | None, score_NS: np.ndarray, batch: int,
    machine: str,
) -> Iterator[tuple[str, AfterTraining, Diagnosed] | tuple[str, Failed, None]]:  # fmt: skip
    """Yield each mode's measurements, on the checkpoint's weights taken up anew: rounding uses them up.

    score_NS is the scoring half, batch its sequences in a forward pass, machine the digest of this kind of machine. A
    mode that refuses the model ends as failed, with the cause, and the next is measured.
    """
    float_loss, model, seen = None, None, Seen()
    for place, name in enumerate(names):
        model = None  # before the next is there: one resident copy
        gc.collect()  # modules refer to one another
        model = checkpoint.model().requires_grad_(False)  # or autocast would keep bf16 copies of all weights
        if place == 0:
            float_loss = scored(model, score_NS, batch)
        start = time.perf_counter()
        try:
            facts, diagnosed = measure_mode(
                model, checkpoint.weight, name, calibration, score_NS, batch, float_loss, seen
            )
        except BenchError as error:
            yield name, failed_mode(name, error, machine), None
            continue
        own = {"machine": machine, "seconds": round(time.perf_counter() - start, 3), "made": _now()}
        yield name, validate({**facts, **own}, AfterTraining, f"mode {name}"), diagnosed


def failed_mode(name: str, error: BenchError, machine: str) -> Failed:
    return Failed(mode_digest=read_mode(name).digest, cause=error.what, machine=machine, made=_now())


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def measure_mode(
    model: PreTrainedModel, float_weight: FloatWeight, name: str, calibration: Calibration | None,
    score_NS: np.ndarray, batch: int, float_loss: float | None, seen: Seen | None = None,
) -> tuple[dict[str, Any], Diagnosed]:  # fmt: skip
    """Put a float model into a mode for good; return loss, perplexity, degradation in nats, proof, and the diagnosis.

    The diagnosis looks at the first tokens, and asks float_weight for one layer's weight at a time. seen: what was
    found of the float model, as bench.diagnose takes it.
    """
    mode = read_mode(name, "after")
    check(model, mode)
    first = torch.from_numpy(score_NS[: max(1, DIAGNOSED_TOKENS // (score_NS.shape[1] - 1))]).to(model.device)
    done: list[Applied] = []
    diagnosis = diagnose(model, mode, [first], lambda: done.append(apply(model, mode, calibration)), float_weight, seen)
    diagnosed = validate({**asdict(diagnosis), "block": mode.hadamard or 0}, Diagnosed, f"mode {name}")
    (applied,) = done
    loss, quantization = proved_loss(model, name, applied, score_NS, batch, float_loss)
    facts = {
        "mode_digest": mode.digest,
        "loss": loss,
        "perplexity": perplexity(loss),
        "degradation": difference(loss, float_loss),
        "quantization": quantization,
        "calibration": calibration.digest if calibration and needs_calibration(mode) else None,
        "gptq": applied.gptq,
        "hawq": applied.hawq,
        "diagnosis": summary(diagnosed),
    }
    return facts, diagnosed


def proved_loss(
    model: PreTrainedModel, name: str, applied: Applied, score_NS: np.ndarray, batch: int, float_loss: float | None
) -> tuple[float | None, dict[str, Any]]:
    """Return the loss of a model in a mode, and the proof that every layer rounded in all of its passes."""
    reset_counts(model)
    loss = scored(model, score_NS, batch)
    quantization = {**layer_facts(model), "float_score_loss": float_loss, "weights": applied.weights}
    tokens = torch.from_numpy(score_NS[:batch]).to(model.device)
    quantization["activations"] = rounding_facts(model, lambda: sequence_losses(model, tokens))["activations"]
    idle = why_inert(quantization)
    if idle or quantization["forwards"] != 1.0:
        raise BenchError(f"mode {name}: {idle or 'a layer did not round in every pass'}", "a fault of the harness")
    return loss, quantization


def difference(loss: float | None, float_loss: float | None) -> float | None:
    return None if loss is None or float_loss is None else loss - float_loss


def summary(diagnosed: Diagnosed) -> dict[str, Any]:
    """Return the diagnosis in short, as a child record has it."""
    sides = {"weights": diagnosed.weights, "activations": diagnosed.activations}
    means = {side: {name: _mean(found, name) for name in QUANTITIES} for side, found in sides.items()}
    return {"digest": diagnosed.digest, "error": diagnosed.propagation["R"][-1], **means}


def _mean(found: ByPart, quantity: str) -> float | None:
    values = [value for part in found.values() for value in part[quantity] if value is not None]
    return significant(math.fsum(values) / len(values)) if values else None


def scored(model: PreTrainedModel, score_NS: np.ndarray, batch: int) -> float | None:
    """Return the mean loss in nats per token; None where it is no number."""
    loss = float(evaluate(partial(sequence_losses, model), score_NS, batch, model.device).mean())
    return loss if math.isfinite(loss) else None


def perplexity(loss: float | None) -> float | None:
    """Return exp(loss); None where that is no number either."""
    return math.exp(loss) if loss is not None and loss < 700 else None
