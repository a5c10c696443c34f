"""The guard of a run: what an optimizer's step may not touch, looked at around every step and at the end.

Every run has it, so that a cheat that waits for its hour is met in the run itself. It draws nothing, and moves no bit.
"""

import builtins
import hashlib
import json
import math
import random
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from bench.assemble import Assembly
from bench.quantize.linear import quantized
from bench.train import Parts

CLASSES: tuple[type, ...] = (Tensor, nn.Module, nn.Parameter, nn.Linear, nn.Embedding)


class Tampered(Exception):
    """An entry touched what is not its own."""


@dataclass(frozen=True)
class Code:
    """The functions that a run rests on, as they were before the entry was loaded."""

    held: tuple[tuple[Any, str, Any], ...]  # module or class, name, function or class

    def check(self) -> None:
        """Raise Tampered where one was replaced, and put all back: the next run of this process needs them."""
        now = ((owner, name, was, vars(owner).get(name)) for owner, name, was in self.held)
        changed = [(owner, name, was) for owner, name, was, new in now if new is not was and not _is_compiler_s(new)]
        for owner, name, was in changed:
            setattr(owner, name, was)
        if changed:
            owner, name, _ = changed[0]
            raise Tampered(f"{owner.__name__}.{name} was replaced")


def code() -> Code:
    """Return what is there now of the harness, torch, the clock and the random generators."""
    owners: list[Any] = [builtins, hashlib, json, math, random, time, torch, torch.nn.functional, torch.linalg,
                         torch.random, torch.autograd, np, np.random, Optimizer, *CLASSES]  # fmt: skip
    owners += [module for name, module in sorted(sys.modules.items()) if name.partition(".")[0] == "bench" and module]
    owners += [value for owner in owners[-200:] for value in vars(owner).values() if _is_harness_class(owner, value)]
    return Code(tuple((o, name, value) for o in owners for name, value in list(vars(o).items()) if callable(value)))


def _is_compiler_s(function: Any) -> bool:
    """Return whether torch.compile put it there: it wraps nn.Module.__init__ at its first graph."""
    file = getattr(getattr(function, "__code__", None), "co_filename", "")
    return file.startswith(str(Path(torch.__file__).parent / "_dynamo"))


def _is_harness_class(owner: Any, value: Any) -> bool:
    return isinstance(owner, ModuleType) and isinstance(value, type) and value.__module__.partition(".")[0] == "bench"


class Guard:
    """Looks at one run."""

    def __init__(self, assembly: Assembly, before: Code) -> None:
        self._assembly, self._code = assembly, before
        self._switches, self._buffers = _switches(), _buffers(assembly.model)

    @property
    def parts(self) -> Parts:
        """The run's parts, with every step looked at."""
        return replace(self._assembly.parts, around_step=self._step)

    @contextmanager
    def _step(self) -> Iterator[None]:
        parts = self._assembly.parts
        rates, drawn = _rates(parts.optimizers), _generators()
        with parts.around_step():
            yield
        if _rates(parts.optimizers) != rates:
            raise Tampered("the step changed its learning rate, which the harness moves")
        if _generators() != drawn:
            raise Tampered("the step drew from, or set, a random generator that is not run.generator")
        if _switches() != self._switches:
            raise Tampered("the step changed how everybody computes")

    def explained(self, error: Exception) -> Exception:
        """Return what made a run fail: the error, or replaced code; whatever was replaced is put back."""
        torch.set_grad_enabled(self._switches[0])
        torch.set_default_dtype(self._switches[1])
        try:
            self._code.check()
        except Tampered as found:
            return error if isinstance(error, Tampered) else found
        return error

    def check(self) -> None:
        """Raise Tampered where something that stays as it is over a run did not."""
        self._code.check()
        if _buffers(self._assembly.model) != self._buffers:
            raise Tampered("the model's buffers were changed")
        for role, weights in self._assembly.roles.by_name.items():
            for w in weights:
                if not w.requires_grad or w._backward_hooks or w._post_accumulate_grad_hooks:
                    raise Tampered(f"a parameter among the {role} has a hook, or is no longer trained")


def _rates(optimizers: Sequence[Optimizer]) -> list[Any]:
    return [group["lr"] for optimizer in optimizers for group in optimizer.param_groups]


def _generators() -> tuple[Any, ...]:
    """Return the states of the generators that are everybody's: torch's on the CPU, Python's, numpy's."""
    legacy: Any = np.random.get_state()
    return torch.get_rng_state().numpy().tobytes(), random.getstate(), legacy[1].tobytes(), *legacy[2:]


def _switches() -> tuple[Any, ...]:
    return (
        torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(), torch.get_float32_matmul_precision(),
    )  # fmt: skip


def _buffers(model: nn.Module) -> list[tuple[str, str]]:
    """Return the names and digests of the buffers that no pass changes: quantized layers count theirs."""
    counts = {f"{name}.{count}" for name, _ in quantized(model) for count in ("forwards", "quantized_forwards")}
    return [
        (name, hashlib.sha256(buffer.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest())
        for name, buffer in sorted(model.named_buffers())
        if name not in counts
    ]
