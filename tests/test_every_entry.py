"""Whatever lies in baselines/ must pass these, and so must an entry anywhere else: adding one adds its tests."""

import copy
import math
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch

from bench.assemble import build_entry, build_rest, claimed
from bench.clock import Clock
from bench.entry import WARMUP, Entry, find_entries
from bench.facts import state_tensors
from bench.model import build_model, sequence_losses
from bench.roles import Roles, Run, roles_of
from bench.schedule import multiplier
from bench.task import Model, Rest
from bench.train import Course, Parts, Progress, train

ENTRIES = find_entries(Path(__file__).parents[1] / "baselines")
RANKED = [entry for entry in ENTRIES if not entry.facts.control]
TINY = Model(family="llama", layers=2, width=32, ffn=64, heads=2, vocabulary=16, padded_vocabulary=32, tied=True,
             attention="eager")  # fmt: skip
REST = Rest(lr=1e-2, beta1=0.9, beta2=0.95, eps=1e-8, weight_decay=0.0)
BATCH, CONTEXT, STEPS = 8, 16, 120

every_entry = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
every_ranked = pytest.mark.parametrize("entry", RANKED, ids=lambda entry: entry.name)


def batch_at(step: int) -> torch.Tensor:
    """Sequences that repeat with a random period of 2 to 4: only attention finds out which."""
    generator = torch.Generator().manual_seed(step)
    rows = []
    for _ in range(BATCH):
        period = int(torch.randint(2, 5, (), generator=generator))
        rows.append(torch.randint(0, 16, (period,), generator=generator).repeat(CONTEXT)[: CONTEXT + 1])
    return torch.stack(rows)


class Bench:
    """A tiny model with an entry's optimizers, trained by the one loop."""

    def __init__(self, entry: Entry, seed: int = 0, steps: int = STEPS, values: dict | None = None) -> None:
        torch.set_num_threads(1)
        self.model = build_model(TINY, CONTEXT, seed)
        self.roles = roles_of(self.model)
        self.values = entry.values(values or {})
        self.generator = torch.Generator().manual_seed(seed)
        run = Run(steps, steps * BATCH * CONTEXT, BATCH * CONTEXT, torch.device("cpu"), self.generator)
        own = build_entry(entry, self.values, self.roles, run)
        self.own, self.optimizers = own, [*own, *build_rest(self.roles, claimed(own, self.roles), REST)]
        self.progress = Progress()
        self.parts = Parts(
            parameters=self.roles.by_name,
            optimizers=self.optimizers,
            peaks=[[group["lr"] for group in optimizer.param_groups] for optimizer in self.optimizers],
            losses_of=lambda tokens: sequence_losses(self.model, tokens),
            batch_at=batch_at,
            curve_loss=lambda: 0.0,
            device=torch.device("cpu"),
        )
        warmup, kind = float(self.values[WARMUP]), entry.facts.schedule.kind
        self.course = Course(
            steps=steps, batch_tokens=run.batch_tokens, micro_batch=BATCH,
            clip=1.0 if entry.facts.clip else None, curve_every=steps,
            multiplier=lambda seen: multiplier(seen, run.batch_tokens, run.tokens, warmup, kind),
        )  # fmt: skip

    def train(self, stop_after: int | None = None) -> "Bench":
        course = replace(self.course, stop_after=stop_after)
        train(self.parts, course, self.progress, Clock(), lambda must: None, lambda progress: None)
        return self

    def final_loss(self) -> float:
        return sum(self.progress.losses[-10:]) / 10

    def bits(self) -> list[torch.Tensor]:
        return [w.detach().clone() for w in self.model.parameters()]


def equal(first: Bench, second: Bench) -> bool:
    return first.progress.loss_chain == second.progress.loss_chain and all(
        torch.equal(a, b) for a, b in zip(first.bits(), second.bits(), strict=True)
    )


@every_entry
def test_every_parameter_is_claimed_once_and_the_rest_is_the_harness_s(entry):
    bench = Bench(entry)
    trained = [w for optimizer in bench.optimizers for group in optimizer.param_groups for w in group["params"]]
    assert len(trained) == len(set(trained))
    assert set(trained) == set(bench.model.parameters())
    if entry.facts.scope == "hidden":
        assert set(claimed(bench.own, bench.roles)) == set(bench.roles.matrices)


@pytest.fixture(scope="session")
def frozen() -> tuple[float, float]:
    """Mean and standard deviation over seeds of the control's final loss."""
    entry = next(entry for entry in ENTRIES if entry.name == "frozen-hidden")
    losses = torch.tensor([Bench(entry, seed).train().final_loss() for seed in range(3)])
    return losses.mean().item(), losses.std().item()


@every_ranked
def test_learns_more_than_frozen_matrices_by_five_standard_deviations(entry, frozen):
    losses = torch.tensor([Bench(entry, seed).train().final_loss() for seed in range(3)])
    mean, deviation = frozen
    assert losses.mean().item() < mean - 5 * max(deviation, losses.std().item()) / math.sqrt(3)


@every_entry
def test_the_same_seed_gives_the_same_bits(entry):
    assert equal(Bench(entry, steps=8).train(), Bench(entry, steps=8).train())


@every_entry
def test_resuming_equals_never_stopping(entry):
    straight = Bench(entry, steps=8).train()
    stopped = Bench(entry, steps=8).train(stop_after=3)
    resumed = Bench(entry, steps=8)
    resumed.model.load_state_dict(copy.deepcopy(stopped.model.state_dict()))
    for fresh, old in zip(resumed.optimizers, stopped.optimizers, strict=True):
        fresh.load_state_dict(copy.deepcopy(old.state_dict()))
    resumed.generator.set_state(stopped.generator.get_state())
    resumed.progress = Progress(**stopped.progress.as_dict())
    assert equal(straight, resumed.train())


@every_entry
def test_a_gradient_of_zeros_leaves_every_number_finite(entry):
    bench = Bench(entry)
    for _ in range(3):
        for w in bench.model.parameters():
            w.grad = torch.zeros_like(w)
        for optimizer in bench.own:
            optimizer.step()
    assert all(w.isfinite().all() for w in bench.model.parameters())
    assert all(state.isfinite().all() for state in state_tensors(bench.own))


@every_entry
def test_a_model_without_a_part_is_no_obstacle(entry):
    roles = Bench(entry).roles
    run = Run(8, 8 * BATCH * CONTEXT, BATCH * CONTEXT, torch.device("cpu"), torch.Generator())
    for missing in ("hidden", "embedding", "vectors"):
        rest: Roles = replace(roles, **{missing: ()})
        module = entry.module()
        built = module.build(rest, entry.hyperparameters(entry.values({})), run)
        for optimizer in built if isinstance(built, list) else [built]:
            optimizer.step()


@every_entry
def test_all_state_is_fp32_and_stands_in_state_dict(entry):
    bench = Bench(entry, steps=4).train()
    assert {state.dtype for state in state_tensors(bench.own)} <= {torch.float32}
    for optimizer in bench.own:
        held = {id(t) for name, value in vars(optimizer).items() if name not in ("state", "param_groups")
                for t in _floating(value)}  # fmt: skip
        assert not held - {id(w) for w in bench.model.parameters()}, "a tensor outside state is lost by a checkpoint"


def _floating(value: object) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value] if value.is_floating_point() else []
    if isinstance(value, dict):
        return [t for part in (*value.keys(), *value.values()) for t in _floating(part)]
    return [t for part in value for t in _floating(part)] if isinstance(value, list | tuple) else []


@every_entry
def test_a_learning_rate_of_zero_moves_nothing(entry):
    if entry.facts.schedule.kind == "constant":
        pytest.skip("a schedule-free method declares that it has no schedule to obey")
    bench = Bench(entry)
    for optimizer in bench.own:
        for group in optimizer.param_groups:
            group["lr"] = 0.0
    before = bench.bits()
    for w in bench.model.parameters():
        w.grad = torch.ones_like(w)
    for optimizer in bench.own:
        optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(before, bench.bits(), strict=True))


@every_ranked
def test_the_learning_rate_scales_the_step(entry):
    """A step at half the rate moves weights half as far (decay included, which is proportional too)."""
    if entry.facts.schedule.kind == "constant":
        pytest.skip("a schedule-free method declares that it has no schedule to obey")
    moves = []
    for factor in (1.0, 0.5):
        bench = Bench(entry)
        before = bench.bits()
        for optimizer in bench.own:
            for group in optimizer.param_groups:
                group["lr"] *= factor
        sequence_losses(bench.model, batch_at(0)).mean().backward()
        for optimizer in bench.own:
            optimizer.step()
        moves.append(math.sqrt(sum((a - b).square().sum().item() for a, b in zip(before, bench.bits(), strict=True))))
    assert moves[0] > 0
    assert moves[1] == pytest.approx(0.5 * moves[0], rel=0.02)


def _nudged(value: object) -> object:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    return value * 0.9 if value else 0.01


@every_entry
def test_every_hyperparameter_has_an_effect(entry):
    plain = Bench(entry, steps=8).train().progress.loss_chain
    hyperparameters = [field.name for field in fields(entry.hyperparameters(entry.values({})))]
    for name in hyperparameters:
        value = entry.defaults[name]
        if isinstance(value, str):
            continue  # a named variant; other names are other entries
        nudged = Bench(entry, steps=8, values={name: _nudged(value)}).train().progress.loss_chain
        assert nudged != plain, f"{name} changes nothing"
