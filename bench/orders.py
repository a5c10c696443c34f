"""A plan's runs written down as jobs: with which values, on which track, and with what the yardstick lends."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from bench.assemble import Transfer
from bench.entry import BATCH, MODE, Entry, Value
from bench.errors import BenchError
from bench.jobs import Job, make, pilot, read_sizes
from bench.mode import FLOAT
from bench.plan import PLACEBO, Plan
from bench.record import Track, read_record, write_atomically
from bench.setting import Places
from bench.spec import Spec, read_json
from bench.task import rung_name
from bench.tuned import Tuned, lent_values, read_tuned, rest_of
from bench.tuning import DECAY, FACTOR, Configuration

Work = Callable[[Job], Path]  # what is done of a job


class Scales(Spec):
    """What the transfer track's updates are scaled by at a rung: the yardstick's decay, and a factor by shape."""

    scales: Transfer


def scales_path(work: Path, plan: Plan, rung: float) -> Path:
    return work / "scales" / f"{plan.digest[:16]}-{rung_name(rung)}.json"


@dataclass(frozen=True)
class Paths:
    """Where a plan's parts lie."""

    task: Path
    entry: Path
    yardstick: Path  # TOML of the task's reference
    plans: Path
    ledgers: Path
    places: Places  # its records are the published ones; trials leave theirs in the work folder


class Orders:
    """Says what each run of a plan is; done has jobs measured, by pilot or make, and returns their files in order."""

    def __init__(self, plan: Plan, paths: Paths, done: Callable[[Work, Sequence[Job]], list[Path]]) -> None:
        self.plan, self.paths, self._done = plan, paths, done
        self._scales: dict[float, Transfer] = {}

    def trial(self, wanted: Configuration, seed: int) -> Job:
        """Return a trial's run, whose record stays in the work folder: the ledger is what is published of it."""
        values = dict(wanted.values)
        if wanted.stage == "transfer":
            job = self.transfer(wanted.rung, seed, _number(values[FACTOR]))
        else:
            batch, mode = _number(values.pop(BATCH, 1.0)), str(values.pop(MODE, FLOAT))
            job = replace(self.run("tuned", wanted.rung, seed, values, mode), batch_factor=batch)
        return _unpublished(job)

    def run(self, track: Track, rung: float, seed: int, values: dict[str, Value], mode: str = FLOAT) -> Job:
        """Return a scored run. A placebo is measured in no mode, now or later, so none of its weights are kept."""
        places = replace(self.paths.places, weights=None) if PLACEBO in self.plan.entry else self.paths.places
        return Job(
            task=self.paths.task, entry=self.paths.entry, name=self.plan.entry, values=values, rung=rung, seed=seed,
            track=track, mode=mode, plan=self.plan.digest, machine_kind=self.plan.machine_kind,
            task_digest=self.plan.task_digest, entry_digest=self.plan.entry_digest, places=places,
            rest=None if self.plan.yardstick is None else rest_of(self._yardstick.at(rung)),
        )  # fmt: skip

    def transfer(self, rung: float, seed: int, factor: float = 1.0) -> Job:
        """Return a run at the yardstick's learning rate, warm-up and decay, its steps scaled to the size of those."""
        values = self._lent(rung)
        job = self.run("transfer", rung, seed, {**values, "lr": _number(values["lr"]) * factor})
        return replace(job, transfer=self._scaled(rung))

    def _lent(self, rung: float) -> dict[str, Value]:
        return lent_values(self.plan, self._yardstick.at(rung))

    def _scaled(self, rung: float) -> Transfer:
        """Return the yardstick's decay, and by shape what updates are scaled by; 1 where none was measured. A ladder
        goes on at what it began with, whatever would be measured today."""
        if rung not in self._scales:
            self._scales[rung] = self._written(rung) or self._kept(rung)
        return self._scales[rung]

    def _kept(self, rung: float) -> Transfer:
        """Return the scales from their file in the work folder, measured where there is none yet: tuned values are
        written after the last trial, and a plan may be stopped long before."""
        path = scales_path(self.paths.places.work, self.plan, rung)
        if not path.exists():
            write_atomically(path, Scales(scales=self._measured(rung)).model_dump_json().encode())
        return read_json(path, Scales).scales

    def _written(self, rung: float) -> Transfer:
        """Return the scales that the plan's tuned values have, or none."""
        tuned = read_tuned(self.paths.entry, self.plan.task, self.plan.entry)
        if tuned is None or (self.plan.after is None and tuned.plan != self.plan.digest):
            return {}
        values, home = tuned.transfer.get(FLOAT, {}).get(rung_name(rung), {}), "transfer."
        return {name.removeprefix(home): _number(v) for name, v in values.items() if name.startswith(home)}

    def _measured(self, rung: float) -> Transfer:
        """Return the scales that give the entry's steps the yardstick's size, measured at a seed of the trials.

        Pilots of both tell the shapes apart. They see a run's first steps, and those of one method shrink as it goes on
        where another's do not; so whole runs of both then say by how much all scales are off.
        """
        theirs, seed = self._yardstick.at(rung), self.plan.tuning.seeds[0]
        decay = {DECAY: _number(theirs[DECAY])}
        mine = _unpublished(replace(self.run("transfer", rung, seed, self._lent(rung)), transfer=decay))
        reference = replace(
            mine, entry=self.paths.yardstick, name=self.paths.yardstick.stem, values=theirs, rest=None,
            entry_digest=Entry(self.paths.yardstick).digest, plan=self._yardstick.plan,
        )  # fmt: skip
        own, wanted = map(read_sizes, self._done(pilot, [mine, reference]))
        scales = {shape: wanted[shape] / size for shape, size in own.items() if size > 0 and shape in wanted}
        if scales:
            whole = replace(mine, transfer={**decay, **_rounded(scales)})
            level = _level(*self._done(make, [whole, reference]))
            scales = {shape: scale * level for shape, scale in scales.items()}
        return {**decay, **_rounded(scales)}

    @cached_property
    def _yardstick(self) -> Tuned:
        found = tuned_of(self.paths.yardstick, self.plan.task, self.paths.yardstick.stem)
        if found.plan != self.plan.yardstick:
            raise BenchError(
                f"the yardstick was tuned anew (plan {found.plan[:16]}) after this plan was written",
                "write a new plan: bench plan",
            )
        return found


def tuned_of(entry: Path, task: str, name: str) -> Tuned:
    found = read_tuned(entry, task, name)
    if found is None:
        raise BenchError(f"{name} has no tuned values on {task}", f"bench tune tasks/{task}.toml")
    return found


def _level(mine: Path, theirs: Path) -> float:
    """Return the size of the yardstick's steps over the entry's, in hidden matrices, by the records of whole runs.

    1 where the entry's did not come to its end, as the runs at these scales will say. What ran out of memory tells of
    the machine, and no scale may depend on it.
    """
    runs = read_record(mine), read_record(theirs)
    for path, run in zip((mine, theirs), runs, strict=True):
        if run.outcome == "out-of-memory" or (path == theirs and run.outcome != "finished"):
            raise BenchError(
                f"{path}: ended as {run.outcome}, and the scales of the transfer track rest on it",
                "remove it and call this again, with fewer runs side by side where memory ran out: --workers",
            )
    size, aim = (run.facts.update_rms.get("hidden") for run in runs)
    return aim / size if runs[0].outcome == "finished" and size and aim else 1.0


def _unpublished(job: Job) -> Job:
    """Return the job with its record among the trials', in the work folder."""
    return replace(job, places=replace(job.places, records=job.places.work / "trials", weights=None))


def _rounded(scales: Transfer) -> Transfer:
    return {shape: float(f"{scale:.6g}") for shape, scale in scales.items()}


def _number(value: Value) -> float:
    assert isinstance(value, float | int)
    return float(value)
