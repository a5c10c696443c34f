"""A plan: all runs that a claim will rest on, written and digested before the first of them (protocol B and D)."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field

from bench.digest import digest_of
from bench.entry import WARMUP, Entry, Range, Value
from bench.errors import BenchError
from bench.mode import FLOAT, read_mode
from bench.record import Digest, Track, write_atomically
from bench.spec import Spec, read_json
from bench.task import Task, rung_name

SCHEMA = 1
WARMUPS = (0.02, 0.1, 0.25, 0.5)  # fractions that every entry's search tries
TUNING_SEEDS = 1000  # the first seed of tuning; scoring seeds lie below
PLACEBO_SEEDS = 100  # between the tuning seeds of two placebos
PLACEBO = "@"  # adamw@2 is the second further tuning of adamw
LOOKS = 3  # at most (protocol D)
SEEDS_OF_YARDSTICK = 5  # a rung, but for 10 at 1x (protocol B)
MODE_LADDER = (0.25, 2.0)  # ends of the yardstick's ladder in a training mode; entries run the tuning rung (protocol E)
MODE_SEEDS = 3  # of each of its rungs: the first ones, so that every run has its twin in float


Seeds = Annotated[tuple[Annotated[int, Field(ge=0, lt=2**63)], ...], Field(max_length=100)]
ByRung = dict[Annotated[str, Field(pattern=r"^\d{1,4}(\.\d{1,6})?x$")], Seeds]  # as "0.5x"


class Tuning(Spec):
    """How many trials are made, of what (protocol B)."""

    rung: float  # where the search is made
    sweep: int  # learning rates a factor 2 apart around the declared default
    sobol: int  # points of a scrambled sequence over all dimensions
    seeds: tuple[int, ...]  # each trial is run with every one
    refined: tuple[float, ...]  # rungs at which every dimension is moved one step from the best; the yardstick's only
    scramble: int  # 0, or which placebo


class Rerun(Spec):
    """Where the seeds of a rerun come from: nobody could choose them."""

    of: Digest  # the plan whose tuned values are run again
    merge: Annotated[str, Field(pattern="^[0-9a-f]{40,64}$")]  # the commit that fixed the submission


class Plan(Spec):
    schema_version: int = Field(alias="schema")
    task: str
    task_digest: Digest
    entry: str  # with its number where it is a placebo
    algorithm: str  # folder of the entry
    entry_digest: Digest
    machine_kind: Digest
    fixed: dict[str, Value]
    space: dict[str, Range]  # by hyperparameter, the learning rate first
    warmups: tuple[float, ...]
    declared_warmup: float
    tuning: Tuning
    rungs: ByRung  # scoring seeds
    tracks: Annotated[tuple[Track, ...], Field(min_length=1)]
    modes: tuple[str, ...]
    yardstick: Digest | None  # the plan whose tuned values the rest and the transfer track take; None for its own
    after: Digest | None  # the plan that was looked at before this one was written
    look: Annotated[int, Field(ge=1, le=LOOKS)]
    control: bool = False  # measured and shown, and never ranked
    mode_rungs: ByRung = Field(default_factory=dict)  # seeds by rung in modes that train rounded
    rerun: Rerun | None = None  # by another party, after the submission was fixed
    adds_rungs: bool = False  # its rungs are those that the task's ladder was extended by, and it tunes no others

    @property
    def digest(self) -> str:
        return digest_of(self.model_dump(mode="json", by_alias=True, exclude_defaults=True))  # as before a field came

    @property
    def adds_modes(self) -> bool:
        """Whether it trains nothing in float, and adds its modes to the runs of the plan that it comes after."""
        return FLOAT not in self.modes

    @property
    def training_modes(self) -> tuple[str, ...]:
        """Those that train rounded."""
        return tuple(name for name in self.modes if name != FLOAT and read_mode(name).kind == "training")

    @property
    def after_modes(self) -> tuple[str, ...]:
        """Those of finished checkpoints: of every float run, on all tracks."""
        return tuple(name for name in self.modes if read_mode(name).kind == "after")

    def runs(self) -> Iterator[tuple[Track, str, float, int]]:
        """Yield track, mode, rung and seed of every run that trains; modes that round are run on the tuned track."""
        for track in self.tracks if FLOAT in self.modes else ():
            yield from ((track, FLOAT, rung, seed) for rung, seeds in sorted(self.ladder.items()) for seed in seeds)
        for mode in self.training_modes:
            rungs = sorted((float(name.removesuffix("x")), seeds) for name, seeds in self.mode_rungs.items())
            yield from (("tuned", mode, rung, seed) for rung, seeds in rungs for seed in seeds)

    @property
    def twin(self) -> str:
        """The entry's name on disk."""
        return self.entry.partition(PLACEBO)[0]

    @property
    def ladder(self) -> dict[float, tuple[int, ...]]:
        return {float(name.removesuffix("x")): seeds for name, seeds in self.rungs.items()}


def make_plan(
    task_name: str, task: Task, entry: Entry, machine_kind: str, yardstick: Plan | None, placebo: int = 0,
    after: Plan | None = None, seeds: int = 3, modes: Sequence[str] = (FLOAT,),
) -> Plan:  # fmt: skip
    """Return the plan of an entry, or of the yardstick, on a task, by the rules of the protocol and nothing else.

    after: the plan that was looked at, for further seeds. A placebo is there to measure tuning noise, in float alone.
    """
    if "lr" not in entry.facts.search:
        raise BenchError(f"{entry.path}: a plan needs [search.lr]", "an entry that has no learning rate is not tuned")
    own = entry.name == task.reference
    if not own and (yardstick is None or yardstick.task_digest != task.digest):
        other = "" if yardstick is None else f": those of the plan {yardstick.digest[:16]} are of another version of it"
        own_file = next(entry.path.parent.parent.glob(f"*/{task.reference}.toml"), f"<{task.reference}>")
        raise BenchError(
            f"{task_name}: the yardstick {task.reference} has no tuned values on this task{other}",
            f"tune it first: bench evaluate tasks/{task_name}.toml {own_file}",
        )
    if after is not None and after.look == LOOKS:
        raise BenchError(f"{task_name}: {entry.name} has had its {LOOKS} looks", "its next plan is of another version")
    if own and entry.facts.schedule.warmup_fraction not in WARMUPS:
        raise BenchError(
            f"{entry.path}: the yardstick's warm-up {entry.facts.schedule.warmup_fraction:g} is none of those searched",
            f"choose among {', '.join(f'{warmup:g}' for warmup in WARMUPS)}: its search moves from one to the next",
        )
    first = TUNING_SEEDS + placebo * PLACEBO_SEEDS
    compared = task.budget.compared
    modes = (FLOAT,) if placebo else tuple(modes)
    many = {rung: 10 if rung == 1 else SEEDS_OF_YARDSTICK for rung in task.budget.rungs}
    rungs = many if own else dict.fromkeys(compared, seeds)
    taken = max((seed for held in after.rungs.values() for seed in held), default=-1) + 1 if after else 0
    if own and after is not None:
        taken = max(many.values()) * after.look  # added rungs have fewer than 1x
    scoring = {rung_name(rung): tuple(range(taken, taken + count)) for rung, count in rungs.items()}
    tracks: tuple[Track, ...] = ("tuned", "transfer") if not own and entry.facts.transfer else ("tuned",)
    return Plan(
        schema=SCHEMA,
        task=task_name,
        task_digest=task.digest,
        entry=f"{entry.name}{PLACEBO}{placebo}" if placebo else entry.name,
        algorithm=entry.path.parent.name,
        entry_digest=entry.digest,
        machine_kind=machine_kind,
        fixed=held_values(entry),
        space={name: entry.facts.search[name] for name in ("lr", *sorted(set(entry.facts.search) - {"lr"}))},
        warmups=WARMUPS,
        declared_warmup=entry.facts.schedule.warmup_fraction,
        tuning=Tuning(
            rung=compared[0],
            sweep=6,
            sobol=32 if own else 6,
            seeds=(first, first + 1) if own else (first,),
            refined=tuple(rung for rung in task.budget.rungs if rung <= compared[0]) if own else (),
            scramble=placebo,
        ),
        rungs=scoring,
        tracks=("tuned",) if placebo else tracks,
        modes=modes,
        yardstick=None if yardstick is None else yardstick.digest,
        after=None if after is None else after.digest,
        look=1 if after is None else after.look + 1,
        control=(entry.facts.control or entry.facts.controls_batch) and not own,
        mode_rungs=_mode_rungs(scoring, own, compared[0], modes),
    )


def held_values(entry: Entry) -> dict[str, Value]:
    """Return what a search leaves as it is: fixed values, and a wrapped entry's that the wrapper does not search."""
    return {name: value for name, value in entry.defaults.items() if name not in entry.facts.search and name != WARMUP}


def moved_values(plan: Plan, entry: Entry) -> list[str]:
    """Return the names whose value or range is not the plan's any more; the entry's digest holds neither."""
    then = {**plan.fixed, **plan.space, WARMUP: plan.declared_warmup}
    now = {**held_values(entry), **entry.facts.search, WARMUP: entry.facts.schedule.warmup_fraction}
    return sorted(name for name in {*then, *now} if then.get(name) != now.get(name))


def refuse_moved(plan: Plan, entry: Entry) -> None:
    """Refuse a plan whose entry has other values or ranges by now."""
    if moved := moved_values(plan, entry):
        raise BenchError(
            f"{entry.path}: {', '.join(moved)} changed since the plan {plan.digest[:16]} was written",
            "restore what the plan says; other values or ranges are another variant's: give its TOML another name",
        )


def _mode_rungs(
    scoring: Mapping[str, Sequence[int]], own: bool, rung: float, modes: Sequence[str]
) -> dict[str, tuple[int, ...]]:
    """Return rungs and seeds of runs that train rounded; none where no mode does."""
    low, high = MODE_LADDER if own else (rung, rung)
    if not any(name != FLOAT and read_mode(name).kind == "training" for name in modes):
        return {}
    chosen = {name: seeds for name, seeds in scoring.items() if low <= float(name.removesuffix("x")) <= high}
    return {name: tuple(seeds[:MODE_SEEDS]) for name, seeds in chosen.items()}


def add_modes(plan: Plan, modes: Sequence[str], reference: str) -> Plan:
    """Return the plan that adds modes to the runs of another. Its seeds are known, so it is no further look."""
    own, names = plan.entry == reference, tuple(modes)
    return plan.model_copy(
        update={
            "modes": names, "after": plan.digest, "adds_rungs": False,
            "mode_rungs": _mode_rungs(plan.rungs, own, plan.tuning.rung, names),
        }
    )  # fmt: skip


def add_rungs(plans: Sequence[Plan], task: Task) -> Plan | None:
    """Return the plan that runs what an entry's ladder was extended by; None where its plans have all of it.

    plans: of one entry, first look first. It comes after the last of them that trains in float, has as many seeds as
    they have together, and is no look: nothing was seen of its rungs. Modes that train rounded stay at theirs.
    """
    floats = [plan for plan in plans if not plan.adds_modes]
    last, own = floats[-1], floats[-1].entry == task.reference
    there = {rung for plan in floats for rung in plan.ladder}
    missing = [rung for rung in (task.budget.rungs if own else task.budget.compared) if rung not in there]
    if not missing:
        return None
    tuned_at = rung_name(last.tuning.rung)
    seeds = sorted({seed for plan in floats for seed in plan.rungs.get(tuned_at, ())})
    scoring = {rung_name(rung): tuple(seeds[:SEEDS_OF_YARDSTICK] if own else seeds) for rung in missing}
    refined = {*last.tuning.refined, *(rung for rung in missing if own and rung <= last.tuning.rung)}
    tuning = last.tuning.model_copy(update={"refined": tuple(sorted(refined))})
    modes = (FLOAT, *last.after_modes)
    update = {"tuning": tuning, "rungs": scoring, "modes": modes, "mode_rungs": {}, "after": last.digest}
    return last.model_copy(update={**update, "adds_rungs": True})


def plan_path(folder: Path, plan: Plan) -> Path:
    return folder / plan.task / f"{plan.entry}-{plan.digest[:16]}.json"


def write_plan(folder: Path, plan: Plan) -> Path:
    path = plan_path(folder, plan)
    if not path.exists():
        write_atomically(path, (plan.model_dump_json(indent=1, by_alias=True, exclude_defaults=True) + "\n").encode())
    return path


def read_plan(path: Path) -> Plan:
    """Return the plan; one that was changed after it was written is refused."""
    plan = read_json(path, Plan)
    if not path.stem.endswith(plan.digest[:16]):
        raise BenchError(
            f"{path}: the plan was changed after it was written (its digest does not fit its name)",
            "restore it from version control; a changed plan is a new one: bench plan",
        )
    return plan


def find_plans(folder: Path, task: str, entry: str) -> list[Plan]:
    """Return the plans of an entry on a task, first look first, each before those that add modes to it; no reruns."""
    return [plan for plan in all_plans(folder, task) if plan.entry == entry and plan.rerun is None]


def all_plans(folder: Path, task: str) -> list[Plan]:
    """Return every plan of a task, by entry and look, each after the one that it comes after, added modes last."""
    plans = [read_plan(path) for path in sorted((folder / task).glob("*.json"))]
    there = {plan.digest: plan for plan in plans}

    def depth(plan: Plan) -> int:
        return 1 + depth(there[plan.after]) if plan.after in there else 0

    return sorted(plans, key=lambda plan: (plan.entry, plan.look, plan.adds_modes, depth(plan), plan.modes))


def plans_before(plan: Plan, plans: Path) -> list[Plan]:
    """Return the plans that this one comes after, the first one first."""
    if plan.after is None:
        return []
    there = {other.digest: other for other in find_plans(plans, plan.task, plan.entry)}
    if plan.after not in there:
        raise BenchError(f"{plans}: the plan {plan.after[:16]} is not here, and {plan.digest[:16]} comes after it")
    return [*plans_before(there[plan.after], plans), there[plan.after]]


def look_at(entry: str, task_name: str, task: Task, plans: Path) -> int:
    """Return the look that an entry's plans of this version of a task are at: 1 where nothing was added after one."""
    mine = [plan for plan in find_plans(plans, task_name, entry) if plan.task_digest == task.digest]
    return max((plan.look for plan in mine), default=1)


def space_of(plan: Plan) -> tuple[str, ...]:
    """Return the names of the search's dimensions: the learning rate, the others, the warm-up."""
    return (*plan.space, WARMUP)
