"""Everything that did not finish, with its cause: runs and tuning trials. Nothing is imputed, and nothing is hidden."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from bench.ledger import Stage, TrialRun
from bench.pages.shell import Page
from bench.pages.views import Material
from bench.record import Record


@dataclass(frozen=True)
class Rate:
    """How often an entry's runs and trials on a task did not finish."""

    entry: str
    task: str
    runs: int
    failed: int
    trial_runs: int
    failed_trial_runs: int
    outcomes: str  # of both, "2 diverged, 1 crashed"

    @property
    def share(self) -> float | None:
        return self.failed / self.runs if self.runs else None

    @property
    def trial_share(self) -> float | None:
        return self.failed_trial_runs / self.trial_runs if self.trial_runs else None


@dataclass(frozen=True)
class TrialOf:
    """One seed of a trial."""

    entry: str
    task: str
    number: int
    stage: Stage
    rung: float
    lr: float | None
    run: TrialRun


@dataclass(frozen=True)
class FailuresView:
    runs: int
    trial_runs: int
    rates: tuple[Rate, ...]  # entries with a failure, most failing first
    failed: tuple[Record, ...]
    trials: tuple[TrialOf, ...]


def failure_pages(material: Material) -> list[Page]:
    return [Page("failures.html", "failures.html", {"view": failures_view(material)})]


def failures_view(material: Material) -> FailuresView:
    failed = [record for record in material.records if record.outcome != "finished"]
    tried = list(_trials(material))
    rates = [rate for rate in _rates(material, tried) if rate.failed or rate.failed_trial_runs]
    rates.sort(key=lambda rate: (-(rate.share or 0.0), -(rate.trial_share or 0.0), rate.entry, rate.task))
    return FailuresView(
        runs=len(material.records),
        trial_runs=len(tried),
        rates=tuple(rates),
        failed=tuple(sorted(failed, key=lambda record: (record.task, record.entry, record.inputs.budget,
                                                        record.inputs.seed, record.run_id))),
        trials=tuple(trial for trial in tried if trial.run.outcome != "finished"),
    )  # fmt: skip


def _trials(material: Material) -> Iterator[TrialOf]:
    """Yield every run of every trial; one that stands in the ledgers of two looks counts once."""
    for task, studies in sorted(material.studies.items()):
        seen = set()
        for study in studies:
            for trial in study.trials:
                lr = trial.values.get("lr")
                rate = float(lr) if isinstance(lr, int | float) else None
                for run in trial.runs:
                    if (study.plan.entry, run.run_id) not in seen:
                        seen.add((study.plan.entry, run.run_id))
                        yield TrialOf(study.plan.entry, task, trial.number, trial.stage, trial.rung, rate, run)


def _rates(material: Material, tried: list[TrialOf]) -> Iterator[Rate]:
    runs = Counter((record.entry, record.task) for record in material.records)
    outcomes: dict[tuple[str, str], Counter[str]] = {}
    failed: Counter[tuple[str, str]] = Counter()
    for record in material.records:
        if record.outcome != "finished":
            failed[record.entry, record.task] += 1
            outcomes.setdefault((record.entry, record.task), Counter())[record.outcome] += 1
    trials, lost = Counter((trial.entry, trial.task) for trial in tried), Counter[tuple[str, str]]()
    for trial in tried:
        if trial.run.outcome != "finished":
            lost[trial.entry, trial.task] += 1
            outcomes.setdefault((trial.entry, trial.task), Counter())[trial.run.outcome] += 1
    for key in sorted(runs.keys() | trials.keys()):
        said = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.get(key, Counter()).items()))
        yield Rate(*key, runs[key], failed[key], trials[key], lost[key], said)
