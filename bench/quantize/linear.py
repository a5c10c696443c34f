"""QuantLinear: a linear layer whose weight and input are rounded, in training and after it, with one arithmetic."""

from collections.abc import Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.errors import BenchError
from bench.mode import Mode, Operand
from bench.quantize.arithmetic import hadamard_block, hadamard_signs, quantize, rotate
from bench.roles import roles_of


class QuantLinear(nn.Linear):
    """An nn.Linear with the same parameters, rounded in each forward pass while enabled; disabled, it is that layer.

    Scales are made anew in every pass, without a gradient. The bias stays float. Its state_dict is nn.Linear's.
    """

    forwards: Tensor  # counts, int64: all passes, and those that rounded
    quantized_forwards: Tensor
    signs: Tensor | None

    def __init__(self, linear: nn.Linear, mode: Mode, name: str = "linear", weight_bits: int | None = None) -> None:
        super().__init__(linear.in_features, linear.out_features, linear.bias is not None, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        self.enabled = True
        self.prepared = False  # the weight is rotated and rounded already
        self.gradient: str = mode.gradient or "identity"
        self.weight_rule = _rule(mode.weights, self.in_features, name, weight_bits)
        self.input_rule = _rule(mode.activations, self.in_features, name)
        self.block = hadamard_block(self.in_features, mode.hadamard or 0)
        device = linear.weight.device
        signs = hadamard_signs(self.block, device) if self.block > 1 else None
        for key, value in (("forwards", 0), ("quantized_forwards", 0)):
            self.register_buffer(key, torch.tensor(value, device=device), persistent=False)
        self.register_buffer("signs", signs, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        self.forwards.add_(1)
        if not self.enabled:
            return F.linear(x, self.weight, self.bias)
        self.quantized_forwards.add_(1)
        return F.linear(self.rounded_input(x), self.rounded_weight(), self.bias)

    def rounded_input(self, x: Tensor) -> Tensor:
        x = self.rotated(x)
        return quantize(x, *self.input_rule, self.gradient) if self.input_rule else x

    def rounded_weight(self) -> Tensor:
        if self.prepared:
            return self.weight
        weight = self.rotated(self.weight)
        return quantize(weight, *self.weight_rule, self.gradient) if self.weight_rule else weight

    def rotated(self, x: Tensor) -> Tensor:
        return x if self.signs is None else rotate(x, self.signs)

    @torch.no_grad()
    def prepare(self, weight: Tensor | None = None) -> None:
        """Put the rotated and rounded weight, or the one given, in the float one's place, for good."""
        self.weight.copy_(self.rounded_weight() if weight is None else weight)
        self.prepared = True


Rule = tuple[int, str, int]  # bits, grid, values that share a scale (0: a row)


def _rule(operand: Operand | None, width: int, name: str, bits: int | None = None) -> Rule | None:
    if operand is None:
        return None
    bits = bits or operand.bits
    if bits is None:
        raise BenchError(f"{name}: the bits of its weights are not given", "an algorithm that chooses them must")
    if operand.group and width % operand.group:
        fit = [size for size in range(2, width + 1) if width % size == 0]
        raise BenchError(
            f"{name}: groups of {operand.group} do not divide its width {width}",
            f'use over = "row", or one of {", ".join(map(str, fit))}',
        )
    return bits, operand.grid, operand.group


def expected(model: nn.Module) -> list[str]:
    """Return the names of the layers that a mode rounds: the owners of the hidden matrices, by the model's roles."""
    hidden = {id(weight) for weight in roles_of(model).matrices}
    return [name for name, module in model.named_modules() if id(getattr(module, "weight", None)) in hidden]


def convert(model: nn.Module, mode: Mode, weight_bits: Mapping[str, int] | None = None) -> list[str]:
    """Make every linear layer inside the blocks a QuantLinear, in place, and return their names; the head is none.

    weight_bits, by name, stand in for the mode's. Convert where the model will stay: layers of one width then share a
    rotation, and compiled code rotates an input that several layers read only once.
    """
    found = [(name, module) for name, module in model.named_modules() if type(module) is nn.Linear and _in_block(name)]
    shared: dict[tuple[int, torch.device], Tensor] = {}
    for name, linear in found:
        layer = QuantLinear(linear, mode, name, (weight_bits or {}).get(name))
        if layer.signs is not None:
            layer.signs = shared.setdefault((layer.block, layer.signs.device), layer.signs)
        home, _, last = name.rpartition(".")
        setattr(model.get_submodule(home), last, layer.train(linear.training))
    return [name for name, _ in found]


def _in_block(name: str) -> bool:
    """Blocks are the numbered children of a list."""
    return any(part.isdigit() for part in name.split("."))


def quantized(model: nn.Module) -> Iterator[tuple[str, QuantLinear]]:
    """Yield the layers that are there, by name."""
    for name, module in model.named_modules():
        if isinstance(module, QuantLinear):
            yield name, module


def enable(model: nn.Module, on: bool) -> None:
    for _, layer in quantized(model):
        layer.enabled = on


def reset_counts(model: nn.Module) -> None:
    for _, layer in quantized(model):
        layer.forwards.zero_()
        layer.quantized_forwards.zero_()
