"""A plan carried out: its trials into the ledger, the tuned values written, its ladder into records. It goes on from
whatever is there: the ledger's lines, the records of its runs, the checkpoints of those under way."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from filelock import FileLock, Timeout

from bench.entry import Entry, Value
from bench.errors import BenchError
from bench.index import IndexRow, load_index
from bench.jobs import Job, make, pilot, steps_of
from bench.ledger import Trial, TrialRun, append, ledger_path, read_ledger
from bench.orders import Orders, Paths, tuned_of
from bench.plan import Plan
from bench.record import read_record
from bench.task import Task, rung_name
from bench.tuned import Cost, Tuned, tuned_path, write_tuned
from bench.tuning import Configuration, state_of


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
    best: float | None = None
    last: str = ""
    failures: list[str] = field(default_factory=list)


class Conductor:
    """Carries out one plan with one engine; report is called after every run."""

    def __init__(
        self, plan: Plan, task: Task, paths: Paths, engine: Engine, report: Callable[[Stand], None] = lambda stand: None
    ) -> None:
        self.plan, self.task, self.paths, self.engine, self.report = plan, task, paths, engine, report
        self.stand = Stand()
        self.orders = Orders(plan, paths, lambda jobs: dict(engine.map(pilot, jobs)))
        self.ledger = ledger_path(paths.ledgers, plan)
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

    def _claimed(self) -> FileLock:
        """Take the plan for this process: two engines on one plan would both append to its ledger."""
        path = self.ledger.with_name(f".{self.ledger.stem}.lock")
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path, timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise BenchError(f"the plan {self.plan.digest[:16]} is being carried out by another process") from None
        return lock

    def _trials(self) -> list[Trial]:
        return read_ledger(self.ledger, self.plan)

    def _tune(self) -> None:
        if self.plan.after is not None:  # further seeds, at the values that were looked at
            return
        steps = steps_of(self.task)
        while True:
            trials = self._trials()
            state = state_of(self.plan, steps, trials, str(self.ledger))
            if state.tuned is not None:
                break
            self._run_trials(state.waiting, trials)
        self._write_tuned(state.tuned, trials)

    def _run_trials(self, waiting: Sequence[Configuration], trials: list[Trial]) -> None:
        """Run a batch and append its trials in their order, each as soon as those before it are there."""
        seeds = self.plan.tuning.seeds
        jobs = [self.orders.trial(wanted, seed) for wanted in waiting for seed in seeds]
        self._expect(waiting[0].stage, jobs)
        ended: dict[int, TrialRun] = {}
        written = 0
        for place, path in self.engine.map(make, jobs):
            ended[place] = _trial_run(path)
            self._ran(jobs[place], ended[place].outcome, ended[place].select_loss)
            while written < len(waiting) and all(written * len(seeds) + i in ended for i in range(len(seeds))):
                wanted = waiting[written]
                runs = tuple(ended[written * len(seeds) + i] for i in range(len(seeds)))
                trials.append(append(self.ledger, self.plan, trials, wanted.stage, wanted.rung, wanted.values, runs))
                written += 1

    def _write_tuned(self, tuned: dict[float, dict[str, Value]], trials: list[Trial]) -> None:
        runs = [run for trial in trials for run in trial.runs]
        cost = Cost(
            trials=len(trials),
            charged_tokens=sum(run.charged_tokens for run in runs),
            train_seconds=round(sum(run.train_seconds for run in runs), 1),
        )
        transfer = {}
        if "transfer" in self.plan.tracks:
            jobs = {rung: self.orders.transfer(rung, 0) for rung in sorted(self.plan.ladder)}
            for rung, job in jobs.items():
                scales = {f"transfer.{name}": value for name, value in (job.transfer or {}).items()}
                transfer[rung_name(rung)] = {**job.values, **scales}
        write_tuned(
            tuned_path(self.paths.entry, self.plan.task, self.plan.entry),
            Tuned(
                plan=self.plan.digest, ledger=trials[-1].digest, cost=cost,
                tuned={"bf16": {rung_name(rung): values for rung, values in sorted(tuned.items())}},
                transfer={"bf16": transfer} if transfer else {},
            ),
        )  # fmt: skip

    def _ladder(self) -> None:
        tuned = tuned_of(self.paths.entry, self.plan.task, self.plan.entry)
        self._check_tuned(tuned)
        jobs = [
            self.orders.run("tuned", rung, seed, tuned.at(rung))
            if track == "tuned"
            else self.orders.transfer(rung, seed)
            for track in self.plan.tracks
            for rung, seeds in sorted(self.plan.ladder.items())
            for seed in seeds
        ]
        done = {_key(row.track, row.budget, row.seed) for row in self._records()}
        jobs = [job for job in jobs if _key(job.track, job.rung, job.seed) not in done]
        self._expect("ladder", jobs)
        for place, path in self.engine.map(make, jobs):
            record = read_record(path)
            self._ran(jobs[place], record.outcome, record.score_loss)

    def _check_tuned(self, tuned: Tuned) -> None:
        """Refuse tuned values that are not what the ledger leads to."""
        if self.plan.after is not None:
            return
        trials = self._trials()
        led = state_of(self.plan, steps_of(self.task), trials, str(self.ledger)).tuned
        if led is None:
            raise BenchError(f"{self.plan.entry} is not tuned on {self.plan.task}", "bench tune comes first")
        if tuned.ledger != trials[-1].digest or any(tuned.at(rung) != values for rung, values in led.items()):
            raise BenchError(
                f"{tuned_path(self.paths.entry, self.plan.task, self.plan.entry)}: not what {self.ledger} leads to",
                "bench tune writes it again",
            )

    def _records(self) -> list[IndexRow]:
        """Return the plan's records that stand, whichever version of the harness made them."""
        folder = self.paths.places.records / self.plan.task / self.plan.digest[:16]
        rows = load_index([folder], None) if folder.exists() else []
        for row in rows:
            if row.entry_digest != self.plan.entry_digest or row.task_digest != self.plan.task_digest:
                raise BenchError(f"{row.path}: is not of this plan", "remove it, or restore the plan's folder")
        return rows

    def _expect(self, stage: str, jobs: Sequence[Job]) -> None:
        self.stand.stage, self.stand.waiting = stage, len(jobs)
        self.stand.waiting_tokens = float(sum(self.task.tokens(job.rung) for job in jobs))
        self.report(self.stand)

    def _ran(self, job: Job, outcome: str, loss: float | None) -> None:
        stand, tokens = self.stand, float(self.task.tokens(job.rung))
        stand.done, stand.waiting = stand.done + 1, stand.waiting - 1
        stand.done_tokens, stand.waiting_tokens = stand.done_tokens + tokens, stand.waiting_tokens - tokens
        stand.last = f"{job}: {outcome}" + ("" if loss is None else f" {loss:.4f}")
        if outcome != "finished":
            stand.failures.append(stand.last)
        elif job.rung == self.plan.tuning.rung and loss is not None:
            stand.best = loss if stand.best is None else min(stand.best, loss)
        self.report(stand)


def _check(plan: Plan, task: Task, entry: Entry) -> None:
    for what, now, then in (("task", task.digest, plan.task_digest), ("entry", entry.digest, plan.entry_digest)):
        if now != then:
            raise BenchError(
                f"the {what} has changed since the plan {plan.digest[:16]} was written",
                "check out the version the plan was written with, or write a new plan",
            )


def _trial_run(path: Path) -> TrialRun:
    record = read_record(path)
    return TrialRun(
        seed=record.inputs.seed, run_id=record.run_id, outcome=record.outcome, select_loss=record.select_loss,
        charged_tokens=record.charged_tokens, train_seconds=record.cost.train_seconds, loss_chain=record.chains.loss,
    )  # fmt: skip


def _key(track: str, rung: float, seed: int) -> tuple[str, float, int]:
    return track, rung, seed
