"""Whether a plan is the one that the rules of the protocol write, at its place among those that there are."""

from dataclasses import dataclass

from bench.entry import Entry
from bench.errors import BenchError
from bench.plan import PLACEBO, Plan, add_modes, add_rungs, make_plan
from bench.rerun import rerun_plan
from bench.submission.desk import Desk, short
from bench.submission.merges import published_by
from bench.task import Task, rung_name

SEEDS = 3  # of a plan at every rung (protocol D)


@dataclass
class Rules:
    """What is written anew of a plan, to be held against it."""

    desk: Desk
    name: str  # of the plan's file
    plan: Plan
    known: dict[str, Plan]  # of the task, by digest

    def judge(self, entry: Entry, task: Task) -> None:
        """The plan must be the one that bench plan writes, and the entry's first, or a look after it."""
        plan, known = self.plan, self.known
        yardstick, after = (known.get(digest) if digest else None for digest in (plan.yardstick, plan.after))
        for key, digest, found in (("yardstick", plan.yardstick, yardstick), ("after", plan.after, after)):
            if digest and found is None:
                self.desk.add(self.name, key, f"the plan {digest[:16]} is not published")
                return
        if PLACEBO in plan.entry:
            self.desk.add(self.name, "entry", "is a placebo: what is measured of tuning noise is the board's, for all")
            return
        if after is not None and (after.rerun or after.adds_modes):
            what = "is a rerun" if after.rerun else "only adds modes"
            self.desk.add(self.name, "after", f"the plan {after.digest[:16]} {what}: name the one that it comes after")
        if plan.tuning.rung != task.budget.compared[0]:
            first = rung_name(task.budget.compared[0])
            self.desk.add(self.name, "tuning.rung", f"{rung_name(plan.tuning.rung)}, entries are tuned at {first}")
        try:
            wanted = self._wanted(entry, task, yardstick, after)
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

    def _wanted(self, entry: Entry, task: Task, yardstick: Plan | None, after: Plan | None) -> Plan:
        plan, then = self.plan, as_of(task, self.plan, self.known)
        if plan.adds_modes and after is not None:
            return add_modes(after, plan.modes, task.reference)
        if plan.adds_rungs and after is not None:
            return add_rungs(_chain(after, self.known), then) or after
        if plan.rerun and after is not None:
            return self._rerun(after)
        lent = None if entry.name == task.reference else yardstick
        return make_plan(plan.task, then, entry, plan.machine_kind, lent, 0, after, SEEDS, plan.modes)

    def _rerun(self, of: Plan) -> Plan:
        """Return the rerun that the commit it names draws; its party chose a rung, a track and how many seeds."""
        plan = self.plan
        assert plan.rerun is not None
        commits = published_by(self.desk.base, of)
        if commits is None:
            self.desk.remark(self.name, "rerun.merge", "is not checked: the clone has no whole history")
        elif plan.rerun.merge not in commits:
            self.desk.add(self.name, "rerun.merge", f"is no commit that published {of.digest[:16]} or records of it")
        rung, seeds = next(iter(plan.ladder.items()), (0.0, ()))
        return rerun_plan(of, plan.rerun.merge, plan.machine_kind, rung, plan.tracks[0], len(seeds))


def _chain(plan: Plan, known: dict[str, Plan]) -> list[Plan]:
    """Return a plan and those that it comes after, the first one first."""
    return [*(_chain(known[plan.after], known) if plan.after in known else []), plan]


def as_of(task: Task, plan: Plan, known: dict[str, Plan]) -> Task:
    """Return the task with the ladder that the plan was written for: without rungs that a later plan of it adds."""
    later = [p for p in known.values() if p.adds_rungs and p.digest != plan.digest and plan in _chain(p, known)]
    added = {rung for p in later for rung in p.ladder}
    rungs, compared = (tuple(r for r in held if r not in added) for held in (task.budget.rungs, task.budget.compared))
    return task.model_copy(update={"budget": task.budget.model_copy(update={"rungs": rungs, "compared": compared})})
