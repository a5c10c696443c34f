"""How far a plan's tuning is: its search, fed with its ledger, goes to where the ledger ends and says what is next."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field

from bench.errors import BenchError
from bench.ledger import Study, Trial
from bench.mode import FLOAT
from bench.plan import Plan
from bench.task import rung_name
from bench.tuning import Configuration, Losses, Tuned, extend, in_mode, tune


@dataclass(frozen=True)
class State:
    """How far a plan's tuning is."""

    waiting: tuple[Configuration, ...]  # to be run now, in this order; none when tuned
    tuned: Tuned | None  # in float
    in_modes: dict[str, Tuned] = field(default_factory=dict)  # that train rounded


def state_of(
    plan: Plan, steps: dict[float, int], ledger: Sequence[Trial], where: str = "the ledger", before: State | None = None
) -> State:
    """Return what is to be run next, or the tuned values; a ledger that is not this plan's is refused.

    steps: optimizer steps of every rung; before: the state of the plan that this one comes after.
    """
    if plan.after is not None and (before is None or before.tuned is None):
        raise BenchError(f"the plan {plan.after[:16]}, which {where} comes after, is not tuned", "carry it out first")
    search = _whole(plan, steps, before)
    done = list(ledger)
    try:
        batch = next(search)
    except StopIteration as end:
        return _ended(end.value, done, where)
    while True:
        taken, done = done[: len(batch)], done[len(batch) :]
        for trial, wanted in zip(taken, batch, strict=False):
            _check(trial, wanted, plan, where)
        if len(taken) < len(batch):
            return State(tuple(batch[len(taken) :]), None)
        try:
            batch = search.send([trial.loss for trial in taken])
        except StopIteration as end:
            return _ended(end.value, done, where)


def _ended(found: dict[str, Tuned], left: Sequence[Trial], where: str) -> State:
    if left:
        raise BenchError(f"{where}: {len(left)} trials beyond the plan", "a plan fixes its trials") from None
    return State((), found[FLOAT], {mode: tuned for mode, tuned in found.items() if mode != FLOAT})


def state_after(study: Study, studies: Mapping[str, Study], steps: dict[float, int]) -> State:
    """Return the state of a plan by its own ledger and those of the plans before it; studies by the plans' digests."""
    plan, before = study.plan, None
    if plan.after is not None:
        if plan.after not in studies:
            raise BenchError(f"the plan {plan.after[:16]}, which a plan of {plan.entry} comes after, is not here")
        before = state_after(studies[plan.after], studies, steps)
    return state_of(plan, steps, study.trials, f"the ledger of {plan.entry}", before)


def _whole(
    plan: Plan, steps: dict[float, int], before: State | None
) -> Generator[list[Configuration], Losses, dict[str, Tuned]]:
    """The float search, or what an earlier plan's led to, and then the modes that train rounded."""
    if before is None:
        found = {FLOAT: (yield from tune(plan, steps))}
    else:
        assert before.tuned is not None
        tuned = (yield from extend(plan, steps, before.tuned)) if plan.adds_rungs else before.tuned
        found = {FLOAT: tuned, **before.in_modes}
    for mode in plan.training_modes:
        if mode not in found:
            found[mode] = yield from in_mode(plan, mode, found[FLOAT])
    return found


def _check(trial: Trial, wanted: Configuration, plan: Plan, where: str) -> None:
    same = (trial.stage, trial.rung, trial.values) == (wanted.stage, wanted.rung, wanted.values)
    if not same or tuple(run.seed for run in trial.runs) != plan.tuning.seeds:
        raise BenchError(
            f"{where}: trial {trial.number} is not the one that the plan asks for",
            f"the plan asks for {wanted.stage} at {rung_name(wanted.rung)} with {wanted.values}",
        )
