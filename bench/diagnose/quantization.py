"""Everything about one model in one mode: the outliers it rounds, and where its error comes from."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from torch import Tensor
from transformers import PreTrainedModel

from bench.diagnose.outliers import activation_outliers, by_part, weight_outliers
from bench.diagnose.propagation import FloatWeight, Norms, in_columns, propagation
from bench.errors import BenchError
from bench.mode import Mode
from bench.quantize.linear import convert, expected, quantized

Outliers = dict[str, dict[str, list[float | None]]]


@dataclass(frozen=True)
class Seen:
    """What was found of one float model on the same batches: it depends on no mode but for its rotation."""

    outliers: dict[int, tuple[Outliers, Outliers]] = field(default_factory=dict)  # weights', inputs', by largest block
    norms: Norms = field(default_factory=dict)


@dataclass(frozen=True)
class Diagnosis:
    """Ready for a record: numbers of four significant digits, null where a ratio has nothing under its bar."""

    tokens: int  # looked at
    weights: Outliers  # by the layer's name inside its block, then by quantity
    activations: Outliers
    propagation: dict[str, list[str] | list[float | None]] | None  # by quantity; none where the mode rounds nothing


def diagnose(
    model: PreTrainedModel,
    mode: Mode,
    batches: Sequence[Tensor],
    apply: Callable[[], object] | None = None,
    float_weight: FloatWeight | None = None,
    seen: Seen | None = None,
) -> Diagnosis:
    """Return the outliers of a float model, rotated where the mode rotates, and how the mode's error moves through it.

    batches: windows of tokens (B, S). apply: puts the model into the mode for good, as algorithms that choose weights
    do; the float ones are then asked of float_weight, a layer's at a time. Without it the mode rounds in each pass, and
    the model is as it was afterwards. seen: what is new of the float model is added to it.
    """
    if any(True for _ in quantized(model)):
        raise BenchError("the model to be diagnosed has quantized layers already", "hand over the float model")
    if apply is None and mode.algorithm in ("gptq", "hawq"):
        raise BenchError(f"{mode.algorithm} chooses weights by calibration", "hand over what applies it")
    block, seen = mode.hadamard or 0, seen or Seen()
    if block not in seen.outliers:
        found = by_part(weight_outliers(model, block)), by_part(activation_outliers(model, batches, block))
        seen.outliers[block] = found
    weights, activations = seen.outliers[block]
    steps = None
    if apply is not None:
        apply()
        steps = propagation(model, batches, float_weight, seen.norms)
    elif mode.quantizes:
        with converted(model, mode):
            steps = propagation(model, batches, norms=seen.norms)
    tokens = sum(len(batch) * (batch.shape[1] - 1) for batch in batches)
    return Diagnosis(tokens, weights, activations, None if steps is None else in_columns(steps))


@contextmanager
def converted(model: PreTrainedModel, mode: Mode) -> Iterator[None]:
    """Round in each pass, as the mode does; the float layers are in their places again afterwards."""
    before = {name: model.get_submodule(name) for name in expected(model)}
    try:
        convert(model, mode)
        yield
    finally:
        for name, layer in before.items():
            model.set_submodule(name, layer)
