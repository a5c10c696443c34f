"""From a request to the parts of a run. With the modules named here, this is what moves a number for everyone."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer
from transformers import PreTrainedModel

from bench.claims import (
    DECAY,
    build_entry,
    build_rest,
    claimed,
    entry_seed,
    evaluation_weights,
    fresh_seed,
    wants_probe,
    without_decay,
)
from bench.data.sequences import Sequences
from bench.data.shards import TokenSet
from bench.data.tokens import prepare
from bench.digest import digest_of_sources
from bench.entry import WARMUP, Entry, Value
from bench.errors import BenchError
from bench.evaluate.loss import evaluate
from bench.mode import Mode, read_mode
from bench.model import build_model, sequence_losses, weights_digest
from bench.probe import Means
from bench.quantize.linear import convert, enable, reset_counts
from bench.record import Inputs, Machine, Track
from bench.roles import Roles, Run, roles_of
from bench.schedule import Kind, multiplier
from bench.task import Rest, Task
from bench.train import Course, Parts
from bench.transfer import Rescaled
from bench.workers import ALONE, Workers, owners

HARNESS = (
    "along.py", "assemble.py", "claims.py", "data/corpus.py", "data/encoding.py", "data/sequences.py", "data/shards.py",
    "data/synthetic.py", "data/tokens.py", "evaluate/final.py", "evaluate/loss.py", "machine.py", "model.py",
    "probe.py", "roles.py", "schedule.py", "train.py", "transfer.py", "workers.py",
)  # fmt: skip


Transfer = dict[str, float]  # the yardstick's "weight_decay", and a scale for each shape as "128x384"


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
    rest: Rest | None = None  # what the harness trains the unclaimed with; the task's own where none is given
    transfer: Transfer | None = None
    placebo: str | None = None  # which further tuning of the entry: its name on the board is adamw@2

    @property
    def name(self) -> str:
        return f"{self.entry.name}@{self.placebo}" if self.placebo else self.entry.name

    @property
    def recorded_values(self) -> dict[str, Value]:
        """The entry's values, and by dotted names those that the harness adds where it has a part in the step."""
        values = dict(self.values)
        if self.entry.facts.scope != "full":
            values |= {f"rest.{name}": value for name, value in (self.rest or self.task.rest).model_dump().items()}
        if self.transfer:
            values |= {f"transfer.{name}": value for name, value in self.transfer.items()}
        return dict(sorted(values.items()))

    def inputs(self, machine: Machine) -> Inputs:
        return Inputs(
            task=self.task_name,
            task_digest=self.task.digest,
            entry=self.name,
            entry_digest=self.entry.digest,
            values=self.recorded_values,
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
    mode: Mode
    roles: Roles
    entry_optimizers: list[Optimizer]
    parts: Parts
    course: Course
    schedule: Kind
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

    mode = read_mode(request.mode, "training")
    model, losses_of = _model(request, mode, hardware)
    roles = roles_of(model)
    steps = task.steps(request.budget)
    initial = weights_digest(model)
    generator = torch.Generator(device).manual_seed(entry_seed(request.seed))
    run = Run(steps, steps * training.batch_tokens, training.batch_tokens, device, generator, training.batch_sequences)
    values = without_decay(request.values) if request.transfer else request.values
    entry_optimizers = build_entry(request.entry, values, roles, run)
    if weights_digest(model) != initial:
        raise BenchError(f"{request.entry.source}: build() changes weights", "all entries start from the same ones")
    optimizers = [*entry_optimizers, *build_rest(roles, claimed(entry_optimizers, roles), request.rest or task.rest)]

    owned = [] if request.entry.facts.coupled else owners(roles.matrices, workers.ranks)
    hand_round = partial(workers.hand_round, owned)
    other_weights = partial(evaluation_weights, request.entry, entry_optimizers, roles, hand_round)

    rescaled = rescaling(request, entry_optimizers, roles) if request.transfer else None

    def batch_at(first: int, count: int) -> Tensor:
        return torch.from_numpy(train_set.shuffled(request.seed, first, count))

    def fresh_at(first: int, count: int) -> Tensor:
        return torch.from_numpy(train_set.shuffled(fresh_seed(request.seed), first, count))

    def curve_loss() -> float:
        with other_weights():
            first = select[: task.evaluation.curve_sequences]
            return float(evaluate(losses_of, first, task.evaluation.batch_sequences, device, workers).mean())

    clip = training.clip if request.entry.facts.clip else None
    means = Means(
        model=model,
        losses_of=losses_of,
        weights=roles.all,
        micro_batch=micro_batch,
        clip=clip,
        device=device,
        workers=workers,
        seed=request.seed,
        fresh_at=fresh_at,
        rounds=mode.quantizes,
    )
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
        around_step=rescaled.step if rescaled else nullcontext,
        probe=means if wants_probe(optimizers) else None,
    )
    warmup, schedule = float(request.values[WARMUP]), request.entry.facts.schedule
    course = Course(
        steps=steps,
        batch_tokens=training.batch_tokens,
        context=training.context,
        micro_batch=micro_batch,
        clip=clip,
        multiplier=lambda seen: multiplier(
            seen, training.batch_tokens, run.tokens, warmup, schedule.kind, schedule.shape
        ),
        curve_every=max(1, steps // task.evaluation.curve_points),
        stop_after=stop_after,
    )
    return Assembly(
        model=model,
        mode=mode,
        roles=roles,
        entry_optimizers=entry_optimizers,
        parts=parts,
        course=course,
        schedule=schedule.kind,
        generator=generator,
        evaluation_weights=other_weights,
        evaluation_batch=task.evaluation.batch_sequences,
        select=select,
        score=score,
        initial=initial,
        tokens=tokens,
        text_tokens=len(train_set) * training.context,
    )


_kept: dict[str, tuple[PreTrainedModel, Callable[[Tensor], Tensor]]] = {}  # the last one: a plan's runs share it


def _model(request: Request, mode: Mode, hardware: Hardware) -> tuple[PreTrainedModel, Callable[[Tensor], Tensor]]:
    """Return the model with the seed's weights, and its losses, compiled where wanted.

    The next run of a process takes over the model of the one before with what was compiled for it, if task and
    mode are the same: compilation is most of a short run's overhead.
    """
    training = request.task.training
    model = build_model(request.task.model, training.context, request.seed, training.activation_checkpointing)
    key = f"{request.task.digest} {mode.digest} {hardware.device} {hardware.compiled}"
    if key in _kept:
        kept, losses_of = _kept[key]
        kept.load_state_dict(model.state_dict())
        enable(kept, True)
        reset_counts(kept)
        return kept, losses_of
    _kept.clear()
    model = model.to(hardware.device)
    if mode.quantizes:
        convert(model, mode)
    losses_of = partial(sequence_losses, model)
    if hardware.compiled:
        torch.compiler.reset()  # another task's graphs would count towards the limit on recompilation
        losses_of = torch.compile(losses_of, dynamic=False, fullgraph=not training.activation_checkpointing)
        _kept[key] = model, losses_of
    return model, losses_of


def rescaling(request: Request, optimizers: list[Optimizer], roles: Roles) -> Rescaled:
    scales = dict(request.transfer or {})
    return Rescaled(optimizers, roles, scales.pop(DECAY, 0.0), scales)


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
