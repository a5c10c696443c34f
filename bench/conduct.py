"""A plan carried out: its trials into the ledger, the tuned values written, its ladder into records, their checkpoints
measured in the modes after training. It goes on from whatever is there: the ledger's lines, the records of its runs and
their child records, the checkpoints of those under way."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, cast

from filelock import FileLock, Timeout

from bench.children import quantized_path, read_quantized
from bench.entry import Entry
from bench.errors import BenchError
from bench.evaluate.finished import forget_all, uncrossed, unmeasured
from bench.index import IndexRow, load_index
from bench.jobs import Job, complete, make, steps_of
from bench.ledger import SEARCHES, Study, Trial, TrialRun, append, ledger_path, read_ledger
from bench.mode import FLOAT, read_mode
from bench.orders import Orders, Paths, Work, tuned_of
from bench.plan import Plan, plans_before, refuse_moved
from bench.record import Track, read_record
from bench.task import Task, rung_name
from bench.trials import State, state_after, state_of
from bench.tuned import ByMode, Cost, Tuned, by_mode, merged, read_tuned, tuned_path, write_tuned
from bench.tuning import Configuration


class Engine(Protocol):
    def map(self, function: Callable[[Job], Path], jobs: Sequence[Job]) -> Iterator[tuple[int, Path]]:
        """Yield (place of the job, result) as jobs end, in any order; each is done once."""
        ...


@dataclass
class Stand:
    """How far a plan is, for whoever looks on."""

    done: int = 0
    waiting: int = 0
    done_tokens: float = 0.0
    waiting_tokens: float = 0.0
    stage: str = ""
    best: float | None = None  # selecting loss of the search so far, nats
    last: str = ""
    failures: list[str] = field(default_factory=list)
    spoilt: list[str] = field(default_factory=list)  # modes that failed on a checkpoint, or in some of its layers


class Conductor:
    """Carries out one plan with one engine; report is called after every run."""

    def __init__(
        self, plan: Plan, task: Task, paths: Paths, engine: Engine, report: Callable[[Stand], None] = lambda stand: None
    ) -> None:
        self.plan, self.task, self.paths, self.engine, self.report = plan, task, paths, engine, report
        self.stand = Stand()
        self.orders = Orders(plan, paths, self._sized)
        self.ledger = ledger_path(paths.ledgers, plan)
        self.before = plans_before(plan, paths.plans)
        _check(plan, task, Entry(paths.entry))

    def evaluate(self) -> None:
        """Do all that is left of the plan: tune, then run the ladder of every track."""
        with self._claimed():
            self._tune()
            self._ladder()

    def tune(self) -> None:
        with self._claimed():
            self._tune()

    def ladder(self) -> None:
        with self._claimed():
            self._ladder()

    @contextmanager
    def _claimed(self) -> Iterator[None]:
        """Take the plan for this process: two engines on one plan would both append to its ledger."""
        path = self.ledger.with_name(f".{self.ledger.stem}.lock")
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path, timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise BenchError(f"the plan {self.plan.digest[:16]} is being carried out by another process") from None
        try:
            yield
        finally:
            lock.release()

    def _sized(self, work: Work, jobs: Sequence[Job]) -> list[Path]:
        """Have jobs measured that the scales of the transfer track rest on; of whole runs it is told."""
        if work is make:
            self._expect("levelling", jobs)
        found = {}
        for place, path in self.engine.map(work, jobs):
            found[place] = path
            if work is make:
                self._ran(jobs[place], read_record(path).outcome, None)
        return [found[place] for place in range(len(jobs))]

    def _trials(self) -> list[Trial]:
        return read_ledger(self.ledger, self.plan)

    def _state(self, trials: Sequence[Trial]) -> State:
        steps, ledgers = steps_of(self.task), self.paths.ledgers
        studies = {
            plan.digest: Study(plan, tuple(read_ledger(ledger_path(ledgers, plan), plan))) for plan in self.before
        }
        before = state_after(studies[self.plan.after], studies, steps) if self.plan.after else None
        return state_of(self.plan, steps, trials, str(self.ledger), before)

    def _tune(self) -> None:
        while True:
            trials = self._trials()
            state = self._state(trials)
            if not state.waiting:
                break
            self._run_trials(state.waiting, trials)
        self._write_tuned(state, trials)

    def _run_trials(self, waiting: Sequence[Configuration], trials: list[Trial]) -> None:
        """Run a batch and append its trials in their order, each as soon as those before it are there."""
        seeds = self.plan.tuning.seeds
        jobs = [self.orders.trial(wanted, seed) for wanted in waiting for seed in seeds]
        self._expect(waiting[0].stage, jobs)
        ended: dict[int, TrialRun] = {}
        written = 0
        for place, path in self.engine.map(make, jobs):
            ended[place] = trial_run(path)
            self._ran(jobs[place], ended[place].outcome, ended[place].select_loss)
            while written < len(waiting) and all(written * len(seeds) + i in ended for i in range(len(seeds))):
                wanted = waiting[written]
                runs = tuple(ended[written * len(seeds) + i] for i in range(len(seeds)))
                trials.append(append(self.ledger, self.plan, trials, wanted.stage, wanted.rung, wanted.values, runs))
                written += 1

    def _write_tuned(self, state: State, trials: list[Trial]) -> None:
        """Write what the ledger led to, beside what later plans have written, or add what this later one found."""
        path = tuned_path(self.paths.entry, self.plan.task, self.plan.entry)
        there = read_tuned(self.paths.entry, self.plan.task, self.plan.entry)
        found = by_mode({FLOAT: state.tuned or {}, **state.in_modes})
        if self.plan.after is not None:
            if trials and there is not None:
                added = {**there.added, self.plan.digest: trials[-1].digest}
                transfer = merged(there.transfer, self._lent_values()) if self.plan.adds_rungs else there.transfer
                both = {"tuned": merged(there.tuned, found), "transfer": transfer, "added": added}
                write_tuned(path, there.model_copy(update=both))
            return
        runs = [run for trial in trials for run in trial.runs]
        cost = Cost(
            trials=len(trials),
            charged_tokens=sum(run.charged_tokens for run in runs),
            train_seconds=round(sum(run.train_seconds for run in runs), 1),
        )
        same = there if there is not None and there.plan == self.plan.digest else None
        write_tuned(
            path,
            Tuned(
                plan=self.plan.digest, ledger=trials[-1].digest, cost=cost,
                tuned=merged(same.tuned if same else {}, found),
                transfer=merged(same.transfer if same else {}, self._lent_values()),
                added=same.added if same else {},
            ),
        )  # fmt: skip

    def _lent_values(self) -> ByMode:
        """Return what the transfer track runs at, with the harness's own values under dotted names."""
        if "transfer" not in self.plan.tracks:
            return {}
        found = {}
        for rung in sorted(self.plan.ladder):
            job = self.orders.transfer(rung, 0)
            scales = {f"transfer.{name}": value for name, value in (job.transfer or {}).items()}
            found[rung_name(rung)] = {**job.values, **scales}
        return {FLOAT: found}

    def _ladder(self) -> None:
        """Make the runs that have no record, each measured in the modes after training, then measure what is left.

        A record of another version of its mode stands for none: the run is made again under this one.
        """
        tuned = tuned_of(self.paths.entry, self.plan.task, self.plan.entry)
        self._check_tuned(tuned)
        digests = {name: read_mode(name).digest for name in self.plan.modes}
        done = {
            (row.track, row.mode, row.budget, row.seed)
            for row in self._records(self.plan)
            if row.mode_digest == digests.get(row.mode)
        }
        jobs = [
            self.orders.transfer(rung, seed)
            if track == "transfer"
            else self.orders.run(track, rung, seed, tuned.at(rung, mode), mode)
            for track, mode, rung, seed in self.plan.runs()
            if (track, mode, rung, seed) not in done
        ]
        after = self.plan.after_modes
        self._complete("ladder", [replace(job, after=after) if job.mode == FLOAT else job for job in jobs])
        self._complete("modes", list(self._to_measure()) if after else [])

    def _complete(self, stage: str, jobs: Sequence[Job]) -> None:
        self._expect(stage, jobs)
        for place, path in self.engine.map(complete, jobs):
            record = read_record(path)
            self._ran(jobs[place], record.outcome, record.score_loss)
            child = quantized_path(path)
            spoilt = read_quantized(child).spoilt(jobs[place].after) if child.exists() else []
            self.stand.spoilt += [f"{jobs[place]}: {line}" for line in spoilt]

    def _to_measure(self) -> Iterator[Job]:
        """Yield a job for each finished float run that lacks a mode; the weights of the others are needed no more."""
        measured = self.before[-1] if self.plan.adds_modes else self.plan
        rows = [row for row in self._records(measured) if row.mode == FLOAT]
        missing = set(measured.runs()) - {(row.track, row.mode, row.budget, row.seed) for row in rows}
        if missing := {run for run in missing if run[1] == FLOAT}:
            raise BenchError(
                f"the plan {self.plan.digest[:16]} adds modes to {measured.digest[:16]}, of which {len(missing)} runs "
                "have no record", "carry that one out first: bench evaluate",
            )  # fmt: skip
        after, places = self.plan.after_modes, self.paths.places
        for row in rows:
            path = Path(row.path)
            if not row.finished:
                continue
            if unmeasured(path, after) or uncrossed(path, self.task, after):
                job = self.orders.run("tuned", row.budget, row.seed, {})
                yield replace(job, track=cast(Track, row.track), record=path, after=after)
            elif places.weights is not None:
                forget_all(path, self.task, places.weights)

    def _check_tuned(self, tuned: Tuned) -> None:
        """Refuse tuned values that are not what the ledgers lead to."""
        trials = self._trials()
        state = self._state(trials)
        if state.waiting:
            raise BenchError(f"{self.plan.entry} is not tuned on {self.plan.task}", "bench tune comes first")
        last = tuned.ledger if self.plan.after is None else tuned.added.get(self.plan.digest)
        led = by_mode({FLOAT: state.tuned or {}, **state.in_modes})
        there = {mode: {rung: tuned.tuned.get(mode, {}).get(rung) for rung in led[mode]} for mode in led}
        if (trials and last != trials[-1].digest) or there != led:
            raise BenchError(
                f"{tuned_path(self.paths.entry, self.plan.task, self.plan.entry)}: not what {self.ledger} leads to",
                "bench tune writes it again",
            )

    def _records(self, plan: Plan) -> list[IndexRow]:
        """Return a plan's records that stand, whichever version of the harness made them."""
        folder = self.paths.places.records / plan.task / plan.digest[:16]
        rows = load_index([folder], None) if folder.exists() else []
        for row in rows:
            if row.entry_digest != plan.entry_digest or row.task_digest != plan.task_digest:
                raise BenchError(f"{row.path}: is not of this plan", "remove it, or restore the plan's folder")
        return rows

    def _expect(self, stage: str, jobs: Sequence[Job]) -> None:
        self.stand.stage, self.stand.waiting = stage, len(jobs)
        self.stand.waiting_tokens = sum(self._tokens(job) for job in jobs)
        self.report(self.stand)

    def _tokens(self, job: Job) -> float:
        """Return what a job trains on; to measure a checkpoint takes none."""
        return float(self.task.tokens(job.rung)) if job.record is None else 0.0

    def _ran(self, job: Job, outcome: str, loss: float | None) -> None:
        stand, tokens = self.stand, self._tokens(job)
        stand.done, stand.waiting = stand.done + 1, stand.waiting - 1
        stand.done_tokens, stand.waiting_tokens = stand.done_tokens + tokens, stand.waiting_tokens - tokens
        if job.record is not None:
            stand.last = f"{job}: measured in {len(job.after)} modes"
        else:
            stand.last = f"{job}: {outcome}" + ("" if loss is None else f" {loss:.4f}")
            if outcome != "finished":
                stand.failures.append(stand.last)
            elif stand.stage in SEARCHES and job.rung == self.plan.tuning.rung and loss is not None:
                stand.best = loss if stand.best is None else min(stand.best, loss)
        self.report(stand)


def _check(plan: Plan, task: Task, entry: Entry) -> None:
    for what, now, then in (("task", task.digest, plan.task_digest), ("entry", entry.digest, plan.entry_digest)):
        if now != then:
            raise BenchError(
                f"the {what} has changed since the plan {plan.digest[:16]} was written",
                "check out the version the plan was written with, or write a new plan",
            )
    refuse_moved(plan, entry)


def trial_run(path: Path) -> TrialRun:
    """Return what a ledger says of a trial's run."""
    record = read_record(path)
    machine = record.machine
    return TrialRun(
        seed=record.inputs.seed, run_id=record.run_id, outcome=record.outcome, select_loss=record.select_loss,
        charged_tokens=record.charged_tokens, train_seconds=record.cost.train_seconds, loss_chain=record.chains.loss,
        stand_in=machine.processor if machine.stands_for else None,
    )  # fmt: skip
