"""One plan of a bundle: is it the one that the rules write, and do its trials lead to the tuned values?"""

from dataclasses import dataclass, replace
from pathlib import Path

from bench.entry import Entry
from bench.errors import BenchError
from bench.ledger import Study as Ledgered
from bench.ledger import ledger_path, read_ledger
from bench.mode import FLOAT
from bench.plan import PLACEBO, Plan, add_modes, add_rungs, all_plans, make_plan, plan_path
from bench.rerun import rerun_plan
from bench.spec import read_toml
from bench.submission.desk import Desk, short
from bench.submission.runs import Runs
from bench.submission.values import Led, departures_of, led_to
from bench.task import Task, read_task
from bench.tuned import Tuned, read_tuned, tuned_path
from bench.versions import NAME, check_record, read_pins

SEEDS = 3  # of a plan at every rung (protocol D)


@dataclass
class Study:
    """One plan of the bundle with all that rests on it."""

    desk: Desk
    name: str  # of the plan's file
    plan: Plan

    @property
    def records(self) -> list[str]:
        folder = f"leaderboard/records/{self.plan.task}/{self.plan.digest[:16]}/"
        return [name for name in self.desk.of_kind("record") if name.startswith(folder)]

    @property
    def ledger(self) -> str:
        return ledger_path(Path("leaderboard/ledgers"), self.plan).as_posix()

    @property
    def tuned(self) -> str:
        return tuned_path(Path(f"baselines/{self.plan.algorithm}/x"), self.plan.task, self.plan.entry).as_posix()

    @property
    def files(self) -> set[str]:
        """Return the names of the files that rest on the plan."""
        return {*self.records, self.ledger, self.tuned}

    def judge(self) -> None:
        """Look at the plan, its ledger, its tuned values and its records."""
        if self.name != plan_path(Path("leaderboard/plans"), self.plan).as_posix():
            self.desk.add(self.name, "", "its name is not its task, entry and digest")
        entry, task = self._entry(), self._task()
        if entry is None or task is None:
            return
        self._rules(entry, task)
        yardstick = None if entry.name == task.reference else self._yardstick(task)
        led = self._tuned(task, yardstick) if self._ledger(self.ledger) else None
        Runs(self.desk, self.plan, task, entry, led, yardstick, self.name).all(self.records)

    def _entry(self) -> Entry | None:
        home = f"baselines/{self.plan.algorithm}/{self.plan.twin}.toml"
        path = self.desk.root / home
        source = f"baselines/{self.plan.algorithm}/optimizer.py"
        if not path.is_file() or not (path.parent / "optimizer.py").is_file():
            self.desk.add(source if path.is_file() else home, "", "is missing: the plan's entry")
            return None
        try:
            entry = Entry(path)
            if entry.digest != self.plan.entry_digest:
                self.desk.add(self.name, "entry_digest", f"is not that of {source} and {home}: the code changed since")
            return entry
        except BenchError as error:
            self.desk.refused(home, error)
            return None

    def _task(self) -> Task | None:
        path = self.desk.base / "tasks" / f"{self.plan.task}.toml"
        if not path.is_file():
            self.desk.add(self.name, "task", f"no task {self.plan.task} here")
            return None
        task = read_task(path)
        try:
            check_record(self.plan.task, self.plan.task_digest, read_pins(self.desk.base / "leaderboard" / NAME))
        except BenchError as error:
            self.desk.add(self.name, "task_digest", error.what)
        if task.digest != self.plan.task_digest:
            self.desk.add(self.name, "task_digest", f"is of another version of {self.plan.task}")
            return None
        return task

    def _yardstick(self, task: Task) -> Tuned | None:
        """Return the tuned values that the rest and the transfer track take: those that the plan names, and no others.

        They must be the reference's current ones, as they are when a plan is written and carried out.
        """
        paths = sorted((self.desk.root / "baselines").glob(f"*/{task.reference}.toml"))
        tuned = read_tuned(paths[0], self.plan.task, task.reference) if paths else None
        if tuned is None:
            self.desk.add(self.name, "yardstick", f"{task.reference} has no tuned values on {self.plan.task} here")
        elif tuned.plan != self.plan.yardstick:
            mine = "none" if self.plan.yardstick is None else short(self.plan.yardstick)
            self.desk.add(self.name, "yardstick", f"{mine}, that of {task.reference} is {short(tuned.plan)}")
            return None
        return tuned

    def _rules(self, entry: Entry, task: Task) -> None:
        """The plan must be the one that bench plan writes, and the entry's first, or a look after it."""
        plan, known = self.plan, {p.digest: p for p in self._plans()}
        placebo = plan.entry.partition(PLACEBO)[2]
        yardstick, after = (known.get(digest) if digest else None for digest in (plan.yardstick, plan.after))
        for key, digest, found in (("yardstick", plan.yardstick, yardstick), ("after", plan.after, after)):
            if digest and found is None:
                self.desk.add(self.name, key, f"the plan {digest[:16]} is not published")
                return
        try:
            if plan.adds_modes and after is not None:
                wanted = add_modes(after, plan.modes, task.reference)
            elif plan.adds_rungs and after is not None:
                wanted = add_rungs(_chain(after, known), as_of(task, plan, known)) or after
            elif plan.rerun and after is not None:
                wanted = self._rerun(after)
            else:
                kind, number = plan.machine_kind, int(placebo or 0)
                lent = None if entry.name == task.reference else yardstick
                then = as_of(task, plan, known)
                wanted = make_plan(plan.task, then, entry, kind, lent, number, after, SEEDS, plan.modes)
        except BenchError as error:
            self.desk.add(self.name, "", error.what)
            return
        mine, rules = plan.model_dump(mode="json"), wanted.model_dump(mode="json")
        for key in [key for key in mine if mine[key] != rules[key]]:
            self.desk.add(self.name, key, f"{short(mine[key])}, the rules write {short(rules[key])}")
        others = [p for p in known.values() if (p.entry, p.task_digest) == (plan.entry, plan.task_digest)]
        if plan.after is None and any(p.after is None and p.digest != plan.digest for p in others):
            self.desk.add(
                self.name, "space", f"{plan.entry} has a first plan already: its space and seeds stand since then"
            )

    def _rerun(self, of: Plan) -> Plan:
        """Return the rerun that the commit it names draws; its party chose a rung, a track and how many seeds."""
        plan = self.plan
        assert plan.rerun is not None
        rung, seeds = next(iter(plan.ladder.items()), (0.0, ()))
        return rerun_plan(of, plan.rerun.merge, plan.machine_kind, rung, plan.tracks[0], len(seeds))

    def _plans(self) -> list[Plan]:
        found = all_plans(self.desk.base / "leaderboard" / "plans", self.plan.task)
        try:
            return found + all_plans(self.desk.root / "leaderboard" / "plans", self.plan.task)
        except BenchError:
            return [*found, self.plan]

    def _ledger(self, name: str) -> bool:
        """Look at the plan's trials; return whether the ledger can be followed. A plan after another may have none."""
        if name not in self.desk.files:
            if self.plan.after is None:
                self.desk.add(name, "", "is missing: the plan's ledger")
            return self.plan.after is not None
        trials = self.desk.read(name, lambda path: read_ledger(path, self.plan))
        seen: dict[str, str] = {}
        for trial in trials or ():
            for run in trial.runs:
                if run.outcome == "finished" and (run.select_loss is None or run.loss_chain is None):
                    self.desk.add(name, f"line {trial.number + 1}", "a finished run has a loss and a chain")
                if run.loss_chain and seen.setdefault(run.loss_chain, run.run_id) != run.run_id:
                    self.desk.add(name, f"line {trial.number + 1}", "its chain of losses is another run's")
        return trials is not None

    def _tuned(self, task: Task, yardstick: Tuned | None) -> Led | None:
        """Return what the ledgers lead to; the file of tuned values must be that, whichever plan it comes with."""
        steps = {rung: task.steps(rung) for rung in task.budget.rungs}
        try:
            led = led_to(self.plan, self._studies(), steps)
        except BenchError as error:
            self.desk.add(self.ledger, "", error.what)
            return None
        if not (self.desk.root / self.tuned).is_file():
            self.desk.add(self.tuned, "", "is missing: the tuned values")
            return None
        tuned = self.desk.read(self.tuned, lambda path: read_toml(path, Tuned))
        if tuned is None:
            return None
        for key, reason in departures_of(tuned, led, yardstick):
            self.desk.add(self.tuned, key, reason)
        return replace(led, transfer=tuned.transfer.get(FLOAT, {}))

    def _studies(self) -> dict[str, Ledgered]:
        """Return the entry's plans in the bundle and in the clone with their ledgers, by digest."""
        mine = self.plan.entry, self.plan.task_digest, self.plan.entry_digest
        plans = [plan for plan in self._plans() if (plan.entry, plan.task_digest, plan.entry_digest) == mine]
        found = {}
        for plan in plans:
            name = ledger_path(Path("leaderboard/ledgers"), plan)
            root = self.desk.root if name.as_posix() in self.desk.files else self.desk.base
            found[plan.digest] = Ledgered(plan, tuple(read_ledger(root / name, plan)))
        return found


def _chain(plan: Plan, known: dict[str, Plan]) -> list[Plan]:
    """Return a plan and those that it comes after, the first one first."""
    return [*(_chain(known[plan.after], known) if plan.after in known else []), plan]


def as_of(task: Task, plan: Plan, known: dict[str, Plan]) -> Task:
    """Return the task with the ladder that the plan was written for: without rungs that a later plan of it adds."""
    later = [p for p in known.values() if p.adds_rungs and p.digest != plan.digest and plan in _chain(p, known)]
    added = {rung for p in later for rung in p.ladder}
    rungs, compared = (tuple(r for r in held if r not in added) for held in (task.budget.rungs, task.budget.compared))
    return task.model_copy(update={"budget": task.budget.model_copy(update={"rungs": rungs, "compared": compared})})
