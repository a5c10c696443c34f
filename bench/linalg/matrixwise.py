"""The shell of a matrix method: blocks, stacks, state, decay. What a method adds is its own `update`.

Blocks of one shape, of all weights, are stepped together as a stack (k, m, n): a few batched products in place of many
small ones. A weight of several matrices side by side (query, key, value) is as many blocks, each a matrix of its own.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from bench.roles import Matrix

STACK_ELEMENTS = 2**24  # of a stack at most, unless one weight has more: bounds the copies, 64 MiB of fp32


class Matrixwise(Optimizer):
    """Steps stacks of matrices: w <- (1 - lr weight_decay) w - lr size update.

    defaults: lr, weight_decay (0 where it is left out), and what update() reads of the group beside them.
    group["step"] counts from 1. State is kept by weight, (blocks, ...) fp32 tensors, so a checkpoint has all of it;
    they lie side by side in memory, so that a stack's state is no copy.
    """

    def __init__(self, matrices: Sequence[Matrix], defaults: dict[str, Any]) -> None:
        self._matrices = {matrix.weight: matrix for matrix in matrices}
        group = {"params": [matrix.weight for matrix in matrices], "step": 0}
        super().__init__([group], {"weight_decay": 0.0, **defaults})

    def begin(self, gradients: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        """Return the state (k, ...) of a stack before its first step; its first gradients (k, m, n) may tell."""
        return {}

    def update(
        self, gradients: Tensor, state: dict[str, Tensor], group: dict[str, Any]
    ) -> Tensor | tuple[Tensor, Tensor] | None:
        """Return the step (k, m, n) in units of the learning rate; state is changed in place, or its tensors replaced.

        gradients are a copy that may be written over. None moves nothing: the weights do not decay either. A method
        whose decay is not lr weight_decay returns it beside the step: the part of a weight that goes, (k, 1, 1 or n).
        """
        raise NotImplementedError

    def size(self, rows: int, columns: int) -> float:
        """Return the factor on the update of a block of shape (out, in)."""
        return 1.0

    def flipped(self, matrix: Matrix, rows: int, columns: int) -> bool:
        """Whether update() sees a block of shape (out, in) transposed."""
        return False

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            group["step"] += 1
            for weights in self._stacks([w for w in group["params"] if w.grad is not None]):
                self._step_together(weights, group)

    def _step_together(self, weights: list[Parameter], group: dict[str, Any]) -> None:
        gradients = torch.cat([self._blocks(w, w.grad) for w in weights])
        if not self.state[weights[0]]:
            for name, stack in self.begin(gradients, group).items():
                self._keep(weights, name, stack.clone(memory_format=torch.contiguous_format))
        kept = {name: self._joined(weights, name) for name in self.state[weights[0]]}
        state = dict(kept)
        returned = self.update(gradients, state, group)
        for name, stack in state.items():
            if stack is not kept[name]:
                kept[name].copy_(stack)
        if returned is None:
            return
        updates, decays = returned if isinstance(returned, tuple) else (returned, None)
        if decays is not None:
            for w, part in self._parts(weights, decays):
                self._blocks(w, w).mul_(1 - part)
        elif group["weight_decay"]:
            torch._foreach_mul_(list[Tensor](weights), 1 - group["lr"] * group["weight_decay"])
        for w, part in self._parts(weights, updates):
            self._blocks(w, w).add_(part, alpha=-group["lr"] * self.size(*self._block_shape(w)))

    def _stacks(self, weights: list[Parameter]) -> Iterator[list[Parameter]]:
        """Yield the weights whose blocks have one shape, as update() sees them, in bounded numbers; apart from the
        others those that were never stepped, because they had no gradient until now."""
        alike: dict[tuple[torch.Size, bool], list[Parameter]] = defaultdict(list)
        for w in weights:
            alike[self._blocks(w, w).shape[1:], bool(self.state.get(w))].append(w)
        for members in alike.values():
            most = max(1, STACK_ELEMENTS // max(w.numel() for w in members))
            for first in range(0, len(members), most):
                yield members[first : first + most]

    def _parts(self, weights: list[Parameter], stack: Tensor) -> Iterator[tuple[Parameter, Tensor]]:
        """Yield each weight with its part of a stack, a view."""
        return zip(weights, stack.split([len(self._matrices[w].blocks) for w in weights]), strict=True)

    def _keep(self, weights: list[Parameter], name: str, stack: Tensor) -> Tensor:
        """Make a stack the state of its weights, and return it."""
        for w, part in self._parts(weights, stack):
            self.state[w][name] = part
        return stack

    def _joined(self, weights: list[Parameter], name: str) -> Tensor:
        """Return the state of several weights as one stack, anew where they are not side by side, as after loading."""
        parts: list[Tensor] = [self.state[w][name] for w in weights]
        if not _side_by_side(parts):
            return self._keep(weights, name, torch.cat(parts))
        return parts[0].as_strided((sum(len(part) for part in parts), *parts[0].shape[1:]), parts[0].stride())

    def _block_shape(self, w: Parameter) -> tuple[int, int]:
        return w.shape[0] // len(self._matrices[w].blocks), w.shape[1]

    def _blocks(self, w: Parameter, tensor: Tensor | None) -> Tensor:
        """Return a view of the tensor, which is shaped as w, as blocks (b, m, n), transposed where they are flipped."""
        assert tensor is not None
        rows, columns = self._block_shape(w)
        view = tensor.view(-1, rows, columns)
        return view.mT if self.flipped(self._matrices[w], rows, columns) else view


def _side_by_side(parts: Sequence[Tensor]) -> bool:
    storage, place = parts[0].untyped_storage().data_ptr(), parts[0].storage_offset()
    for part in parts:
        neighbours = part.untyped_storage().data_ptr() == storage and part.storage_offset() == place
        if not (neighbours and part.is_contiguous()):
            return False
        place += part.numel()
    return True
