"""Who trains what: an entry's optimizers, checked against what it says it claims, and AdamW for the rest."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.nn import Parameter
from torch.optim import AdamW, Optimizer

from bench.digest import digest_of
from bench.entry import Entry, Value
from bench.errors import BenchError
from bench.roles import Controller, Roles, Run
from bench.task import Rest

DECAY = "weight_decay"  # an entry's name for decoupled decay: the transfer track turns it off and decays by itself


def without_decay(values: dict[str, Value]) -> dict[str, Value]:
    return {name: 0.0 if name == DECAY else value for name, value in values.items()}


def entry_seed(seed: int) -> int:
    """Return the seed of an entry's own generator: not the run's, whose stream drew the initial weights."""
    return int(digest_of(["entry", seed])[:15], 16)


def fresh_seed(seed: int) -> int:
    """Return the seed of the order in which a probe draws fresh sequences: not the batches' order."""
    return int(digest_of(["fresh", seed])[:15], 16)


def wants_probe(optimizers: Iterable[Optimizer]) -> bool:
    return any(getattr(optimizer, "wants_probe", False) for optimizer in optimizers)


@contextmanager
def evaluation_weights(
    entry: Entry, optimizers: list[Optimizer], roles: Roles, hand_round: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Put the weights in place that the entry evaluates with, and afterwards what was there, bit for bit.

    An optimizer knows the other weights of its rank's own matrices only, so they are handed round.
    """
    swap = getattr(entry.module(), "evaluation_weights", None)
    if swap is None:
        yield
        return
    before = [w.detach().clone() for w in roles.all]
    try:
        with swap(optimizers):
            hand_round()
            yield
    finally:
        with torch.no_grad():
            for w, old in zip(roles.all, before, strict=True):
                w.copy_(old)


def build_entry(entry: Entry, values: dict[str, Value], roles: Roles, run: Run) -> list[Optimizer]:
    """Return the entry's optimizers, checked against its scope."""
    entry.hyperparameters(values)  # refused before anything is built
    _check_parameters(entry, roles)
    try:
        built = entry.build(values, roles, run)
    except BenchError:
        raise
    except Exception as error:
        raise BenchError(f"{entry.source}: build() raised {type(error).__name__}: {error}") from error
    optimizers = list(built) if isinstance(built, list | tuple) else [built]
    if not all(isinstance(optimizer, Optimizer) for optimizer in optimizers):
        raise BenchError(f"{entry.source}: build() must return torch optimizers, got {type(built).__name__}")
    controllers = [optimizer for optimizer in optimizers if isinstance(optimizer, Controller)]
    if len(controllers) > 1 or bool(controllers) != entry.facts.controls_batch:
        raise BenchError(
            f"{entry.path}: controls_batch is {str(entry.facts.controls_batch).lower()}, but {len(controllers)} of the "
            "optimizers that build() returns have next_batch_sequences()",
            "one of them has it where controls_batch = true, and else none",
        )
    claims, scope = set(claimed(optimizers, roles, entry.source)), entry.facts.scope
    fits = {"full": claims == set(roles.all), "hidden": claims == set(roles.matrices)}
    if not fits.get(scope, True):
        raise BenchError(
            f"{entry.path}: scope is {scope!r}, but build() claims {len(claims)} of {len(roles.all)} parameters",
            "full claims every parameter, hidden the blocks' matrices and no others; anything else is mixed",
        )
    return optimizers


def _check_parameters(entry: Entry, roles: Roles) -> None:
    """Refuse what no entry is written for, before one meets it: odd shapes, and weights that are not fp32."""
    for role, weights in roles.by_name.items():
        dimensions = 1 if role == "vectors" else 2
        for w in weights:
            if w.ndim != dimensions or not w.numel():
                raise BenchError(
                    f"{entry.path}: a parameter among the {role} has shape {tuple(w.shape)}",
                    f"expected {dimensions} dimension{'s' * (dimensions - 1)}, and none of them empty",
                )
            if w.dtype != torch.float32:
                raise BenchError(
                    f"{entry.path}: a parameter among the {role} is {w.dtype}, expected torch.float32",
                    "weights are kept in fp32, products taken in bf16: a bf16 weight loses steps below 1/512 of itself",
                )


def claimed(optimizers: list[Optimizer], roles: Roles, source: Path | None = None) -> list[Parameter]:
    """Return the parameters that optimizers own; one claimed twice or unknown to the model is refused."""
    claims = [w for optimizer in optimizers for group in optimizer.param_groups for w in group["params"]]
    if len(claims) != len(set(claims)):
        raise BenchError(f"{source}: a parameter is claimed twice", "each belongs to one group of one optimizer")
    if not set(claims) <= set(roles.all):
        raise BenchError(f"{source}: build() claims a tensor that is no parameter of the model")
    if not all("lr" in group for optimizer in optimizers for group in optimizer.param_groups):
        raise BenchError(f"{source}: a parameter group has no lr", "the schedule moves the lr of every group")
    return claims


def build_rest(roles: Roles, claims: list[Parameter], rest: Rest) -> list[Optimizer]:
    """Return AdamW for all that is not claimed, or nothing; matrices and embeddings decay, vectors do not."""
    taken = set(claims)
    vectors = [w for w in roles.vectors if w not in taken]
    others = [w for w in (*roles.matrices, *roles.embedding, *roles.head) if w not in taken]
    if not vectors and not others:
        return []
    groups = [
        {"params": others, "weight_decay": rest.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return [AdamW(groups, lr=rest.lr, betas=(rest.beta1, rest.beta2), eps=rest.eps, fused=True)]
