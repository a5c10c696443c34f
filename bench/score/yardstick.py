"""What the yardstick's ledger says of the yardstick: how its batch does, and which values lie at an end of a range."""

from collections.abc import Iterable, Sequence

from bench.entry import BATCH, WARMUP
from bench.errors import BenchError
from bench.ledger import Study
from bench.task import Task, rung_name
from bench.trials import state_after


def batches(studies: Iterable[Study], task: Task, reference: str) -> list[tuple[bool, str]]:
    """Return whether the task's batch is the yardstick's best of itself, half and twice it (protocol A8), and say how
    each ends, and of how many trials that is the best."""
    found = []
    for study in studies:
        losses: dict[float, list[float]] = {}
        for trial in study.trials if study.plan.entry == reference else ():
            if (
                trial.loss is not None
                and trial.stage not in ("transfer", "mode")
                and trial.rung == study.plan.tuning.rung
            ):
                losses.setdefault(float(trial.values.get(BATCH, 1.0)), []).append(trial.loss)
        if len(losses) > 1:
            said = ", ".join(
                f"{min(held):.4f} at {round(task.training.batch_sequences * factor)} (the best of {len(held)} trials)"
                for factor, held in sorted(losses.items())
            )
            best = min(losses, key=lambda factor: min(losses[factor]))
            rung, own = rung_name(study.plan.tuning.rung), task.training.batch_sequences
            what = f"the task's batch of {own} sequences is {'not ' * (best != 1.0)}{reference}'s best at {rung}"
            head = "" if best == 1.0 else "protocol A8 is not met: "
            found.append((best == 1.0, (
                f"{head}{what}, which ends at {said}; selecting loss, {len(study.plan.tuning.seeds)} seeds a trial, "
                "the other batches with the tuned values and learning rates of their own; the best of more trials is "
                "the luckier"
            )))  # fmt: skip
    return found


def end_notes(studies: Sequence[Study], task: Task, reference: str) -> list[str]:
    """Say which of the yardstick's tuned values lie at an end of what was searched: a better one may lie beyond."""
    steps, by_digest = {rung: task.steps(rung) for rung in task.budget.rungs}, {s.plan.digest: s for s in studies}
    at: dict[str, list[float]] = {}
    for study in studies:
        plan = study.plan
        if plan.entry != reference or (plan.after is not None and not plan.adds_rungs):
            continue
        try:
            tuned = state_after(study, by_digest, steps).tuned or {}
        except BenchError:  # the values do not stand, which is said elsewhere
            continue
        ends = {name: (held.low, held.high) for name, held in plan.space.items()}
        ends[WARMUP] = min(plan.warmups), max(plan.warmups)
        for rung in sorted(plan.ladder):
            for name, (low, high) in ends.items():
                value = tuned.get(rung, {}).get(name)
                if isinstance(value, float | int) and not low < value < high:
                    at.setdefault(f"{name} {value:g} ({'lowest' if value <= low else 'highest'})", []).append(rung)
    said = "; ".join(f"{value} at {', '.join(map(rung_name, rungs))}" for value, rungs in at.items())
    head = f"protocol B is not met: it asks for tuned values of {reference} inside what is searched, and at an end lie"
    return [f"{head} {said}"] if at else []
