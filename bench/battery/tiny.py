"""A tiny model on sequences that repeat, trained by the one loop: what the battery runs every entry on."""

from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from bench.claims import build_entry, build_rest, claimed, wants_probe
from bench.clock import Clock
from bench.entry import WARMUP, Entry, Value
from bench.machine import make_deterministic
from bench.model import build_model, sequence_losses
from bench.probe import Batch, Means, Probe, step_with
from bench.roles import Run, roles_of
from bench.run import load_optimizer
from bench.schedule import Kind, multiplier
from bench.task import Model, Rest
from bench.train import Course, Parts, Progress, train
from bench.workers import ALONE

TINY = Model(family="llama", layers=2, width=32, ffn=64, heads=2, vocabulary=16, padded_vocabulary=32, tied=True,
             attention="eager")  # fmt: skip
REST = Rest(lr=1e-2, beta1=0.9, beta2=0.95, eps=1e-8, weight_decay=0.0)
BATCH, CONTEXT, STEPS = 8, 16, 120
FRESH = 10**6  # first sequence of what a probe draws: no batch reaches there
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")  # where the battery runs


def batch_at(step: int) -> torch.Tensor:
    """Sequences that repeat with a random period of 2 to 4: only attention finds out which."""
    generator = torch.Generator().manual_seed(step)
    rows = []
    for _ in range(BATCH):
        period = int(torch.randint(2, 5, (), generator=generator))
        rows.append(torch.randint(0, 16, (period,), generator=generator).repeat(CONTEXT)[: CONTEXT + 1])
    return torch.stack(rows)


def sequences_at(first: int, count: int) -> torch.Tensor:
    """Return sequences first..first+count-1 of those batches laid end to end, for whatever size is read."""
    batches = range(first // BATCH, -(-(first + count) // BATCH))
    return torch.cat([batch_at(number) for number in batches])[first % BATCH :][:count]


def fresh_at(first: int, count: int) -> torch.Tensor:
    return sequences_at(FRESH + first, count)


class Tiny:
    """A tiny model with an entry's optimizers, trained by the one loop; without an entry, hidden matrices stay."""

    def __init__(
        self, entry: Entry | None, seed: int = 0, steps: int = STEPS, values: dict[str, Value] | None = None
    ) -> None:
        make_deterministic(threads=1)
        self.model = build_model(TINY, CONTEXT, seed).to(DEVICE)
        self.roles = roles_of(self.model)
        self.values: dict[str, Value] = entry.values(values or {}) if entry else {WARMUP: 0.1}
        self.generator = torch.Generator(DEVICE).manual_seed(seed)
        run = Run(steps, steps * BATCH * CONTEXT, BATCH * CONTEXT, DEVICE, self.generator, BATCH)
        own = build_entry(entry, self.values, self.roles, run) if entry else []
        claims = claimed(own, self.roles) if entry else self.roles.matrices
        self.own, self.optimizers = own, [*own, *build_rest(self.roles, claims, REST)]
        self.progress = Progress()
        clip = 1.0 if entry is None or entry.facts.clip else None
        self.parts = Parts(
            parameters=self.roles.by_name,
            optimizers=self.optimizers,
            peaks=[[group["lr"] for group in optimizer.param_groups] for optimizer in self.optimizers],
            losses_of=lambda tokens: sequence_losses(self.model, tokens),
            batch_at=sequences_at,
            curve_loss=lambda: 0.0,
            device=DEVICE,
            probe=self.means(clip, seed) if wants_probe(own) else None,
        )
        warmup = float(self.values[WARMUP])
        kind: Kind = entry.facts.schedule.kind if entry else "decay"
        shape = entry.facts.schedule.shape if entry else ()
        self.course = Course(
            steps=steps, batch_tokens=run.batch_tokens, context=CONTEXT, micro_batch=BATCH, clip=clip,
            curve_every=steps,
            multiplier=lambda seen: multiplier(seen, run.batch_tokens, run.tokens, warmup, kind, shape),
        )  # fmt: skip

    def break_gradients(self, batch: int, number: float) -> None:
        """Multiply a matrix's gradients by a number from one batch on, whatever asks for them and how often."""
        read, honest = [0], self.parts.batch_at

        def batch_at(first: int, count: int) -> torch.Tensor:
            read[0] += 1
            return honest(first, count)

        self.parts = replace(self.parts, batch_at=batch_at)
        self.roles.matrices[0].register_hook(lambda gradient: gradient * (number if read[0] >= batch else 1.0))

    def train(self, stop_after: int | None = None) -> "Tiny":
        course = replace(self.course, stop_after=stop_after)
        train(self.parts, course, self.progress, Clock(), lambda must: None, lambda progress: None)
        return self

    def means(self, clip: float | None = 1.0, seed: int = 0) -> Means:
        """What probe calls are made with."""
        losses_of = partial(sequence_losses, self.model)
        return Means(self.model, losses_of, self.roles.all, BATCH, clip, DEVICE, ALONE, seed, fresh_at, rounds=False)

    def step(self) -> None:
        """Step the entry's optimizers once at the gradients that are there; a probe has the first batch."""
        probe = Probe(self.parts.probe, {}) if self.parts.probe else None
        with probe.on(Batch(0, batch_at(0).to(DEVICE), left=BATCH)) if probe else nullcontext():
            for optimizer in self.own:
                step_with(optimizer, probe)

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "generator": self.generator.get_state(),
            "progress": self.progress.as_dict(),
        }

    def restored(self, state: dict[str, Any]) -> "Tiny":
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            load_optimizer(optimizer, saved)
        self.generator.set_state(state["generator"])
        self.progress = Progress(**state["progress"])
        return self

    def final_loss(self) -> float:
        return sum(self.progress.losses[-10:]) / 10

    def bits(self) -> list[torch.Tensor]:
        return [w.detach().clone() for w in self.model.parameters()]


def equal(first: Tiny, second: Tiny) -> bool:
    return first.progress.loss_chain == second.progress.loss_chain and all(
        torch.equal(a, b) for a, b in zip(first.bits(), second.bits(), strict=True)
    )
