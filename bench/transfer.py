"""The transfer track's step: the entry's direction at the yardstick's size (protocol B). Entries need no code for it.

    w <- (1 - lr weight_decay) w + scale (w' - w)        w before, w' after the entry's own step without decay

Every matrix, the embedding and the head decay as the yardstick's do; the update of each hidden matrix is scaled by one
constant per shape, found by runs of both (bench.orders) so that its root mean square equals the yardstick's own.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from bench.roles import Roles


def shape_name(weight: Parameter, blocks: Sequence[int]) -> str:
    """Return the shape of a weight's matrices as "768x3072"; a fused weight has several of one shape."""
    return f"{blocks[0]}x{weight.shape[1]}"


@dataclass
class Rescaled:
    """Applies the rule above around a step, and measures the sizes that a pilot needs."""

    optimizers: Sequence[Optimizer]  # the entry's, with their decay off
    roles: Roles
    weight_decay: float
    scales: Mapping[str, float]  # by shape; 1 where none is given
    sizes: dict[str, list[float]] = field(default_factory=dict)  # by shape: rms of unscaled steps over lr

    def __post_init__(self) -> None:
        shapes = {m.weight: shape_name(m.weight, m.blocks) for m in self.roles.hidden}
        vectors = set(self.roles.vectors)
        self._owned: list[tuple[Parameter, dict[str, float], str | None]] = [
            (w, group, shapes.get(w))
            for optimizer in self.optimizers
            for group in optimizer.param_groups
            for w in group["params"]
            if w not in vectors
        ]

    @contextmanager
    def step(self) -> Iterator[None]:
        with torch.no_grad():
            before = [w.detach().clone() for w, _, _ in self._owned]
            yield
            for (w, group, shape), old in zip(self._owned, before, strict=True):
                change = w - old
                if shape is not None:
                    change.mul_(self.scales.get(shape, 1.0))
                w.copy_(old.mul_(1 - group["lr"] * self.weight_decay).add_(change))

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Do a step and note the root mean square of each hidden matrix's update over lr."""
        before = [w.detach().clone() for w, _, _ in self._owned]
        with self.step():
            yield
            found: dict[str, list[Tensor]] = {}
            for (w, group, shape), old in zip(self._owned, before, strict=True):
                if shape is not None:
                    found.setdefault(shape, []).append((w - old).square().mean() / group["lr"] ** 2)
            for shape, squares in found.items():
                self.sizes.setdefault(shape, []).append(float(torch.stack(squares).mean()))

    def mean_sizes(self) -> dict[str, float]:
        """Return the root mean square of an update over lr, by shape, over all steps measured."""
        return {shape: (sum(squares) / len(squares)) ** 0.5 for shape, squares in self.sizes.items()}
