"""GPTQ (Frantar et al. 2022, arXiv 2210.17323, Algorithm 1): the columns after it make up for what one loses.

The grid is that of rounding to nearest, set by the float weight and never moved. Layers are taken in the order in which
tokens pass them, and those that read one input are taken together: each sees the rounded ones before it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from bench.errors import BenchError
from bench.quantize.arithmetic import grouped, largest_level, round_to_grid
from bench.quantize.calibration import Calibration
from bench.quantize.linear import QuantLinear, Rule, quantized

COLUMNS = 128  # between two updates of all columns that are left (section 3.3, lazy batch updates)
DAMPINGS = (0.01, 0.1, 1.0)  # of the mean diagonal: the paper's, and more where the factorization fails with less


@dataclass(frozen=True)
class Outcome:
    """How one layer was rounded."""

    damping: float | None  # that its Hessian took; None where none was enough and it was rounded to nearest
    clipped: int  # values beyond the largest level when their turn came


def inverse_factor(hessian: Tensor, dampings: tuple[float, ...] = DAMPINGS) -> tuple[Tensor, float] | None:
    """Return (U, damping), U upper triangular, U^T U = (H + damping mean(diag H) I)^-1, made in float64.

    None where no damping lets both factorizations succeed.
    """
    wide = hessian.double()
    mean = wide.diagonal().mean()
    for damping in dampings:
        damped = wide + torch.diag_embed((damping * mean).expand(len(wide)))
        lower, failed = torch.linalg.cholesky_ex(damped)
        if int(failed):
            continue
        upper, failed = torch.linalg.cholesky_ex(torch.cholesky_inverse(lower), upper=True)
        if not int(failed) and bool(upper.isfinite().all()):
            return upper, damping
    return None


def round_columns(weight: Tensor, upper: Tensor, rule: Rule) -> tuple[Tensor, Tensor]:
    """Return (levels, values clipped in each row) of a weight (out, in), by Algorithm 1."""
    bits, grid, group = rule
    tops = largest_level(grouped(weight, group), bits, grid).reshape(len(weight), -1).mT.contiguous()  # (groups, out)
    left = weight.mT.clone(memory_format=torch.contiguous_format)  # (in, out): a column of the weight lies together
    width, size = len(left), group or len(left)
    upper = upper.to(weight.dtype)
    diagonal = upper.diagonal().tolist()
    clipped = torch.zeros(len(weight), dtype=torch.int64, device=weight.device)
    for start in range(0, width, COLUMNS):
        stop = min(start + COLUMNS, width)
        errors = torch.empty_like(left[start:stop])
        for column in range(start, stop):
            w, top = left[column], tops[column // size]
            clipped += w.abs() > top
            level = round_to_grid(w.clamp(-top, top), top, bits, grid)
            errors[column - start] = error = (w - level) / diagonal[column]
            left[column + 1 : stop].addr_(upper[column, column + 1 : stop], error, alpha=-1)
            left[column] = level
        left[stop:] -= upper[start:stop, stop:].mT @ errors
    return left.mT.contiguous(), clipped


@torch.no_grad()
def round_model(
    model: PreTrainedModel, calibration: Calibration, dampings: tuple[float, ...] = DAMPINGS
) -> dict[str, Outcome]:
    """Round the weights of a converted model in place, and return how each layer went, by name.

    Hidden states of the whole calibration set are kept between blocks; of weights there is never a second copy beyond
    the layers that share an input.
    """
    names = {layer: name for name, layer in quantized(model)}
    outcomes: dict[str, Outcome] = {}
    blocks = _blocks(model)
    with torch.autocast(model.device.type, dtype=torch.bfloat16):
        states, others = _entering(model, blocks[0], calibration)
        for block in blocks:
            for together in _sharing(block, states[0], others):
                hessian = _hessian(block, together[0], states, others)
                if not bool(hessian.isfinite().all()):
                    raise BenchError(
                        f"{names[together[0]]}: its inputs on the calibration text are not all numbers",
                        "this checkpoint has diverged, and cannot be calibrated",
                    )
                with torch.autocast(model.device.type, enabled=False):  # or what columns make up for is summed in bf16
                    found = _round_together(together, hessian, dampings)
                outcomes |= {names[layer]: outcome for layer, outcome in zip(together, found, strict=True)}
            states = [_output(block, state, others) for state in states]
    return outcomes


def _round_together(layers: list[QuantLinear], hessian: Tensor, dampings: tuple[float, ...]) -> list[Outcome]:
    """Round layers of one input, their rows below one another."""
    rule = layers[0].weight_rule
    assert rule is not None
    factored = inverse_factor(hessian, dampings)
    if factored is None:
        for layer in layers:
            layer.prepare()
        return [Outcome(None, 0) for _ in layers]
    weight = torch.cat([layer.rotated(layer.weight).float() for layer in layers])
    levels, clipped = round_columns(weight, factored[0], rule)
    rows = [layer.out_features for layer in layers]
    for layer, own in zip(layers, levels.split(rows), strict=True):
        layer.prepare(own)
    return [Outcome(factored[1], int(own.sum())) for own in clipped.split(rows)]


def _hessian(block: nn.Module, layer: QuantLinear, states: list[Tensor], others: dict[int, Any]) -> Tensor:
    """Return 2 X X^T of the layer's inputs as its product takes them, shape (in, in), fp32."""
    total = torch.zeros(layer.in_features, layer.in_features, device=layer.weight.device)

    def add(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        x = layer.rounded_input(arguments[0]).flatten(0, -2).float()
        with torch.autocast(x.device.type, enabled=False):
            total.addmm_(x.mT, x, alpha=2.0)
        raise _Reached

    with _hooked([layer.register_forward_pre_hook(add)]):
        for state in states:
            _reach(lambda state=state: _output(block, state, others))
    return total


def _sharing(block: nn.Module, state: Tensor, others: dict[int, Any]) -> list[list[QuantLinear]]:
    """Return the block's layers in the order tokens pass them, those that read one tensor together."""
    groups: list[tuple[Tensor, list[QuantLinear]]] = []

    def look(layer: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, QuantLinear)
        same = [layers for read, layers in groups if read is arguments[0]]
        if same:
            same[0].append(layer)
        else:
            groups.append((arguments[0], [layer]))

    with _hooked([layer.register_forward_pre_hook(look) for _, layer in quantized(block)]):
        _output(block, state, others)
    return [layers for _, layers in groups]


def _blocks(model: nn.Module) -> list[nn.Module]:
    """Return the transformer's blocks: the list of modules that the rounded layers lie in."""
    lists = [list(m) for m in model.modules() if isinstance(m, nn.ModuleList) and any(True for _ in quantized(m))]
    assert len(lists) == 1, "layers outside the blocks"
    return lists[0]


def _entering(
    model: PreTrainedModel, first: nn.Module, calibration: Calibration
) -> tuple[list[Tensor], dict[int, Any]]:
    """Return the hidden states that enter the first block, and what else blocks are given, by sequences in a batch."""
    states: list[Tensor] = []
    others: dict[int, Any] = {}

    def catch(module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        given = dict(named)
        state = arguments[0] if arguments else given.pop("hidden_states")
        states.append(state)
        others[len(state)] = arguments[1:], given
        raise _Reached

    with _hooked([first.register_forward_pre_hook(catch, with_kwargs=True)]):
        for tokens in calibration.batches(model.device):
            _reach(lambda tokens=tokens: model.base_model(input_ids=tokens[:, :-1]))
    return states, others


def _output(block: nn.Module, state: Tensor, others: dict[int, Any]) -> Tensor:
    arguments, named = others[len(state)]
    out: Tensor | tuple[Tensor, ...] = block(state, *arguments, **named)
    return out[0] if isinstance(out, tuple) else out


class _Reached(Exception):
    """A forward pass came to where it was wanted; the rest of it is not needed."""


def _reach(forward: Any) -> None:
    try:
        forward()
    except _Reached:
        return
    raise AssertionError("the layer was not reached")


@contextmanager
def _hooked(hooks: list[RemovableHandle]) -> Iterator[None]:
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
