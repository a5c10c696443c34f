"""From a request to the parts of a run. With the modules named here, this is what moves a number for everyone."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import AdamW, Optimizer
from transformers import PreTrainedModel

from bench.data.sequences import Sequences
from bench.data.shards import TokenSet
from bench.data.tokens import prepare
from bench.digest import digest_of, digest_of_sources
from bench.entry import WARMUP, Entry, Value
from bench.errors import BenchError
from bench.evaluate.loss import evaluate
from bench.mode import read_mode
from bench.model import build_model, sequence_losses, weights_digest
from bench.record import Inputs, Machine, Track
from bench.roles import Roles, Run, roles_of
from bench.schedule import multiplier
from bench.task import Rest, Task
from bench.train import Course, Parts
from bench.workers import ALONE, Workers, owners

HARNESS = (
    "assemble.py", "data/corpus.py", "data/encoding.py", "data/sequences.py", "data/shards.py", "data/synthetic.py",
    "data/tokens.py", "evaluate/final.py", "evaluate/loss.py", "machine.py", "model.py", "roles.py", "schedule.py",
    "train.py", "workers.py",
)  # fmt: skip


@dataclass(frozen=True)
class Request:
    """One run, as asked for."""

    task_name: str
    task: Task
    entry: Entry
    values: dict[str, Value]
    mode: str
    budget: float  # as a multiple of 1x
    track: Track
    seed: int
    plan: str | None = None
    device: str | None = None  # "cpu" or "cuda"; the GPU where there is one
    micro_batch: int | None = None  # sequences per forward pass; the task's, or a rank's share where that is less

    def inputs(self, machine: Machine) -> Inputs:
        return Inputs(
            task=self.task_name,
            task_digest=self.task.digest,
            entry=self.entry.name,
            entry_digest=self.entry.digest,
            values=dict(sorted(self.values.items())),
            mode=self.mode,
            mode_digest=read_mode(self.mode).digest,
            budget=self.budget,
            track=self.track,
            seed=self.seed,
            harness=harness_digest(),
            machine_kind=machine.kind,
        )


@dataclass(frozen=True)
class Hardware:
    """What a run is made on."""

    device: torch.device
    compiled: bool
    workers: Workers = ALONE
    micro_batch: int | None = None  # sequences per forward pass, where it is not the task's


@cache
def harness_digest() -> str:
    root = Path(__file__).parent
    return digest_of_sources({name: root / name for name in HARNESS})


@dataclass(frozen=True)
class Assembly:
    """Everything a run is made of."""

    model: PreTrainedModel
    roles: Roles
    entry_optimizers: list[Optimizer]
    parts: Parts
    course: Course
    schedule: Literal["decay", "constant"]
    generator: torch.Generator
    evaluation_weights: Callable[[], AbstractContextManager[Any]]
    evaluation_batch: int  # sequences
    select: np.ndarray  # (N, context + 1) tokens of the selecting half
    score: np.ndarray  # of the scoring half
    initial: str  # digest of the first weights
    tokens: dict[str, TokenSet]
    text_tokens: int  # that one pass over the training text trains on

    @property
    def workers(self) -> Workers:
        return self.parts.workers


def assemble(request: Request, data_folder: Path, hardware: Hardware, stop_after: int | None = None) -> Assembly:
    """Build model, data, optimizers and course of a run; raise BenchError where the entry does not fit."""
    task, training = request.task, request.task.training
    device, workers = hardware.device, hardware.workers
    micro_batch = micro_batch_of(task, workers.ranks, hardware.micro_batch)
    tokens = prepare(task.data, task.model.vocabulary, data_folder)
    train_set = Sequences(tokens["train"], training.context)
    halves = {name: Sequences(tokens[name], training.context) for name in ("select", "score")}
    select, score = (half.in_order(0, len(half)) for half in halves.values())

    model = build_model(task.model, training.context, request.seed, training.activation_checkpointing).to(device)
    roles = roles_of(model)
    steps = task.steps(request.budget)
    initial = weights_digest(model)
    generator = torch.Generator(device).manual_seed(entry_seed(request.seed))
    run = Run(steps, steps * training.batch_tokens, training.batch_tokens, device, generator)
    entry_optimizers = build_entry(request.entry, request.values, roles, run)
    if weights_digest(model) != initial:
        raise BenchError(f"{request.entry.source}: build() changes weights", "all entries start from the same ones")
    optimizers = [*entry_optimizers, *build_rest(roles, claimed(entry_optimizers, roles), task.rest)]

    losses_of: Callable[[Tensor], Tensor] = partial(sequence_losses, model)
    if hardware.compiled:
        torch.compiler.reset()  # an earlier run's graphs would count towards the limit on recompilation
        losses_of = torch.compile(losses_of, dynamic=False, fullgraph=not training.activation_checkpointing)
    owned = [] if request.entry.facts.coupled else owners(roles.matrices, workers.ranks)
    hand_round = partial(workers.hand_round, owned)
    other_weights = partial(evaluation_weights, request.entry, entry_optimizers, roles, hand_round)

    def batch_at(step: int) -> Tensor:
        count = training.batch_sequences
        return torch.from_numpy(train_set.shuffled(request.seed, step * count, count))

    def curve_loss() -> float:
        with other_weights():
            first = select[: task.evaluation.curve_sequences]
            return float(evaluate(losses_of, first, task.evaluation.batch_sequences, device, workers).mean())

    parts = Parts(
        parameters=roles.by_name,
        optimizers=optimizers,
        peaks=[[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers],
        losses_of=losses_of,
        batch_at=batch_at,
        curve_loss=curve_loss,
        device=device,
        workers=workers,
        owned=owned,
    )
    warmup, kind = float(request.values[WARMUP]), request.entry.facts.schedule.kind
    course = Course(
        steps=steps,
        batch_tokens=training.batch_tokens,
        micro_batch=micro_batch,
        clip=training.clip if request.entry.facts.clip else None,
        multiplier=lambda seen: multiplier(seen, training.batch_tokens, run.tokens, warmup, kind),
        curve_every=max(1, steps // task.evaluation.curve_points),
        stop_after=stop_after,
    )
    return Assembly(
        model=model,
        roles=roles,
        entry_optimizers=entry_optimizers,
        parts=parts,
        course=course,
        schedule=kind,
        generator=generator,
        evaluation_weights=other_weights,
        evaluation_batch=task.evaluation.batch_sequences,
        select=select,
        score=score,
        initial=initial,
        tokens=tokens,
        text_tokens=len(train_set) * training.context,
    )


def micro_batch_of(task: Task, ranks: int, asked: int | None) -> int:
    """Return the sequences of a forward pass: as asked, else the task's, or a rank's whole share where that is less."""
    batch = task.training.batch_sequences
    if batch % ranks:
        fit = [n for n in range(1, batch + 1) if batch % n == 0]
        raise BenchError(
            f"a batch of {batch} sequences cannot be shared by {ranks} ranks", f"it can by {', '.join(map(str, fit))}"
        )
    share = batch // ranks
    micro = asked or min(task.training.micro_batch_sequences, share)
    if share % micro:
        fit = [n for n in range(1, share + 1) if share % n == 0]
        raise BenchError(
            f"a rank's {share} sequences of the batch are no multiple of a micro-batch of {micro}",
            f"choose --micro-batch among {', '.join(map(str, fit))}",
        )
    return micro


def entry_seed(seed: int) -> int:
    """Return the seed of an entry's own generator: not the run's, whose stream drew the initial weights."""
    return int(digest_of(["entry", seed])[:15], 16)


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
    hyperparameters = entry.hyperparameters(values)
    try:
        built = entry.module().build(roles, hyperparameters, run)
    except Exception as error:
        raise BenchError(f"{entry.source}: build() raised {type(error).__name__}: {error}") from error
    optimizers = list(built) if isinstance(built, list | tuple) else [built]
    if not all(isinstance(optimizer, Optimizer) for optimizer in optimizers):
        raise BenchError(f"{entry.source}: build() must return torch optimizers, got {type(built).__name__}")
    claims, scope = set(claimed(optimizers, roles, entry.source)), entry.facts.scope
    fits = {"full": claims == set(roles.all), "hidden": claims == set(roles.matrices)}
    if not fits.get(scope, True):
        raise BenchError(
            f"{entry.path}: scope is {scope!r}, but build() claims {len(claims)} of {len(roles.all)} parameters",
            "full claims every parameter, hidden the blocks' matrices and no others; anything else is mixed",
        )
    return optimizers


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
