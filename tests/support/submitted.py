"""A clone with a small task, its yardstick, and an entry begun by `bench new` and evaluated by its whole plan."""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from conducted import Here
from planned import bowl, copy_baselines, entry_at, write_trials
from small import places_in, write_task

from bench.assemble import Request
from bench.conduct import Conductor
from bench.entry import Entry
from bench.ledger import ledger_path
from bench.orders import Paths
from bench.plan import Plan, make_plan, write_plan
from bench.setting import Watch, settle
from bench.starter import begin
from bench.submission.pack import files_of
from bench.task import Task, read_task
from bench.trials import state_of
from bench.tuned import Cost, Tuned, tuned_path, write_tuned
from bench.versions import pin_version


@dataclass
class Clone:
    root: Path
    task_path: Path
    entry: Entry
    plan: Plan

    @property
    def task(self) -> Task:
        return read_task(self.task_path)

    def files(self) -> dict[str, bytes]:
        return files_of(self.entry, [self.plan], self.root / "leaderboard")


def cloned(root: Path, name: str = "small") -> Path:
    """Write a clone with a small task and the yardstick, whose ledger is a formula's, and return the task's path."""
    for folder in ("tasks", "leaderboard"):
        (root / folder).mkdir(parents=True)
    task_path = write_task(root, tokens="4_096", rungs="[1.0, 2.0]", reference='"adamw-ref"')
    text = re.sub(r"(?m)^compared.*$", "compared = [1.0]", task_path.read_text())
    task_path = task_path.rename(root / "tasks" / f"{name}.toml")
    task_path.write_text(text)
    copy_baselines(root / "baselines", "adamw")
    task, board = read_task(task_path), root / "leaderboard"
    pin_version(task_path, task, board)
    yardstick = entry_at("adamw-ref", root / "baselines")
    plan = make_plan(name, task, yardstick, kind_of(task_path, yardstick), None)
    write_plan(board / "plans", plan)
    steps = {rung: task.steps(rung) for rung in task.budget.rungs}
    trials = write_trials(ledger_path(board / "ledgers", plan), plan, bowl(), steps=steps)
    tuned = state_of(plan, steps, trials).tuned
    cost = Cost(trials=len(trials), charged_tokens=0.0, train_seconds=0.0)
    values = {"bf16": {f"{rung:g}x": values for rung, values in sorted(tuned.items())}}
    write_tuned(
        tuned_path(yardstick.path, name, "adamw-ref"),
        Tuned(plan=plan.digest, ledger=trials[-1].digest, cost=cost, tuned=values, transfer={}),
    )
    return task_path


def kind_of(task_path: Path, entry: Entry) -> str:
    request = Request(task_path.stem, read_task(task_path), entry, entry.values({}), "bf16", 1.0, "tuned", 0)
    return settle(request, Watch()).machine.kind


def submitted(root: Path) -> Clone:
    """Return a clone in which my-optimizer was begun and evaluated, in this process."""
    task_path = cloned(root)
    task, board, entry = read_task(task_path), root / "leaderboard", Entry(begin("my-optimizer", root / "baselines"))
    yardstick = entry_at("adamw-ref", root / "baselines")
    plans = sorted((board / "plans" / "small").glob("adamw-ref-*.json"))
    from bench.plan import read_plan

    plan = make_plan("small", task, entry, kind_of(task_path, entry), read_plan(plans[0]))
    write_plan(board / "plans", plan)
    places = places_in(root / "runs")
    places = type(places)(places.data, places.work, board / "records")
    paths = Paths(task_path, entry.path, yardstick.path, board / "plans", board / "ledgers", places)
    Conductor(plan, task, paths, Here()).evaluate()
    return Clone(root, task_path, entry, plan)


def copied(clone: Clone, folder: Path) -> Path:
    """Return a folder with the submission's files, to be spoilt."""
    for name, data in clone.files().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    shutil.rmtree(folder / "__pycache__", ignore_errors=True)
    return folder
