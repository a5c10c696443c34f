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
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from bench.assemble import Assembly
from bench.claims import claimed
from bench.quantize.linear import quantized

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
        changed = [
            (owner, name, was)
            for owner, name, was, new in now
            if new is not was and not (owner is nn.Module and _is_compiler_s(new))
        ]
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


def _is_compiler_s(method: Any) -> bool:
    """Return whether torch.compile put it into nn.Module: its first graph wraps __init__ and __setstate__."""
    return getattr(method, "__module__", None) == "torch._dynamo.mutation_guard"


def _is_harness_class(owner: Any, value: Any) -> bool:
    return isinstance(owner, ModuleType) and isinstance(value, type) and value.__module__.partition(".")[0] == "bench"


class Guard:
    """Looks at one run, from when it is assembled: what a checkpoint brings back is looked at too."""

    def __init__(self, assembly: Assembly, before: Code) -> None:
        self._assembly, self._code = assembly, before
        self._switches, self._buffers = _switches(), _buffers(assembly.model)
        self._controller = assembly.parts.controller
        claims = set(claimed(assembly.entry_optimizers, assembly.roles))
        self._others = [w for w in assembly.roles.all if w not in claims]
        self._held: list[Any] = []
        for rest in assembly.parts.optimizers[len(assembly.entry_optimizers) :]:
            rest.register_step_pre_hook(self._before_the_rest)

    def watched(self, assembly: Assembly) -> Assembly:
        """Return the run, every step and the weights of its last evaluation looked at."""
        parts = replace(assembly.parts, around_step=self._step)
        return replace(assembly, parts=parts, evaluation_weights=self._evaluation_weights)

    @contextmanager
    def _step(self) -> Iterator[None]:
        parts = self._assembly.parts
        rates, drawn = _rates(parts.optimizers), _generators()
        self._held = self._unclaimed()
        with parts.around_step():
            yield
        if _rates(parts.optimizers) != rates:
            raise Tampered("the step changed its learning rate, which the harness moves")
        if _generators() != drawn:
            raise Tampered("the step drew from, or set, a random generator that is not run.generator")
        if _switches() != self._switches:
            raise Tampered("the step changed how everybody computes")
        self._check_controller()

    def _unclaimed(self) -> list[Any]:
        """Return what is there of the harness's parameters: their gradients, and how often each was written to.

        A probe puts other weights in place and then the old ones, so that where there is one the weights are kept.
        """
        probed = self._assembly.parts.probe is not None
        weights = [w.detach().clone() if probed else w._version for w in self._others]
        gradients = [w.grad for w in self._others]
        return [weights, [id(g) for g in gradients], [None if g is None else g._version for g in gradients]]

    def _before_the_rest(self, *_: object) -> None:
        """Raise Tampered where the entry's step, which comes first, touched what the harness is to step."""
        (old, *gradients), (new, *gradients_now) = self._held, self._unclaimed()
        same = (torch.equal(a, b) if isinstance(a, Tensor) else a == b for a, b in zip(old, new, strict=True))
        if gradients != gradients_now or not all(same):
            raise Tampered("the step changed a weight, or the gradient of one, that the entry does not claim")

    @contextmanager
    def _evaluation_weights(self) -> Iterator[None]:
        with self._assembly.evaluation_weights():
            self._code.check()
            yield

    def _check_controller(self) -> None:
        if self._assembly.parts.controller is not self._controller:
            raise Tampered("the optimizer that chooses the batches is another than at the start")

    def explained(self, error: BaseException) -> BaseException:
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
        self._check_controller()
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
