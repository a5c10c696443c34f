"""Outliers of weights and of activations: how far the largest entry of a row stands out, and how heavy the tails are.

Activations are the inputs of the linear layers inside the blocks, of the float model. A row is what shares a scale: a
token's features or the weights of an output channel; a feature is an input channel of the layer. Sums are float64.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from bench.diagnose.layers import hidden_of, looking, place_of, ratio, significant
from bench.quantize.arithmetic import hadamard_block, hadamard_signs, rotate
from bench.quantize.linear import expected


@dataclass(frozen=True)
class Outliers:
    """Of one matrix; None where a ratio has nothing under its bar.

    max_over_mean, max_over_median: max|x| / mean|x| and max|x| / median|x| of a row (of an even number the lower of the
    two middle ones), then the mean over rows; d Gaussian entries have about sqrt(pi ln d) and sqrt(2 ln d) / 0.674.
    left_out: the share of rows whose median, or maximum, is 0; they count in no mean whose ratio they do not have.
    kurtosis: of all entries, excess over a Gaussian's 3.
    feature_kurtosis: mean_j s_j^4 / (mean_j s_j^2)^2 of the features' RMS s_j (arXiv 2405.19279): 1 where all are
    alike, the width where one feature holds everything.
    """

    max_over_mean: float | None
    max_over_median: float | None
    kurtosis: float | None
    feature_kurtosis: float | None
    left_out: float


class Tally:
    """Sums over rows that come in pieces; the order and size of pieces change no more than the rounding of float64."""

    def __init__(self) -> None:
        self.rows = 0
        self.ratios = torch.zeros(4, dtype=torch.float64)  # sums and counts of max/mean, then of max/median
        self.powers = torch.zeros(4, dtype=torch.float64)  # sums of x, x^2, x^3, x^4
        self.squares = torch.zeros(0, dtype=torch.float64)  # of each feature

    def add(self, x: Tensor) -> None:
        """Count the rows of x, shape (..., features)."""
        wide = x.detach().flatten(0, -2).double()
        size = wide.abs()
        top, mean, median = size.amax(dim=1), size.mean(dim=1), size.median(dim=1).values
        sums = [part for under in (mean, median) for part in _ratios(top, under)]
        square = wide.square()
        self.rows += len(wide)
        self.ratios += torch.stack(sums).cpu()
        powers = (wide.sum(), square.sum(), (square * wide).sum(), square.square().sum())
        self.powers += torch.stack(powers).cpu()
        features = square.sum(dim=0).cpu()
        self.squares = self.squares + features if len(self.squares) else features

    def outliers(self) -> Outliers:
        entries = self.rows * len(self.squares)
        first, second, third, fourth = (self.powers / max(entries, 1)).tolist()
        variance = second - first**2
        central = fourth - 4 * first * third + 6 * first**2 * second - 3 * first**4
        flat = variance <= 1e-12 * second  # all entries alike: what is left is rounding
        kurtosis = None if flat else central / variance**2 - 3
        over_mean, means, over_median, medians = self.ratios.tolist()
        return Outliers(
            max_over_mean=ratio(over_mean, means),
            max_over_median=ratio(over_median, medians),
            kurtosis=kurtosis,
            feature_kurtosis=ratio(float(self.squares.square().mean()), float(self.squares.mean() ** 2)),
            left_out=1 - medians / max(self.rows, 1),
        )


def _ratios(top: Tensor, under: Tensor) -> tuple[Tensor, Tensor]:
    has = under > 0
    return (top / under.where(has, 1.0)).where(has, 0.0).sum(), has.sum().double()


def outliers_of(x: Tensor) -> Outliers:
    """Return the outliers of one matrix, shape (rows, features)."""
    tally = Tally()
    tally.add(x)
    return tally.outliers()


Found = dict[str, Outliers]  # by the layer's name


@torch.no_grad()
def weight_outliers(model: PreTrainedModel, hadamard: int = 0) -> Found:
    """Return those of each weight inside the blocks, one layer at a time; rotated in blocks as a mode would."""
    return {name: outliers_of(_rotated(_linear(model, name).weight, hadamard)) for name in expected(model)}


def activation_outliers(model: PreTrainedModel, batches: Iterable[Tensor], hadamard: int = 0) -> Found:
    """Return those of each layer's input over all batches of windows (B, S), of which the first S - 1 tokens are read.

    The model is to be a float one. Workspace: one layer's input in float64, a few times.
    """
    tallies = {name: Tally() for name in expected(model)}

    def look(tally: Tally, x: Tensor) -> None:
        tally.add(_rotated(x, hadamard))

    with looking(model) as hooks:
        for name, tally in tallies.items():
            layer = _linear(model, name)
            hooks.append(layer.register_forward_pre_hook(lambda _, given, tally=tally: look(tally, given[0])))
        for tokens_BS in batches:
            hidden_of(model, tokens_BS[:, :-1])
    return {name: tally.outliers() for name, tally in tallies.items()}


def _linear(model: nn.Module, name: str) -> nn.Linear:
    layer = model.get_submodule(name)
    assert isinstance(layer, nn.Linear), name
    return layer


def _rotated(x: Tensor, hadamard: int) -> Tensor:
    block = hadamard_block(x.shape[-1], hadamard)
    return rotate(x.detach(), hadamard_signs(block, x.device)) if block > 1 else x


def by_part(found: Found) -> dict[str, dict[str, list[float | None]]]:
    """Return, for a record, each quantity by the layer's name inside its block: four digits a block, in order."""
    table: dict[str, dict[str, list[float | None]]] = {}
    for name, outliers in found.items():
        for quantity, value in asdict(outliers).items():
            table.setdefault(place_of(name)[1], {}).setdefault(quantity, []).append(significant(value))
    return table
