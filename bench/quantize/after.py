"""From a float model and a mode to the rounded model, in place: one copy of the weights, and one layer's workspace.

HAWQ's traces alone take more: gradients of all layers at once, on one sequence.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel

from bench.mode import Mode
from bench.quantize import gptq, hawq
from bench.quantize.arithmetic import grouped, largest_level
from bench.quantize.calibration import Calibration
from bench.quantize.linear import QuantLinear, convert, expected, quantized, reset_counts
from bench.quantize.proof import LEVEL_ROWS, most_levels


@dataclass(frozen=True)
class Applied:
    """What was done to the weights, in the words of a child record."""

    weights: dict[str, Any] | None  # bits, levels, clipped, masked; None where they stay float
    gptq: dict[str, Any] | None
    hawq: dict[str, Any] | None


def needs_calibration(mode: Mode) -> bool:
    return mode.algorithm in ("gptq", "hawq")


def check(model: PreTrainedModel, mode: Mode) -> dict[int, int]:
    """Refuse a mode that the width of a layer does not fit, before anything costly is done.

    Return the block that rotates the inputs of each width: the largest power of two, up to the mode's, that divides it.
    """
    least = min(mode.candidate_bits) if mode.candidate_bits else None
    layers = [QuantLinear(model.get_submodule(name), mode, name, least) for name in expected(model)]
    return {layer.in_features: layer.block for layer in layers}


def apply(model: PreTrainedModel, mode: Mode, calibration: Calibration | None) -> Applied:
    """Round the weights of a float model for good and its inputs from now on; the same arguments give the same bits."""
    assert mode.kind == "after" and (calibration is not None or not needs_calibration(mode))
    model.eval().requires_grad_(mode.algorithm == "hawq")
    choice = hawq.choose_bits(model, mode, calibration) if mode.algorithm == "hawq" and calibration else None
    model.requires_grad_(False)  # of weights that take a gradient autocast keeps bf16 copies: half a model more
    convert(model, mode, choice.bits if choice else None)
    outcomes = gptq.round_model(model, calibration) if mode.algorithm == "gptq" and calibration else {}
    clipped = sum(outcome.clipped for outcome in outcomes.values())
    for _, layer in quantized(model):
        if not layer.prepared:
            clipped += _beyond(layer)
            layer.prepare()
    reset_counts(model)
    return Applied(
        weights=_weights(model, clipped) if mode.weights else None,
        gptq=_told(outcomes) if mode.algorithm == "gptq" else None,
        hawq=None if choice is None else {
            "bits": hawq.by_part(choice.bits),
            "average": choice.average,
            "draws": choice.traces.draws,
            "negative": choice.traces.negative,
        },
    )  # fmt: skip


@torch.no_grad()
def _beyond(layer: QuantLinear) -> int:
    """Return the weights beyond the largest level."""
    if layer.weight_rule is None:
        return 0
    bits, grid, group = layer.weight_rule
    rows = grouped(layer.rotated(layer.weight).float(), group)
    return int((rows.abs() > largest_level(rows, bits, grid)).sum())


def _weights(model: PreTrainedModel, clipped: int) -> dict[str, Any]:
    """Return what the rounded weights show, as they lie in the model."""
    layers = [layer for _, layer in quantized(model)]
    rules = [layer.weight_rule for layer in layers if layer.weight_rule]
    levels = [
        most_levels(grouped(layer.weight.detach()[:LEVEL_ROWS], rule[2]).flatten(0, -2))
        for layer, rule in zip(layers, rules, strict=True)
    ]
    assert all(count <= 2**bits for count, (bits, _, _) in zip(levels, rules, strict=True)), levels
    return {
        "bits": max(bits for bits, _, _ in rules),
        "levels": [min(levels), max(levels)],
        "clipped": round(clipped / sum(layer.weight.numel() for layer in layers), 6),
        "masked": 0.0,
    }


def _told(outcomes: dict[str, gptq.Outcome]) -> dict[str, Any]:
    dampings = Counter(f"{outcome.damping:g}" for outcome in outcomes.values() if outcome.damping is not None)
    return {
        "dampings": dict(sorted(dampings.items())),
        "fallbacks": sum(outcome.damping is None for outcome in outcomes.values()),
    }
