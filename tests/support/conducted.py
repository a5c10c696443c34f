"""Plans on a task of a second, carried out in this process: a folder with copies of entries and a leaderboard."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from planned import copy_baselines, entry_at, with_tuning
from small import places_in, write_task

from bench.assemble import Request
from bench.conduct import Conductor
from bench.jobs import complete, make
from bench.ledger import ledger_path, read_ledger
from bench.mode import FLOAT
from bench.orders import Paths
from bench.plan import Plan, make_plan, write_plan
from bench.record import find_records, read_record
from bench.setting import Watch, settle
from bench.task import read_task
from bench.tuned import newest_yardstick


class Stopped(Exception):
    pass


@dataclass
class Here:
    """An engine of this process; it stops after so many runs, as Ctrl-C would; those there already do not count."""

    most: int | None = None
    made: list = field(default_factory=list)
    given: list = field(default_factory=list)

    def map(self, function, jobs):
        self.given += jobs if function in (make, complete) else []
        for place, job in enumerate(jobs):
            there = len(find_records([job.places.records]))
            if function in (make, complete) and len(self.made) == self.most:
                raise Stopped
            path = function(job)
            if function in (make, complete) and len(find_records([job.places.records])) > there:
                self.made.append(job)
            yield place, path


@dataclass
class Bench:
    """A folder with a small task, copies of entries, and a leaderboard."""

    folder: object
    task_path: object

    @property
    def board(self):
        return self.folder / "leaderboard"

    def plan(self, name: str, placebo: int = 0, after: Plan | None = None, modes: Sequence[str] = (FLOAT,)) -> Plan:
        """Return the plan by the rules, cut down to a few trials, and two runs a track."""
        entry, task = entry_at(name, self.folder / "baselines"), read_task(self.task_path)
        request = Request("small", task, entry, entry.values({}), "bf16", 1.0, "tuned", 0)
        kind = settle(request, Watch()).machine.kind
        own = name == task.reference
        yardstick = None if own else newest_yardstick(self.entry("adamw-ref"), "small", self.board / "plans")
        plan = make_plan("small", task, entry, kind, yardstick, placebo, after, 1, modes)
        plan = with_tuning(plan, sweep=3, sobol=2, refined=()).model_copy(
            update={"rungs": {"1x": tuple(s for s in plan.rungs["1x"] if s % 10 < 2), "2x": plan.rungs["2x"][:1]}}
        )
        write_plan(self.board / "plans", plan)
        return plan

    def entry(self, name: str):
        return entry_at(name, self.folder / "baselines").path

    def conductor(self, plan: Plan, engine: Here) -> Conductor:
        places = places_in(self.folder)
        places = replace(places, records=self.board / "records", weights=self.folder / "weights")
        paths = Paths(self.task_path, self.entry(plan.twin), self.entry("adamw-ref"), self.board / "plans",
                      self.board / "ledgers", places)  # fmt: skip
        return Conductor(plan, read_task(self.task_path), paths, engine)

    def trials(self, plan: Plan):
        return read_ledger(ledger_path(self.board / "ledgers", plan), plan)

    def records(self, plan: Plan):
        found = [read_record(path) for path in find_records([self.board / "records"])]
        return {(r.inputs.track, r.inputs.budget, r.inputs.seed): r for r in found if r.plan == plan.digest}


def started(folder) -> Bench:
    text = write_task(folder, tokens="4_096", rungs="[1.0, 2.0]", reference='"adamw-ref"')
    copy_baselines(folder / "baselines", "adamw", "muon")
    return Bench(folder, text)
