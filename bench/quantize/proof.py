"""Proof that a mode rounded what it says: which layers, how often, onto how many levels, and what was cut off."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from bench.digest import digest_of
from bench.quantize.arithmetic import gradient_mask, grouped, largest_level, round_to_grid
from bench.quantize.linear import QuantLinear, Rule, expected, quantized

LEVEL_ROWS = 256  # rows of a tensor whose distinct levels are counted


def layer_facts(model: nn.Module) -> dict[str, Any]:
    """Return the static part of a record's `facts.quantization`, and the least share of a layer's passes that rounded.

    expected is read off the model's roles, actual off the layers that are there.
    """
    layers = dict(quantized(model))
    shares = [int(m.quantized_forwards) / int(m.forwards) for m in layers.values() if int(m.forwards)]
    return {
        "expected": _named(expected(model)),
        "actual": _named(layers),
        "parts": dict(sorted(Counter(name.rpartition(".")[2] for name in layers).items())),
        "blocks": {str(width): block for width, block in sorted({(m.in_features, m.block) for m in layers.values()})},
        "forwards": round(min(shares), 6) if len(shares) == len(layers) > 0 else None,
        "float_score_loss": None,
        "weights": None,
        "activations": None,
    }


def _named(names: Iterable[str]) -> dict[str, Any]:
    names = sorted(names)
    return {"count": len(names), "digest": digest_of(names)}


def why_inert(facts: dict[str, Any]) -> str | None:
    """Return in what way a mode that rounds did not, or None where it did."""
    actual, wanted = facts["actual"], facts["expected"]
    if actual != wanted or not actual["count"]:
        return f"{actual['count']} layers are quantized, {wanted['count']} expected, of the same names"
    if facts["forwards"] == 0:
        return "a layer was never quantized in a forward pass"
    for side in ("weights", "activations"):
        rounding = facts[side]
        if rounding and rounding["levels"][1] > 2 ** rounding["bits"]:
            return f"{side} have {rounding['levels'][1]} levels in a row, more than {rounding['bits']} bits give"
    return None


class _Side:
    """What is counted over the layers' weights, or over their inputs."""

    def __init__(self) -> None:
        self.levels: list[int] = []
        self.bits = self.clipped = self.masked = self.values = 0

    def add(self, x: Tensor, rule: Rule, gradient: str) -> None:
        bits, grid, group = rule
        wide = grouped(x.to(torch.promote_types(x.dtype, torch.float32)), group).flatten(0, -2)
        top = largest_level(wide, bits, grid)
        rounded = round_to_grid(wide[:LEVEL_ROWS], top[:LEVEL_ROWS], bits, grid)
        self.levels.append(most_levels(rounded))
        self.bits = max(self.bits, bits)
        self.clipped += int((wide.abs() > top).sum())
        self.masked += int((~gradient_mask(wide, top, bits, grid, gradient)).sum())
        self.values += wide.numel()

    def facts(self) -> dict[str, Any] | None:
        if not self.values:
            return None
        return {
            "bits": self.bits,
            "levels": [min(self.levels), max(self.levels)],
            "clipped": round(self.clipped / self.values, 6),
            "masked": round(self.masked / self.values, 6),
        }


def most_levels(rows: Tensor) -> int:
    """Return the distinct values of the row that has most; those that are no numbers count as one."""
    return int((rows.sort(dim=-1).values.diff(dim=-1) > 0).sum(dim=-1).max()) + 1


@torch.no_grad()
def rounding_facts(model: nn.Module, forward: Callable[[], Any]) -> dict[str, Any]:
    """Return levels, clipped and masked shares of weights and of activations, over all layers, in one forward pass."""
    weights, inputs = _Side(), _Side()

    def look(layer: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, QuantLinear)
        if layer.weight_rule and not layer.prepared:
            weights.add(layer.rotated(layer.weight), layer.weight_rule, layer.gradient)
        if layer.input_rule:
            inputs.add(layer.rotated(arguments[0]), layer.input_rule, layer.gradient)

    hooks = [layer.register_forward_pre_hook(look) for _, layer in quantized(model)]
    try:
        forward()
    finally:
        for hook in hooks:
            hook.remove()
    return {"weights": weights.facts(), "activations": inputs.facts()}
