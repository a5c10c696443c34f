"""A probe that answers what a test has made up, for methods held to others open loop: no model is behind it."""

from collections.abc import Callable, Iterator, Sequence

import torch
from open_loop import Sequence_, displacements, roles_with, run_of, weights_of
from torch import Tensor
from torch.nn import Parameter

from bench.entry import Entry, Value
from bench.probe import step_with

Answer = Callable[[int, list[Parameter]], dict]  # step, weights -> what a call returns, by weight


class Answers:
    """Stands in for bench.probe.Probe; `step` counts the steps that were made with it, `asked` its calls."""

    grain, ranks = 1, 1

    def __init__(self, weights: list[Parameter], answers: dict[str, Answer], sequences: int = 8) -> None:
        self.weights, self.answers, self.sequences = weights, answers, sequences
        self.step, self.asked, self.at = 0, [], []

    def gradient(self, at=None, clipped=False) -> dict:
        self.at.append({w: value.clone() for w, value in (at or {}).items()})
        return self._answer("gradient")

    def fresh_gradient(self, sequences: int, clipped: bool = False) -> dict | None:
        return self._answer("fresh_gradient")

    def sampled_gradient(self) -> dict:
        return self._answer("sampled_gradient")

    def group_gradients(self, groups: int) -> Iterator[dict]:
        yield from self._answer("group_gradients")

    def sequence_jacobian(self, residual: Callable[[Tensor], Tensor]) -> tuple[Tensor, dict]:
        losses, rows = self._answer("sequence_jacobian")
        return residual(losses), rows

    def _answer(self, kind: str) -> dict:
        self.asked.append((self.step, kind))
        return self.answers[kind](self.step, self.weights)


def of_asking(
    entry: Entry, values: dict[str, Value], gradients: Sequence_, answers: dict[str, Answer], sequences: int = 8,
    dtype: torch.dtype = torch.float32,
) -> tuple[Sequence_, Answers]:  # fmt: skip
    """Return the displacements of an entry that has a probe, and the probe; as open_loop.of_entry."""
    weights = weights_of([tuple(g.shape) for g in gradients[0]], dtype)
    built = entry.build(entry.values(values), roles_with(weights), run_of(len(gradients)))
    probe = Answers(weights, answers, sequences)

    class Stepping:
        """One optimizer's step with the probe."""

        def step(self) -> None:
            step_with(built, probe)
            probe.step += 1

    return displacements(weights, [Stepping()], gradients), probe


def by_weight(sequence: Sequence[Sequence[Tensor]]) -> Answer:
    """Answer with a sequence's tensors: step by step, weight by weight."""
    return lambda step, weights: dict(zip(weights, sequence[step], strict=True))


def double(sequence: Sequence_) -> list[list]:
    """Return the tensors as float64 arrays, for a transcription in NumPy."""
    return [[g.double().numpy() for g in step] for step in sequence]


def furthest(mine: Sequence_, theirs: list[list]) -> float:
    """Return the largest relative difference of a displacement from a NumPy one."""
    return max(
        float((a.double() - torch.from_numpy(b)).norm() / max(float((b**2).sum()) ** 0.5, 1e-12))
        for steps in zip(mine, theirs, strict=True) for a, b in zip(*steps, strict=True)
    )  # fmt: skip
