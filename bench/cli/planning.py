"""Which plans there are of an entry on a task, and the writing of those that are asked for and not there."""

from collections.abc import Sequence
from pathlib import Path

from bench.cli.app import err
from bench.entry import Entry
from bench.errors import BenchError
from bench.mode import FLOAT, modes_named, read_mode
from bench.outlook import OTHER_MACHINE
from bench.places import data_folder
from bench.plan import Plan, add_modes, add_rungs, find_plans, make_plan, write_plan
from bench.record import Machine
from bench.task import Task
from bench.tuned import newest_yardstick
from bench.versions import pin_version

GO_ON = "go on with "  # what to set stands behind it


def planned(
    task: Path, definition: Task, entry: Entry, placebo: int, leaderboard: Path, baselines: Path,
    modes: str | None, after: bool = False,
) -> list[Plan]:  # fmt: skip
    """Return the entry's plans; those asked for that are not there are written: the first, a look, added modes,
    and what runs the rungs that the task's ladder was extended by."""
    name, folder = f"{entry.name}@{placebo}" if placebo else entry.name, leaderboard / "plans"

    def there() -> list[Plan]:
        found = find_plans(folder, task.stem, name)
        return [plan for plan in found if (plan.task_digest, plan.entry_digest) == (definition.digest, entry.digest)]

    asked, plans = modes_named(modes or "standard"), there()
    if placebo and modes not in (None, "none"):
        raise BenchError(f"{name}: a placebo measures tuning noise, in {FLOAT} alone", "leave --modes out")
    if after and not plans:
        raise BenchError(f"{name} has no plan on {task.stem} yet", "leave --after out: the first plan comes first")
    extended = add_rungs(plans, definition) if plans else None
    if extended is not None:
        write_plan(folder, extended)
        plans = there()
    if after or not plans:
        floats = [plan for plan in plans if not plan.adds_modes]
        looked = floats[-1] if floats else None
        if looked is not None:
            _refuse_unmade(looked, leaderboard / "records" / task.stem)
        yardstick = None
        if entry.name != definition.reference:
            yardstick = newest_yardstick(reference_of(definition, baselines), task.stem, leaderboard / "plans")
        first = [plan for plan in floats if not plan.adds_rungs]
        chosen = first[-1].modes if first and modes is None else asked
        if not placebo:
            _refuse_unfit(definition, chosen)
        machine = machine_for(task, definition, entry)
        made = make_plan(task.stem, definition, entry, machine.kind, yardstick, placebo, looked, modes=chosen)
        leaderboard.mkdir(parents=True, exist_ok=True)
        pin_version(task, definition, leaderboard)
        write_plan(folder, made)
    plans = there()
    for plan in plans if modes is not None else ():
        had = {mode for other in plans if other.after == plan.digest and other.adds_modes for mode in other.modes}
        lacking = [mode for mode in asked if mode not in had | set(plan.modes)]
        if plan.adds_rungs:
            lacking = [mode for mode in lacking if read_mode(mode).kind == "after"]
        if lacking and not plan.adds_modes:
            _refuse_unfit(definition, lacking)
            write_plan(folder, add_modes(plan, lacking, definition.reference))
    plans = there()
    _warn_of_other_machine(plans[-1], task, definition, entry, leaderboard, baselines)
    return plans


def _warn_of_other_machine(
    plan: Plan, task: Path, definition: Task, entry: Entry, leaderboard: Path, baselines: Path
) -> None:
    """Say, each time that a plan is gone on with, that it is not of the yardstick's kind of machine."""
    if plan.yardstick is None:
        return
    yardstick = newest_yardstick(reference_of(definition, baselines), task.stem, leaderboard / "plans")
    if yardstick is not None and plan.machine_kind != yardstick.machine_kind:
        told = remedy(machine_for(task, definition, entry), plan, yardstick, leaderboard)
        err.print(f"the kind of machine {OTHER_MACHINE}; {told}", markup=False, highlight=False, soft_wrap=True)


def _refuse_unmade(plan: Plan, records: Path) -> None:
    """Refuse to look at a plan whose runs were not all made: further seeds are what a look costs."""
    from bench.index import load_index
    from bench.score.evidence import departures

    missing = departures(plan, load_index([records], None) if records.is_dir() else []).missing
    if missing:
        raise BenchError(
            f"the plan {plan.digest[:16]} has no record of {len(missing)} of its runs yet: there is nothing to look at",
            "carry it out first: bench evaluate",
        )


def _refuse_unfit(task: Task, modes: Sequence[str]) -> None:
    """Refuse modes that the task's model, its text or this device does not allow; say what is to be known of others."""
    if all(name == FLOAT for name in modes):
        return
    import torch

    from bench.quantize.fitting import refuse_unfit

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for line in refuse_unfit(task, [name for name in modes if name != FLOAT], data_folder(), device):
        err.print(line, markup=False, highlight=False, soft_wrap=True)


def machine_for(path: Path, task: Task, entry: Entry) -> Machine:
    """Return the machine that this process runs the task on."""
    from bench.assemble import Request
    from bench.setting import Watch, settle

    request = Request(path.stem, task, entry, entry.values({}), FLOAT, 1.0, "tuned", 0)
    return settle(request, Watch()).machine


def remedy(machine: Machine, plan: Plan, yardstick: Plan | None, leaderboard: Path) -> str | None:
    """Return what to do where a plan is not of the yardstick's kind of machine; None where it is."""
    from bench.standin import settings_of

    if yardstick is None or plan.machine_kind == yardstick.machine_kind:
        return None
    known = settings_of(machine, leaderboard, plan.task)
    return f"{GO_ON}{known}" if known else f"bench stand-in tasks/{plan.task}.toml may show that it gives its bits"


def reference_of(task: Task, baselines: Path) -> Path:
    paths = sorted(baselines.glob(f"*/{task.reference}.toml"))
    if not paths:
        raise BenchError(f"no entry {task.reference} in {baselines}", "name the yardstick's folder with --baselines")
    return paths[0]
