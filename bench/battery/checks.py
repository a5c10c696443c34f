"""The battery: each check trains an entry on the tiny model, or feeds it what a run may, and raises where it fails."""

import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from inspect import unwrap
from pathlib import Path

import torch
from torch.optim import Optimizer

from bench import checkpoint
from bench.battery.ranks import train_together
from bench.battery.tiny import BATCH, CONTEXT, DEVICE, Tiny, batch_at, equal
from bench.claims import claimed
from bench.entry import WARMUP, Entry
from bench.errors import BenchError
from bench.facts import state_tensors
from bench.model import sequence_losses
from bench.roles import Run
from bench.train import Diverged

SEEDS = 3  # of the comparison with frozen matrices
ERRORS = 5
PROPORTIONAL = 0.02  # relative: how far half the rate may be from half the step


class Failed(BenchError):
    """An entry does not do what every entry must."""


def clean_claims(entry: Entry) -> None:
    tiny = Tiny(entry)
    trained = [w for optimizer in tiny.optimizers for group in optimizer.param_groups for w in group["params"]]
    if len(trained) != len(set(trained)) or set(trained) != set(tiny.model.parameters()):
        raise Failed("a parameter is trained twice, or by nobody")
    if entry.facts.scope == "hidden" and set(claimed(tiny.own, tiny.roles)) != set(tiny.roles.matrices):
        raise Failed("scope is hidden, but build() does not claim the hidden matrices and nothing else")
    for own in tiny.own:
        if unwrap(type(own).step) is unwrap(Optimizer.step):  # torch wraps it in the class that is built
            raise Failed(f"{type(own).__name__} has no step()", "define step(self) -> None: torch's own only raises")


def keeps_to_its_own(entry: Entry) -> None:
    tiny = Tiny(entry)
    others = [w for w in tiny.model.parameters() if w not in set(claimed(tiny.own, tiny.roles))]
    others += list(tiny.model.buffers())
    before = [t.detach().clone() for t in others]
    for _ in range(3):
        sequence_losses(tiny.model, batch_at(0).to(DEVICE)).mean().backward()
        gradients = [(w, w.grad.clone()) for w in others if w.grad is not None]
        tiny.step()
        if not all(w.grad is not None and torch.equal(w.grad, old) for w, old in gradients):
            raise Failed("the step changes the gradient of a parameter that the entry does not claim")
    if not all(torch.equal(now, old) for now, old in zip(others, before, strict=True)):
        raise Failed("the step changes a parameter that the entry does not claim, or a buffer of the model")
    if any(not w.requires_grad or w._backward_hooks for w in tiny.model.parameters()):
        raise Failed("a parameter has a hook, or is no longer trained")


@cache
def _frozen_losses() -> tuple[float, float]:
    """Return mean and standard deviation over seeds of the final loss where the hidden matrices never move."""
    losses = torch.tensor([Tiny(None, seed).train().final_loss() for seed in range(SEEDS)])
    return losses.mean().item(), losses.std().item()


def learns(entry: Entry) -> None:
    losses = torch.tensor([Tiny(entry, seed).train().final_loss() for seed in range(SEEDS)])
    mean, deviation = _frozen_losses()
    wanted = mean - ERRORS * math.hypot(deviation, losses.std().item()) / math.sqrt(SEEDS)
    if not losses.mean().item() < wanted:
        raise Failed(
            f"ends at {losses.mean().item():.3f} nats on a task of repeats, expected below {wanted:.3f}: hidden "
            f"matrices that never move end at {mean:.3f}",
            "does the step follow the gradient downhill? Are the declared defaults of a usable size?",
        )


def repeats(entry: Entry) -> None:
    if not equal(Tiny(entry, steps=8).train(), Tiny(entry, steps=8).train()):
        raise Failed(
            "two runs of one seed in one process end with other bits",
            "draw random numbers from run.generator only, and keep nothing between runs",
        )


def shares_out(entry: Entry) -> None:
    alone = Tiny(entry, steps=16).train()
    if not all(equal(tiny, alone) for tiny in train_together(entry, ranks=2, steps=16)):
        raise Failed(
            "on two ranks, each stepping its own matrices, it ends with other bits than on one",
            "where the step of one parameter depends on others', say coupled = true in the TOML",
        )


def resumes(entry: Entry) -> None:
    """Stop at two places, go through a file as after a kill; 40 steps, so that what acts every tenth step is seen."""
    straight, stopped = Tiny(entry, steps=40).train(), Tiny(entry, steps=40).train(stop_after=7)
    with tempfile.TemporaryDirectory() as name:
        for stop in (23, None):
            checkpoint.save(Path(name), stopped.progress.step, stopped.state())
            state = checkpoint.load_latest(Path(name), print)
            assert state is not None
            resumed = Tiny(entry, steps=40).restored(state)
            for old, new in zip(stopped.own, resumed.own, strict=True):
                lost = {key for key, value in _plain(old).items() if _plain(new).get(key) != value}
                if lost:
                    raise Failed(
                        f"self.{min(lost)} changes during training and stands in no checkpoint",
                        'keep it in self.state, or in a group, as group["steps"]',
                    )
            stopped = resumed.train(stop_after=stop)
    if not equal(straight, stopped):
        raise Failed(
            "stopped and resumed, it ends with other bits than never stopped",
            "all that a step depends on must stand in self.state or in the groups",
        )


def _plain(optimizer: Optimizer) -> dict[str, object]:
    return {name: value for name, value in vars(optimizer).items() if isinstance(value, int | float | str)}


def survives_zeros(entry: Entry) -> None:
    tiny = Tiny(entry)
    for _ in range(3):
        for w in tiny.model.parameters():
            w.grad = torch.zeros_like(w)
        tiny.step()
    numbers = [*tiny.model.parameters(), *state_tensors(tiny.own)]
    if not all(number.isfinite().all() for number in numbers):
        raise Failed("a gradient of zeros makes a number that is none", "divide by no less than an eps")


def passes_over(entry: Entry) -> None:
    tiny = Tiny(entry)
    passed = {weights[0] for weights in tiny.roles.by_name.values() if weights}
    before = [w.detach().clone() for w in passed]
    for _ in range(3):
        sequence_losses(tiny.model, batch_at(0).to(DEVICE)).mean().backward()
        for w in passed:
            w.grad = None
        tiny.step()
    if not all(torch.equal(w, old) for w, old in zip(passed, before, strict=True)):
        raise Failed("a parameter without a gradient was moved", "step only where w.grad is not None")
    if not all(w.isfinite().all() for w in tiny.model.parameters()):
        raise Failed("parameters without a gradient make a number that is none")


def ends_at_non_numbers(entry: Entry) -> None:
    for number in (math.nan, math.inf):
        tiny = Tiny(entry, steps=16)
        tiny.break_gradients(5, number)
        try:
            tiny.train()
        except Diverged as end:
            if "at step 5" in str(end):
                continue
            raise Failed(f"a gradient of {number} at step 5 ends the run elsewhere: {end}") from None
        raise Failed(
            f"a gradient of {number} goes unnoticed", "leave such gradients as they are: the harness ends the run"
        )


def does_without(entry: Entry) -> None:
    tiny = Tiny(entry)
    roles, run = tiny.roles, Run(8, 8 * BATCH * CONTEXT, BATCH * CONTEXT, DEVICE, torch.Generator(DEVICE), BATCH)
    for missing in ("hidden", "embedding", "vectors"):
        try:
            built = entry.build(entry.values({}), replace(roles, **{missing: ()}), run)
            tiny.own = built if isinstance(built, list) else [built]
            tiny.step()
        except Exception as error:
            raise Failed(
                f"a model without {missing} raises {type(error).__name__}: {error}",
                'leave out a group that is empty, or let step() pass over one: "params" may be []',
            ) from error


def keeps_fp32(entry: Entry) -> None:
    tiny = Tiny(entry, steps=4).train()
    low = {str(state.dtype) for state in state_tensors(tiny.own) if state.is_floating_point()} - {"torch.float32"}
    if low:
        raise Failed(f"state is kept in {', '.join(sorted(low))}, expected torch.float32")
    weights = {id(w) for w in tiny.model.parameters()}
    for optimizer in tiny.own:
        for name, value in vars(optimizer).items():
            if name not in ("state", "param_groups") and {id(t) for t in _floating(value)} - weights:
                raise Failed(f"self.{name} holds a tensor, which no checkpoint holds", "keep it in self.state[w]")


def _floating(value: object) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value] if value.is_floating_point() else []
    if isinstance(value, dict):
        return [t for part in (*value.keys(), *value.values()) for t in _floating(part)]
    return [t for part in value for t in _floating(part)] if isinstance(value, list | tuple) else []


def stands_still(entry: Entry) -> None:
    tiny = Tiny(entry)
    for optimizer in tiny.own:
        for group in optimizer.param_groups:
            group["lr"] = 0.0
    before = tiny.bits()
    for w in tiny.model.parameters():
        w.grad = torch.ones_like(w)
    tiny.step()
    if not all(torch.equal(a, b) for a, b in zip(before, tiny.bits(), strict=True)):
        raise Failed("a learning rate of zero moves weights", 'read group["lr"] at every step: the harness moves it')


def scales(entry: Entry) -> None:
    """Half the rate, half the way, decay included. Two steps on one gradient: some methods only look at the first.

    What a probe, or an entry around another, sees at the second step may hang on the first, so that steps are then a
    hundredth: nearly proportional.
    """
    moves = []
    for half in (1.0, 0.5):
        tiny = Tiny(entry)
        factor = half * (0.01 if tiny.parts.probe or entry.facts.wraps else 1.0)
        before = tiny.bits()
        for optimizer in tiny.own:
            for group in optimizer.param_groups:
                group["lr"] *= factor
        sequence_losses(tiny.model, batch_at(0).to(DEVICE)).mean().backward()
        tiny.step()
        tiny.step()
        moves.append(math.sqrt(sum((a - b).square().sum().item() for a, b in zip(before, tiny.bits(), strict=True))))
    if not (moves[0] > 0 and abs(moves[1] - 0.5 * moves[0]) <= PROPORTIONAL * 0.5 * moves[0]):
        raise Failed(
            f"half the learning rate moves weights by {moves[1]:.3g}, expected half of {moves[0]:.3g}",
            'the step is group["lr"] times a direction: the schedule acts through it alone',
        )


def no_dead_knob(entry: Entry) -> None:
    """Most knobs show in the losses of the first steps; the others have 24."""
    whole = Tiny(entry, steps=24).train().progress
    plain = {point["step"]: point["loss"] for point in whole.milestones}
    for name in sorted(set(entry.defaults) - {WARMUP}):
        value = entry.defaults[name]
        if isinstance(value, str) or entry.facts.fixed.get(name) == 0:
            continue  # a named variant, or a part that is turned off: other names, and more, are other entries
        for nudged in _nudges(value):
            tiny = Tiny(entry, steps=24, values={name: nudged})
            chains = ((tiny.train(stop).progress.loss_chain, plain.get(stop, whole.loss_chain)) for stop in (3, 24))
            if any(mine != theirs for mine, theirs in chains):
                break
        else:
            raise Failed(f"{name} changes nothing: {value} and {nudged} give the same losses", "take it out, or use it")


def _nudges(value: float) -> tuple[float, ...]:
    """Return a value nearby, then some that bring a long period or a wide bound into a run of 24 steps."""
    if isinstance(value, bool):
        return (not value,)
    return (value + 1, 7) if isinstance(value, int) else (value * 0.9 or 0.01, 0.5, 0.01)


def is_method(entry: Entry) -> bool:
    """A control by family may stand still; a variant that is only not ranked is held to what every method is."""
    return entry.facts.family != "control"


def obeys_a_schedule(entry: Entry) -> bool:
    """A schedule-free method declares that it has no schedule to obey."""
    return entry.facts.schedule.kind != "constant"


@dataclass(frozen=True)
class Check:
    says: str  # what holds where it passes
    run: Callable[[Entry], None]  # raises Failed
    concerns: Callable[[Entry], bool] = lambda entry: True


BATTERY = (
    Check("every parameter is claimed once, and the rest is the harness's", clean_claims),
    Check("steps move the entry's own parameters and nothing else", keeps_to_its_own),
    Check("learns more than frozen matrices by five standard errors", learns, is_method),
    Check("the same seed gives the same bits", repeats),
    Check("sharing its matrices out over ranks changes no bit", shares_out, lambda entry: not entry.facts.coupled),
    Check("resuming equals never stopping", resumes),
    Check("a gradient of zeros leaves every number finite", survives_zeros),
    Check("a parameter without a gradient is passed over", passes_over),
    Check("a gradient that is no number ends the run at its step", ends_at_non_numbers),
    Check("a model without a part is no obstacle", does_without),
    Check("all state is fp32 and stands in state_dict", keeps_fp32),
    Check("a learning rate of zero moves nothing", stands_still, obeys_a_schedule),
    Check("the learning rate scales the step", scales, lambda entry: is_method(entry) and obeys_a_schedule(entry)),
    Check("every hyperparameter has an effect", no_dead_knob),
)  # fmt: skip
