"""The shell of a wrapper: an optimizer that steps others. Their groups and state are its own.

So the schedule and checkpoints reach them. What a wrapper adds is its own `step`.
"""

from collections.abc import Sequence
from typing import Any

from torch.nn import Parameter
from torch.optim import Optimizer

from bench.probe import Probe, step_with


class Around(Optimizer):
    def __init__(self, inner: Sequence[Optimizer]) -> None:
        super().__init__([group for optimizer in inner for group in optimizer.param_groups], {})
        self.inner = list(inner)
        for optimizer in inner:
            self.state.update(optimizer.state)
        self._share()

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over loaded groups and state, which are new objects."""
        super().__setstate__(state)
        self._share()

    def _share(self) -> None:
        groups = iter(self.param_groups)
        for optimizer in self.inner:
            optimizer.param_groups = [next(groups) for _ in optimizer.param_groups]
            optimizer.state = self.state

    @property
    def wants_probe(self) -> bool:
        return any(getattr(optimizer, "wants_probe", False) for optimizer in self.inner)

    def stepped_weights(self) -> list[Parameter]:
        """Return the weights that this step is to move: those with a gradient."""
        return [w for group in self.param_groups for w in group["params"] if w.grad is not None]

    def step_inner(self, probe: Probe | None) -> None:
        for optimizer in self.inner:
            step_with(optimizer, probe)
