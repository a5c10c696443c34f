"""A control: claims the hidden matrices and leaves them as they were initialised. Whatever learns must beat it."""

from dataclasses import dataclass

from torch.optim import Optimizer

from bench.roles import Roles, Run


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    pass


class Frozen(Optimizer):
    def step(self) -> None:
        """Leave every weight alone."""


def build(roles: Roles, hp: Hyperparameters, run: Run) -> Optimizer:
    return Frozen([{"params": roles.matrices}], {"lr": 0.0})
