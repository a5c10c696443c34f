"""How the rounding error moves through a network: what each module passes on, and what it adds (arXiv 2509.23500).

Modules are single ones, in order of execution: norms, linear layers, and what lies between a block's linear layers as
one unit, "core": the attention of query, key and value, and the activation of an MLP. The last two are the final norm
and the head. A module maps h to f(h) in the float network and h^q to f^q(h^q) in the rounded one; of its four
evaluations are made

    a = ([f^q(h^q) - f^q(h)] + [f(h^q) - f(h)]) / 2      of the changed input:    A = |a|^2 / |f(h)|^2
    b = ([f^q(h^q) - f(h^q)] + [f^q(h) - f(h)]) / 2      of the changed function: B = |b|^2 / |f(h)|^2
    R = |f^q(h^q) - f(h)|^2 / |f(h)|^2 = A + B + C,      C = 2 <a, b> / |f(h)|^2

over all tokens together. Of a module that does not round, f = f^q: A = R and B = C = 0. Its gain is A over the R of its
input; the residual stream's own error is the input's of each norm.

Both networks run side by side as the two halves of one batch, without autocast, so that only rounding differs. Rows
never meet outside attention, which is within a sequence, and a scale is a token's own: the halves do not touch.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from bench.diagnose.layers import hidden_of, looking, place_of, ratio, significant
from bench.errors import BenchError
from bench.quantize.linear import QuantLinear, quantized
from bench.roles import WRITERS

PIECE_TOKENS = 1024  # whose logits are there at a time

FloatWeight = Callable[[str], Tensor]  # by the layer's name, (out, in)
Norms = dict[tuple[str, int], float]  # spectral, of float weights, by the layer's name and the block that rotates it


@dataclass(frozen=True)
class Step:
    """One module's error; None where there is nothing to relate to."""

    module: str  # "0.self_attn.q_proj": block, and name inside it
    R: float | None
    A: float | None
    B: float | None
    C: float | None
    per_token: float | None  # the mean of the tokens' own R; R itself is dominated by tokens of large norm
    input: float | None  # R of its input
    gain: float | None  # A over it: spectral * alignment
    spectral: float | None  # (|W + e/2|_2 / |W|_2)^2, e the weight's rounding error; of a linear layer
    alignment: float | None  # (|a| / (|W + e/2|_2 |dh|))^2 / (|f(h)| / (|W|_2 |h|))^2, dh the input's error


class _Sums:
    """Of one module over all batches, float64."""

    def __init__(self) -> None:
        self.total: Tensor | float = 0.0

    def add(self, output: Tensor, error: Tensor, a: Tensor, b: Tensor | None, given: Tensor) -> None:
        """Shapes (B, T, D), of the float half; given are the input's squared error and size."""
        size, own = output.square().sum(dim=-1), error.square().sum(dim=-1)
        there = size > 0
        nothing = torch.zeros((), dtype=torch.float64, device=output.device)
        parts = (
            own.sum(),
            a.square().sum(),
            nothing if b is None else b.square().sum(),
            nothing if b is None else 2 * (a * b).sum(),
            size.sum(),
            given[0],
            given[1],
            (own / size.where(there, 1.0)).where(there, 0.0).sum(),
            there.sum().double(),
        )
        self.total = self.total + torch.stack(parts)

    def step(self, module: str, norms: tuple[float, float] | None) -> Step:
        assert isinstance(self.total, Tensor), f"{module} never ran"
        error, a, b, both, size, input_error, input_size, tokens, count = self.total.tolist()
        given = ratio(input_error, input_size)
        gain = ratio(a / size, given) if size > 0 and given is not None else None
        spectral = ratio(norms[1] ** 2, norms[0] ** 2) if norms else None
        alignment = None
        if norms and gain is not None and norms[0] > 0 and norms[1] > 0:
            alignment = (a / (norms[1] ** 2 * input_error)) / (size / (norms[0] ** 2 * input_size))
        return Step(
            module, ratio(error, size), ratio(a, size), ratio(b, size), both / size if size > 0 else None,
            ratio(tokens, count), given, gain, spectral, alignment,
        )  # fmt: skip


class _Watch:
    """The hooks of one pass over both networks; sums appear in order of execution."""

    def __init__(self, float_weight: FloatWeight) -> None:
        self.float_weight = float_weight
        self.sums: dict[str, _Sums] = {}
        self.between: dict[str, Tensor] = {}  # squared error and size of what a block's readers put out, by their home

    def add(self, name: str, output: Tensor, error: Tensor, given: Tensor,
            split: tuple[Tensor, Tensor | None] | None = None) -> None:  # fmt: skip
        a, b = split or (error, None)
        self.sums.setdefault(name, _Sums()).add(output, error, a, b, given)

    def norm(self, name: str, x: Tensor, y: Tensor) -> None:
        output, error = _halves(y)
        self.add(name, output, error, _norms(*_halves(x)))

    def linear(self, name: str, layer: QuantLinear, x: Tensor, rounded: Tensor) -> Tensor:
        """Take f^q(h) and f^q(h^q), make f(h) and f(h^q), and hand on f(h) and f^q(h^q)."""
        plain = F.linear(x, self.float_weight(name).to(device=x.device, dtype=x.dtype), layer.bias)
        given = _halves(x)
        home, _, last = name.rpartition(".")
        if last in WRITERS:
            self.add(f"{home}.core", *given, self.between.pop(home))
        f_h, f_hq = plain.double().chunk(2)
        q_h, q_hq = rounded.double().chunk(2)
        a = ((q_hq - q_h) + (f_hq - f_h)) / 2
        b = ((q_hq - f_hq) + (q_h - f_h)) / 2
        self.add(name, f_h, q_hq - f_h, _norms(*given), (a, b))
        if last not in WRITERS:
            self.between[home] = self.between.get(home, 0.0) + _norms(f_h, q_hq - f_h)
        return torch.cat([plain.chunk(2)[0], rounded.chunk(2)[1]])

    def head(self, head: nn.Linear, hidden: Tensor) -> None:
        """Both halves' logits, a piece at a time."""
        h, hq = (half.flatten(0, 1) for half in hidden.chunk(2))
        for one, other in zip(h.split(PIECE_TOKENS), hq.split(PIECE_TOKENS), strict=True):
            output, error = _halves(head(torch.cat([one, other])))
            self.add("head", output, error, _norms(*_halves(torch.cat([one, other]))))


def _halves(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the float half and the rounded one's difference from it, float64."""
    float_half, rounded = x.double().chunk(2)
    return float_half, rounded - float_half


def _norms(value: Tensor, error: Tensor) -> Tensor:
    """Return squared error and squared size, shape (2,)."""
    return torch.stack([error.square().sum(), value.square().sum()])


def propagation(
    model: PreTrainedModel, batches: Iterable[Tensor], float_weight: FloatWeight | None = None,
    norms: Norms | None = None,
) -> list[Step]:  # fmt: skip
    """Return every module's error, in order of execution; the last is the head's, whose R is the network's R_L.

    model: converted to a mode; batches: windows of tokens (B, S), of which the first S - 1 are read; float_weight:
    gives those that rounding for good has overwritten, each when its layer runs; norms: what was found of the same
    float weights before, to which the new ones are added. Workspace: one float weight, and one layer's outputs in
    float64, about ten times.
    """
    layers = dict(quantized(model))
    lost = [name for name, layer in layers.items() if layer.prepared and float_weight is None]
    if lost or not layers:
        raise BenchError(
            f"the float weight of {lost[0]} is overwritten" if lost else "the model has no quantized layer",
            "say where the float weights are" if lost else "convert it to a mode first",
        )

    def weight_of(name: str) -> Tensor:
        return layers[name].weight if float_weight is None else float_weight(name)

    watch = _Watch(weight_of)
    with looking(model) as hooks:
        for name, module in model.named_modules():
            if name in layers:
                hooks.append(module.register_forward_hook(
                    lambda layer, given, out, name=name: watch.linear(name, layer, given[0], out)))  # fmt: skip
            elif getattr(getattr(module, "weight", None), "ndim", 0) == 1:
                hooks.append(module.register_forward_hook(
                    lambda _, given, out, name=name: watch.norm(name, given[0], out)))  # fmt: skip
        for tokens_BS in batches:
            tokens = tokens_BS[:, :-1]
            watch.head(model.get_output_embeddings(), hidden_of(model, torch.cat([tokens, tokens])))
        known = {} if norms is None else norms
        pairs = {name: spectral_norms(name, layer, weight_of(name), known) for name, layer in layers.items()}
    if ("head", 1) not in known:
        known["head", 1] = spectral_norm(model.get_output_embeddings().weight.detach())
    pairs["head"] = (known["head", 1],) * 2
    return [sums.step(_told(name), pairs.get(name)) for name, sums in watch.sums.items()]


def _told(name: str) -> str:
    block, part = place_of(name)
    return part if block is None else f"{block}.{part}"


def spectral_norms(name: str, layer: QuantLinear, float_weight: Tensor, known: Norms) -> tuple[float, float]:
    """Return |W|_2 and |W + e/2|_2, both rotated where the layer rotates: e is what rounding adds to the weight."""
    weight = layer.rotated(float_weight.to(layer.weight)).double()
    if (name, layer.block) not in known:
        known[name, layer.block] = spectral_norm(weight)
    in_use = layer.rounded_weight() if layer.enabled else layer.rotated(layer.weight)
    return known[name, layer.block], spectral_norm((weight + in_use.double()) / 2)


def spectral_norm(weight: Tensor) -> float:
    """Return the largest singular value, from the smaller Gram matrix in float64; of what is no number, none either."""
    wide = weight.double()
    if not wide.isfinite().all():
        return math.nan
    gram = wide @ wide.mT if wide.shape[0] <= wide.shape[1] else wide.mT @ wide
    return float(torch.linalg.eigvalsh(gram)[-1].clamp(min=0).sqrt())


def in_columns(steps: Iterable[Step]) -> dict[str, list[str] | list[float | None]]:
    """Return, for a record, one list of names and one of each quantity, four digits, in order of execution."""
    rows = list(steps)
    table: dict[str, list[str] | list[float | None]] = {"module": [step.module for step in rows]}
    for quantity in ("R", "A", "B", "C", "per_token", "input", "gain", "spectral", "alignment"):
        table[quantity] = [significant(getattr(step, quantity)) for step in rows]
    return table
