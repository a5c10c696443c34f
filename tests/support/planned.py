"""Plans to test searches with: losses that are a formula, ledgers that need no training, copies of entries to tune."""

import json
import math
import shutil
from pathlib import Path

from small import ROOT

from bench.digest import digest_of
from bench.entry import WARMUP, Entry
from bench.ledger import Trial, TrialRun, append
from bench.plan import Plan, make_plan
from bench.task import Task, read_task
from bench.trials import state_of
from bench.tuning import Configuration, tune

TASK = read_task(ROOT / "tasks" / "nano.toml")
KIND = digest_of("kind")
STEPS = {rung: TASK.steps(rung) for rung in TASK.budget.rungs}


def entry_at(name: str, root: Path = ROOT / "baselines") -> Entry:
    return Entry(next(root.glob(f"*/{name}.toml")))


def yardstick(task: Task = TASK) -> Plan:
    return make_plan("nano", task, entry_at("adamw-ref"), KIND, None)


def plan_of(name: str = "adamw", placebo: int = 0, after: Plan | None = None, task: Task = TASK) -> Plan:
    return make_plan("nano", task, entry_at(name), KIND, yardstick(), placebo, after)


def with_tuning(plan: Plan, **changed) -> Plan:
    return plan.model_copy(update={"tuning": plan.tuning.model_copy(update=changed)})


def bowl(lr: float = 3e-3, warmup: float = 0.25):
    """A loss that is a parabola in octaves off a learning rate, and lowest at a warm-up; other values weigh less."""

    def loss(wanted: Configuration) -> float | None:
        values = wanted.values
        if "lr" not in values:
            return 3.0
        off = math.log2(values["lr"] / lr)
        numbers = [v for name, v in values.items() if name not in ("lr", WARMUP) and not isinstance(v, str)]
        rest = sum(math.sin(value) / 100 for value in numbers)
        return 3.0 + 0.02 * off**2 + 0.05 * abs(values[WARMUP] - warmup) + rest

    return loss


def searched(plan: Plan, loss, steps=STEPS) -> tuple[list[tuple[Configuration, float | None]], dict]:
    """Carry the search out on a formula: everything it tried, in order, and the tuned values."""
    search, tried = tune(plan, steps), []
    batch = next(search)
    while True:
        losses = [loss(wanted) for wanted in batch]
        tried += zip(batch, losses, strict=True)
        try:
            batch = search.send(losses)
        except StopIteration as end:
            return tried, end.value


def trial_run(plan: Plan, wanted: Configuration, seed: int, loss: float | None) -> TrialRun:
    facts = [plan.twin, wanted.rung, wanted.values, seed]
    return TrialRun(
        seed=seed, run_id=digest_of(facts), outcome="diverged" if loss is None else "finished", select_loss=loss,
        charged_tokens=1000.0 * wanted.rung, train_seconds=2.0, loss_chain=None,
    )  # fmt: skip


def write_trials(path: Path, plan: Plan, loss, count: int | None = None, steps=STEPS, run=trial_run) -> list[Trial]:
    """Write the plan's ledger up to so many trials, or whole, and return it."""
    trials: list[Trial] = []
    while waiting := state_of(plan, steps, trials).waiting:
        for wanted in waiting:
            if len(trials) == count:
                return trials
            runs = tuple(run(plan, wanted, seed, loss(wanted)) for seed in plan.tuning.seeds)
            trials.append(append(path, plan, trials, wanted.stage, wanted.rung, wanted.values, runs))
    return trials


def key(wanted: Configuration) -> str:
    return json.dumps([wanted.rung, wanted.values], sort_keys=True)


def copy_baselines(folder: Path, *names: str) -> Path:
    """Copy algorithms to a folder of one's own, where tuned values may be written."""
    for name in names:
        shutil.copytree(ROOT / "baselines" / name, folder / name, ignore=shutil.ignore_patterns("tuned", "__pycache__"))
    return folder


def trials_of(losses, stage="sweep", rung=1.0, seeds=(1000,), **values):
    """Trials of adamw at learning rates a factor 2 apart, with these losses."""
    plan, found = plan_of("adamw"), []
    for number, loss in enumerate(losses):
        wanted = Configuration(stage, rung, {"lr": 1e-3 * 2.0**number, **values})
        runs = tuple(trial_run(plan, wanted, seed, loss) for seed in seeds)
        zero = "0" * 64
        found.append(Trial(number=number, stage=stage, rung=rung, values=wanted.values, runs=runs, before=zero,
                           digest=zero))  # fmt: skip
    return found
