"""Open loop: an entry and somebody else's optimizer are fed the same gradients, whatever they do, and each step's
displacement is compared. (In a closed loop rounding grows: two equal SOAPs were 0.3 apart after 20 steps.)"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from bench.entry import Entry, Value
from bench.roles import Matrix, Roles, Run

TALL, WIDE, SQUARE, LINE = (24, 8), (8, 24), (16, 16), (16,)
MATRICES = [TALL, WIDE, SQUARE]
STEPS = 12
Sequence_ = list[list[Tensor]]  # by step, by weight


def roles_with(weights: Sequence[Parameter], blocks: tuple[int, ...] | None = None) -> Roles:
    """Matrices are hidden ones, of as many blocks as asked for; lines are vectors."""
    hidden = (Matrix(w, 0, "any", "in", blocks or (w.shape[0],)) for w in weights if w.ndim == 2)
    return Roles(tuple(hidden), (), (), tuple(w for w in weights if w.ndim == 1))


def run_of(steps: int = STEPS, seed: int = 0) -> Run:
    return Run(steps, 100 * steps, 100, torch.device("cpu"), torch.Generator().manual_seed(seed))


def weights_of(shapes: Sequence[tuple[int, ...]], dtype: torch.dtype = torch.float32, seed: int = 0) -> list[Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [Parameter(torch.randn(shape, generator=generator).to(dtype)) for shape in shapes]


def gradients_of(shapes: Sequence[tuple[int, ...]], steps: int = STEPS, seed: int = 1) -> Sequence_:
    """Random gradients; all zero at the third step, of rank one at the fifth, a thousand times larger at the last."""
    generator = torch.Generator().manual_seed(seed)
    sequence = []
    for step in range(steps):
        drawn = [torch.randn(shape, generator=generator) for shape in shapes]
        if step == 2:
            drawn = [torch.zeros_like(g) for g in drawn]
        if step == 4:
            drawn = [torch.outer(g[:, 0], g[0]) if g.ndim == 2 else g for g in drawn]
        if step == steps - 1:
            drawn = [1000 * g for g in drawn]
        sequence.append(drawn)
    return sequence


def displacements(weights: list[Parameter], optimizers: Sequence[Optimizer], gradients: Sequence_) -> Sequence_:
    """Return how far each step moves each weight."""
    moved = []
    for drawn in gradients:
        before = [w.detach().clone() for w in weights]
        for w, g in zip(weights, drawn, strict=True):
            w.grad = g.to(w.dtype).clone()
        for optimizer in optimizers:
            optimizer.step()
        moved.append([w.detach() - old for w, old in zip(weights, before, strict=True)])
    return moved


def of_entry(
    entry: Entry, values: dict[str, Value], gradients: Sequence_, dtype: torch.dtype = torch.float32,
    blocks: tuple[int, ...] | None = None,
) -> Sequence_:  # fmt: skip
    """Return the displacements of an entry at values changed from its declared ones."""
    weights = weights_of([tuple(g.shape) for g in gradients[0]], dtype)
    built = entry.build(entry.values(values), roles_with(weights, blocks), run_of(len(gradients)))
    return displacements(weights, built if isinstance(built, list) else [built], gradients)


def of_library(
    make: Callable[[list[Parameter]], Optimizer], gradients: Sequence_, dtype: torch.dtype = torch.float32
) -> Sequence_:
    """Return the displacements of a library's optimizer, which `make` gives the weights."""
    weights = weights_of([tuple(g.shape) for g in gradients[0]], dtype)
    return displacements(weights, [make(weights)], gradients)


def furthest_apart(mine: Sequence_, theirs: Sequence_) -> float:
    """Return the largest relative difference of a displacement, over steps and weights."""
    return max(
        (float((a - b).norm() / b.norm().clamp(min=1e-12)) if float(a.norm()) or float(b.norm()) else 0.0)
        for steps in zip(mine, theirs, strict=True)
        for a, b in zip(*steps, strict=True)
    )
