"""One plan of a bundle: is it the one that the rules write, and do its trials lead to the tuned values?"""

from dataclasses import dataclass, field, replace
from pathlib import Path

from bench.entry import Entry
from bench.errors import BenchError
from bench.ledger import Study as Ledgered
from bench.ledger import Trial, ledger_path, read_ledger
from bench.mode import FLOAT
from bench.outlook import OTHER_MACHINE
from bench.plan import Plan, all_plans, plan_path
from bench.record import Record, find_records, read_record
from bench.rerun import read_maintainers
from bench.spec import read_toml
from bench.standin import why_not_tried
from bench.submission.after import measured
from bench.submission.beneath import lay
from bench.submission.desk import Desk, short
from bench.submission.probes import may_probe
from bench.submission.rules import Rules
from bench.submission.runs import Runs
from bench.submission.trials import Told, oddities, unexplained
from bench.submission.values import Led, departures_of, led_to
from bench.task import Task, read_task
from bench.tuned import Tuned, read_tuned, tuned_path
from bench.versions import NAME, check_record, read_pins


@dataclass
class Study:
    """One plan of the bundle with all that rests on it."""

    desk: Desk
    name: str  # of the plan's file
    plan: Plan
    children: set[str] = field(default_factory=set)  # names that child records of the plan's runs have

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
        """Return the names of the files that rest on the plan, once it was judged."""
        return {*self.records, self.ledger, self.tuned, *self.children}

    def judge(self) -> None:
        """Look at the plan, its ledger, its tuned values and its records."""
        if self.name != plan_path(Path("leaderboard/plans"), self.plan).as_posix():
            self.desk.add(self.name, "", "its name is not its task, entry and digest")
        entry, task = self._entry(), self._task()
        if entry is None or task is None:
            return
        Rules(self.desk, self.name, self.plan, {plan.digest: plan for plan in self._plans()}).judge(entry, task)
        yardstick = None if entry.name == task.reference else self._yardstick(task)
        trials = self._trials()
        led = self._tuned(task, yardstick) if trials is not None else None
        records = Runs(self.desk, self.plan, task, entry, led, yardstick, self.name).all(self.records)
        told = Told(self.plan, task, entry.facts.scope != "full", may_probe(entry), led, yardstick)
        self._ledger(told, trials or [], list(records.values()))
        self._parties(records)
        self._measured(task, records)

    def _parties(self, records: dict[str, Record]) -> None:
        """Who reruns made none of the author's records; who keeps the board is named, for records say it themselves."""
        authors = set()
        if self.plan.rerun is not None:
            authors = {record.who for record in self._records_of(self.plan.rerun.of).values()}
        keepers, named = read_maintainers(self.desk.base / "leaderboard"), set[str]()
        for name, record in records.items():
            if record.who in authors:
                self.desk.add(name, "who", f"{short(record.who)} made the author's records: a rerun is another party's")
            elif record.who in keepers - named and not (self.desk.base / name).is_file():
                self.desk.remark(name, "who", f"says that it was made by {short(record.who)}, who keeps the board")
                named.add(record.who)

    def _records_of(self, digest: str) -> dict[str, Record]:
        """Return the records of another plan, in the bundle and in the clone."""
        folder = f"leaderboard/records/{self.plan.task}/{digest[:16]}"
        names = {path.name for root in (self.desk.root, self.desk.base) for path in find_records([root / folder])}
        found = {}
        for name in sorted(f"{folder}/{name}" for name in names):
            lay(self.desk, name)
            if record := self.desk.read(name, read_record):
                found[name] = record
        return found

    def _measured(self, task: Task, records: dict[str, Record]) -> None:
        """Look at the modes of finished checkpoints, of the plan's own runs or of those that it adds modes to."""
        plans = {plan.digest: plan for plan in self._plans()}
        of = self.plan
        if of.adds_modes and of.after in plans:
            of = plans[of.after]
            records = self._records_of(of.digest)
        asking = [plan for plan in plans.values() if plan == of or (plan.adds_modes and plan.after == of.digest)]
        self.children |= measured(self.desk, asking, task, records)

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
            return None
        if tuned.plan != self.plan.yardstick:
            mine = "none" if self.plan.yardstick is None else short(self.plan.yardstick)
            self.desk.add(self.name, "yardstick", f"{mine}, that of {task.reference} is {short(tuned.plan)}")
            return None
        kinds = {plan.digest: plan.machine_kind for plan in self._plans()}
        if kinds.get(tuned.plan, self.plan.machine_kind) != self.plan.machine_kind:
            self.desk.remark(self.name, "machine_kind", OTHER_MACHINE)
        return tuned

    def _plans(self) -> list[Plan]:
        found = all_plans(self.desk.base / "leaderboard" / "plans", self.plan.task)
        try:
            return found + all_plans(self.desk.root / "leaderboard" / "plans", self.plan.task)
        except BenchError:
            return [*found, self.plan]

    def _trials(self) -> list[Trial] | None:
        """Return the plan's trials, or None where they cannot be followed. A plan after another may have none."""
        name = self.ledger
        if name not in self.desk.files:
            if self.plan.after is None:
                self.desk.add(name, "", "is missing: the plan's ledger")
            return None if self.plan.after is None else []
        return self.desk.read(name, lambda path: read_ledger(path, self.plan))

    def _ledger(self, told: Told, trials: list[Trial], records: list[Record]) -> None:
        """Hold each trial to what it must be, and to the versions of the harness that the records tell of."""
        if why := why_not_tried(self.plan, trials, self.desk.base / "leaderboard"):
            self.desk.add(self.ledger, "stand_in", why)
        for number, reason in oddities(told, trials):
            self.desk.add(self.ledger, f"line {number + 1}", reason)
        if strange := unexplained(told, trials, records):
            said = f"no version of the harness that the plan's records have explains {len(strange)} of the run_ids"
            self.desk.remark(self.ledger, f"line {strange[0] + 1}", said)

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
