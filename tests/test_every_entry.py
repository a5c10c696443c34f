"""Whatever lies in baselines/ must pass these, and so must an entry anywhere else: adding one adds its tests."""

import math
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from ranks import train_together
from tiny import BATCH, CONTEXT, DEVICE, Tiny, batch_at, equal

from bench import checkpoint
from bench.claims import claimed
from bench.entry import find_entries
from bench.facts import state_tensors
from bench.model import sequence_losses
from bench.roles import Roles, Run
from bench.train import Diverged

ENTRIES = find_entries(Path(__file__).parents[1] / "baselines")
RANKED = [entry for entry in ENTRIES if not entry.facts.control]

every_entry = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
every_ranked = pytest.mark.parametrize("entry", RANKED, ids=lambda entry: entry.name)


@every_entry
def test_every_parameter_is_claimed_once_and_the_rest_is_the_harness_s(entry):
    tiny = Tiny(entry)
    trained = [w for optimizer in tiny.optimizers for group in optimizer.param_groups for w in group["params"]]
    assert len(trained) == len(set(trained))
    assert set(trained) == set(tiny.model.parameters())
    if entry.facts.scope == "hidden":
        assert set(claimed(tiny.own, tiny.roles)) == set(tiny.roles.matrices)


@pytest.fixture(scope="session")
def frozen() -> tuple[float, float]:
    """Mean and standard deviation over seeds of the control's final loss."""
    entry = next(entry for entry in ENTRIES if entry.name == "frozen-hidden")
    losses = torch.tensor([Tiny(entry, seed).train().final_loss() for seed in range(3)])
    return losses.mean().item(), losses.std().item()


@every_ranked
def test_learns_more_than_frozen_matrices_by_five_standard_deviations(entry, frozen):
    losses = torch.tensor([Tiny(entry, seed).train().final_loss() for seed in range(3)])
    mean, deviation = frozen
    assert losses.mean().item() < mean - 5 * max(deviation, losses.std().item())


@every_entry
def test_the_same_seed_gives_the_same_bits(entry):
    assert equal(Tiny(entry, steps=8).train(), Tiny(entry, steps=8).train())


@every_entry
def test_sharing_its_matrices_out_over_ranks_changes_no_bit(entry):
    """An entry whose steps hang together over parameters says `coupled = true`, and is not shared out."""
    if entry.facts.coupled:
        pytest.skip("coupled")
    alone = Tiny(entry, steps=16).train()
    for tiny in train_together(entry, ranks=2, steps=16):
        assert equal(tiny, alone)


@every_entry
def test_resuming_equals_never_stopping(entry, tmp_path):
    """At two places, through a file, as after a kill; 40 steps, so that what acts every tenth step is seen."""
    straight = Tiny(entry, steps=40).train()
    stopped = Tiny(entry, steps=40).train(stop_after=7)
    for stop in (23, None):
        checkpoint.save(tmp_path, stopped.progress.step, stopped.state())
        resumed = Tiny(entry, steps=40).restored(checkpoint.load_latest(tmp_path, print))
        plain = [_plain_attributes(optimizer) for optimizer in stopped.own]
        assert plain == [_plain_attributes(optimizer) for optimizer in resumed.own], "kept outside of state_dict"
        stopped = resumed.train(stop_after=stop)
    assert equal(straight, stopped)


def _plain_attributes(optimizer: torch.optim.Optimizer) -> dict[str, object]:
    return {name: value for name, value in vars(optimizer).items() if isinstance(value, int | float | str)}


@every_entry
def test_a_gradient_of_zeros_leaves_every_number_finite(entry):
    tiny = Tiny(entry)
    for _ in range(3):
        for w in tiny.model.parameters():
            w.grad = torch.zeros_like(w)
        for optimizer in tiny.own:
            optimizer.step()
    assert all(w.isfinite().all() for w in tiny.model.parameters())
    assert all(state.isfinite().all() for state in state_tensors(tiny.own))


@every_entry
def test_a_parameter_without_a_gradient_is_passed_over(entry):
    tiny = Tiny(entry)
    passed = {weights[0] for weights in tiny.roles.by_name.values() if weights}
    before = [w.detach().clone() for w in passed]
    for _ in range(3):
        sequence_losses(tiny.model, batch_at(0).to(DEVICE)).mean().backward()
        for w in passed:
            w.grad = None
        for optimizer in tiny.own:
            optimizer.step()
    assert all(torch.equal(w, old) for w, old in zip(passed, before, strict=True))
    assert all(w.isfinite().all() for w in tiny.model.parameters())


@pytest.mark.parametrize("number", [math.nan, math.inf])
@every_entry
def test_a_gradient_that_is_no_number_ends_the_run_at_its_step(entry, number):
    tiny = Tiny(entry, steps=16)
    factors = iter([1.0] * 4 + [number] * 12)
    tiny.roles.matrices[0].register_hook(lambda gradient: gradient * next(factors))
    with pytest.raises(Diverged, match="at step 5"):
        tiny.train()


@every_entry
def test_a_model_without_a_part_is_no_obstacle(entry):
    roles = Tiny(entry).roles
    run = Run(8, 8 * BATCH * CONTEXT, BATCH * CONTEXT, DEVICE, torch.Generator(DEVICE))
    for missing in ("hidden", "embedding", "vectors"):
        rest: Roles = replace(roles, **{missing: ()})
        module = entry.module()
        built = module.build(rest, entry.hyperparameters(entry.values({})), run)
        for optimizer in built if isinstance(built, list) else [built]:
            optimizer.step()


@every_entry
def test_all_state_is_fp32_and_stands_in_state_dict(entry):
    tiny = Tiny(entry, steps=4).train()
    assert {state.dtype for state in state_tensors(tiny.own)} <= {torch.float32}
    for optimizer in tiny.own:
        held = {id(t) for name, value in vars(optimizer).items() if name not in ("state", "param_groups")
                for t in _floating(value)}  # fmt: skip
        assert not held - {id(w) for w in tiny.model.parameters()}, "a tensor outside state is lost by a checkpoint"


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
    tiny = Tiny(entry)
    for optimizer in tiny.own:
        for group in optimizer.param_groups:
            group["lr"] = 0.0
    before = tiny.bits()
    for w in tiny.model.parameters():
        w.grad = torch.ones_like(w)
    for optimizer in tiny.own:
        optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(before, tiny.bits(), strict=True))


@every_ranked
def test_the_learning_rate_scales_the_step(entry):
    """Steps at half the rate move weights half as far (decay included, which is proportional too). Two steps on one
    gradient: some methods only look at the first."""
    if entry.facts.schedule.kind == "constant":
        pytest.skip("a schedule-free method declares that it has no schedule to obey")
    moves = []
    for factor in (1.0, 0.5):
        tiny = Tiny(entry)
        before = tiny.bits()
        for optimizer in tiny.own:
            for group in optimizer.param_groups:
                group["lr"] *= factor
        sequence_losses(tiny.model, batch_at(0).to(DEVICE)).mean().backward()
        for optimizer in [*tiny.own, *tiny.own]:
            optimizer.step()
        moves.append(math.sqrt(sum((a - b).square().sum().item() for a, b in zip(before, tiny.bits(), strict=True))))
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
    """Most show in the first steps' losses; the others have 24 steps."""
    plain = {point["step"]: point["loss"] for point in Tiny(entry, steps=24).train().progress.milestones}
    hyperparameters = [field.name for field in fields(entry.hyperparameters(entry.values({})))]
    for name in hyperparameters:
        value = entry.defaults[name]
        if isinstance(value, str) or entry.facts.fixed.get(name) == 0:
            continue  # a named variant, or a part that is turned off: other names, and more, are other entries
        nudged = Tiny(entry, steps=24, values={name: _nudged(value)})
        chains = (nudged.train(stop_after=stop).progress.loss_chain != plain[stop] for stop in (3, 24))
        assert any(chains), f"{name} changes nothing"
