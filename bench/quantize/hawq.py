"""HAWQ-V2 (Dong et al. 2019, arXiv 1911.03852): how many bits each layer gets, from the curvature of the loss.

Omega_i(b) = mean trace of layer i's Hessian times |Q_b(W_i) - W_i|^2; the bits minimise the sum at a given average.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import PreTrainedModel

from bench.errors import BenchError
from bench.mode import Mode
from bench.quantize.calibration import Calibration
from bench.quantize.linear import QuantLinear, expected

DRAWS = 100
WINDOW = 128  # tokens of a draw at most: more draws on more text tell more than longer ones of the same cost
TOLERANCE = 1e-3  # relative change of the running means, as in the authors' PyHessian; few models come there
SEED = 0
FLOOR = 1e-6  # of the largest trace: what the budget leaves goes where rounding moves weights most


@dataclass(frozen=True)
class Traces:
    mean: dict[str, float]  # trace over parameters, by layer; negative ones are 0
    draws: int
    negative: int  # layers whose estimate was below 0, as away from a minimum it can be


@dataclass(frozen=True)
class Choice:
    bits: dict[str, int]
    average: float  # bits a weight
    traces: Traces


def choose_bits(model: PreTrainedModel, mode: Mode, calibration: Calibration) -> Choice:
    """Return the bits of every layer of a float model that the mode rounds."""
    assert mode.candidate_bits and mode.average_bits
    names = expected(model)
    layers = {name: model.get_submodule(name) for name in names}
    traces = mean_traces(model, names, calibration)
    candidates = sorted(mode.candidate_bits)
    least = FLOOR * max(traces.mean.values()) or 1.0  # at none above 0 all layers count alike
    costs = [
        [max(least, traces.mean[name]) * lost for lost in perturbations(layer, mode, name, candidates)]
        for name, layer in layers.items()
    ]
    sizes = [layer.weight.numel() for layer in layers.values()]
    chosen = knapsack(costs, sizes, candidates, mode.average_bits)
    average = sum(size * bits for size, bits in zip(sizes, chosen, strict=True)) / sum(sizes)
    return Choice(dict(zip(names, chosen, strict=True)), average, traces)


@torch.no_grad()
def perturbations(linear: nn.Module, mode: Mode, name: str, candidates: Sequence[int]) -> list[float]:
    """Return |Q_b(W) - W|^2 for each number of bits."""
    assert isinstance(linear, nn.Linear)
    layers = [QuantLinear(linear, mode, name, bits) for bits in candidates]
    return [float((layer.rounded_weight() - layer.rotated(layer.weight)).square().sum()) for layer in layers]


def mean_traces(
    model: PreTrainedModel, names: Sequence[str], calibration: Calibration, draws: int = DRAWS,
    tolerance: float = TOLERANCE, seed: int = SEED,
) -> Traces:  # fmt: skip
    """Return Hutchinson's estimate of each layer's trace, over its parameters, of the Hessian of the mean loss.

    Each draw takes the start of the next calibration sequence, so the mean is over the text too. It ends when the
    running means change by less than the tolerance, all layers' changes against all layers' means.
    """
    weights = [model.get_submodule(name).weight for name in names]
    sizes = np.array([weight.numel() for weight in weights], np.float64)
    generator = torch.Generator().manual_seed(seed)
    total, done = np.zeros(len(names)), 0
    for done in range(1, draws + 1):
        tokens = calibration.one(done - 1, model.device)[:, : WINDOW + 1]
        found = np.array(list(quadratic_forms(model, weights, tokens, generator))) / sizes
        if not np.isfinite(found).all():
            where = names[int(np.flatnonzero(~np.isfinite(found))[0])]
            raise BenchError(
                f"{where}: the curvature of the loss on the calibration text is no number",
                "this checkpoint has diverged, and cannot be calibrated",
            )
        change = found / done - total / (done * (done - 1)) if done > 1 else np.full(len(names), np.inf)
        total += found
        if np.abs(change).sum() <= tolerance * np.abs(total / done).sum():
            break
    means = total / done
    kept = {name: max(0.0, float(mean)) for name, mean in zip(names, means, strict=True)}
    return Traces(kept, done, int((means < 0).sum()))


def quadratic_forms(
    model: PreTrainedModel, weights: Sequence[Tensor], tokens_BS: Tensor, generator: torch.Generator
) -> Iterator[float]:
    """Yield v_i . (H v)_i of each weight, v of signs drawn for all weights; other layers' signs add nothing on average.

    The products are fp32: a difference of bf16 gradients is mostly rounding. Only the plain attention kernel has a
    second derivative.
    """
    with sdpa_kernel(SDPBackend.MATH), torch.enable_grad():
        logits = model(input_ids=tokens_BS[:, :-1]).logits.to(torch.promote_types(weights[0].dtype, torch.float32))
        loss = F.cross_entropy(logits.flatten(0, -2), tokens_BS[:, 1:].flatten())
        gradients = torch.autograd.grad(loss, weights, create_graph=True)
        signs = [_signs(weight, generator) for weight in weights]
        products = torch.autograd.grad(gradients, weights, signs)
    for sign, product in zip(signs, products, strict=True):
        yield float(sign.flatten() @ product.flatten())


def _signs(weight: Tensor, generator: torch.Generator) -> Tensor:
    """Return Rademacher draws, +1 and -1, drawn on the CPU so that every device has the same."""
    drawn = torch.randint(0, 2, weight.shape, generator=generator, dtype=torch.int8)
    return drawn.to(weight.device, weight.dtype).mul_(2).sub_(1)


def knapsack(
    costs: Sequence[Sequence[float]], sizes: Sequence[int], candidates: Sequence[int], average: float
) -> list[int]:
    """Return each layer's bits, one candidate each, of least total cost with at most the average over all weights.

    Exact, by dynamic programming over the bits above the fewest, in units of the sizes' greatest common divisor.
    Among equal costs the fewer bits are taken.
    """
    ascending = sorted(candidates)
    fewest = ascending[0]
    if average < fewest:
        raise BenchError(f"average_bits {average:g} is less than the fewest candidate_bits, {fewest}")
    unit = math.gcd(*sizes)
    units = [size // unit for size in sizes]
    capacity = min(math.floor((average - fewest) * sum(units) + 1e-9), (ascending[-1] - fewest) * sum(units))
    best = np.zeros(capacity + 1)
    choices = np.zeros((len(units), capacity + 1), np.int8)
    order = [candidates.index(bits) for bits in ascending]
    for place, (size, own) in enumerate(zip(units, costs, strict=True)):
        least = best + own[order[0]]
        for rank, bits in enumerate(ascending[1:], start=1):
            extra = (bits - fewest) * size
            if extra > capacity:
                break
            with_it = best[: capacity + 1 - extra] + own[order[rank]]
            better = with_it < least[extra:]
            least[extra:][better] = with_it[better]
            choices[place, extra:][better] = rank
        best = least
    chosen, room = [], capacity
    for place in reversed(range(len(units))):
        bits = ascending[choices[place, room]]
        chosen.append(bits)
        room -= (bits - fewest) * units[place]
    return chosen[::-1]


def by_part(bits: Mapping[str, int]) -> dict[str, str]:
    """Return the bits by a layer's name inside its block, a digit for each block: short enough for a record."""
    parts: dict[str, str] = {}
    for name, value in bits.items():
        _, _, tail = name.partition(next(f".{part}." for part in name.split(".") if part.isdigit()))
        parts[tail] = parts.get(tail, "") + str(value)
    return parts
