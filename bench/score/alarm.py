"""The undertuned-baseline alarm: a trial of the yardstick's own algorithm that beat it, and what five seeds of it say
(protocol B). A lowest of many is lucky: only the seeds tell."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from bench.digest import digest_of
from bench.entry import Value
from bench.index import IndexRow
from bench.ledger import Study
from bench.mode import FLOAT
from bench.plan import PLACEBO
from bench.record import Record
from bench.score.cells import Selection
from bench.score.statistics import pool
from bench.task import rung_name

ALARM = 2.0  # standard errors
SEEDS = 5  # that tell
UNJUDGED = ("transfer", "batch", "mode")  # stages that look at something else


@dataclass(frozen=True)
class Alarm:
    """A trial of the yardstick's own algorithm that did better than the yardstick, by the selecting loss."""

    entry: str
    entry_digest: str
    number: int  # of the trial, in its ledger
    rung: float
    values: dict[str, Value]
    loss: float
    yardstick: float  # its mean loss there
    error: float  # standard error of their difference


@dataclass(frozen=True)
class Verdict:
    """An alarm with what the scoring loss of further seeds at the trial's values says."""

    alarm: Alarm
    seeds: int
    gap: float | None = None  # nats that they end below the yardstick
    error: float | None = None  # its standard error

    @property
    def holds(self) -> bool | None:
        """Whether the yardstick is undertuned; None before there are enough seeds."""
        if self.gap is None or self.error is None or self.seeds < SEEDS:
            return None
        return self.gap > ALARM * self.error


def undertuned(
    studies: Iterable[Study], yardstick: Mapping[float, Sequence[float]], its_values: frozenset[str]
) -> list[Alarm]:
    """Return the trials that beat the yardstick by more than two standard errors at the same rung.

    studies: of the entries of the yardstick's algorithm, its own among them; yardstick: the selecting losses of its
    tuned runs, by rung; its_values: digests of its tuned values, whose own trials are no alarm. The noise is the
    yardstick's, pooled over rungs.
    """
    deviation = pool(yardstick.values()).deviation
    if deviation is None:
        return []
    alarms = []
    for study in studies:
        for trial in study.trials:
            seeds = yardstick.get(trial.rung, ())
            if trial.loss is None or trial.stage in UNJUDGED or not seeds or digest_of(trial.values) in its_values:
                continue
            mean = math.fsum(seeds) / len(seeds)
            error = deviation * math.sqrt(1 / len(trial.runs) + 1 / len(seeds))
            if mean - trial.loss > ALARM * error:
                whose = study.plan.entry, study.plan.entry_digest
                alarms.append(Alarm(*whose, trial.number, trial.rung, trial.values, trial.loss, mean, error))
    return alarms


def alarms_of(studies: Sequence[Study], chosen: Selection, reference: str) -> list[Alarm]:
    """Return the lowest trial of each rung and entry of the yardstick's algorithm that beats the yardstick.

    Controls do what the yardstick may not, as another schedule: their trials say nothing of its tuning.
    """
    algorithms = {study.plan.entry: study.plan.algorithm for study in studies}
    own = [study for study in studies if study.plan.algorithm == algorithms.get(reference)]
    family = [study for study in own if not study.plan.control or study.plan.entry == reference]
    theirs = _rows_of(chosen, reference)
    losses: dict[float, list[float]] = {}
    for row in theirs:
        if row.select_loss is not None:
            losses.setdefault(row.budget, []).append(row.select_loss)
    found = undertuned(family, losses, frozenset(row.values_digest for row in theirs))
    lowest = {(alarm.entry, alarm.rung): alarm for alarm in sorted(found, key=lambda alarm: -alarm.loss)}
    return [alarm for _, alarm in sorted(lowest.items())]


def judged(
    alarms: Iterable[Alarm],
    rows: Iterable[IndexRow],
    chosen: Selection,
    reference: str,
    read: Callable[[IndexRow], Record],
) -> list[Verdict]:
    """Return what the declared runs at an alarm's values say of it; the harness's own values (dotted) are left out.

    Only runs in float on the yardstick's kind of machine count: others' losses are not to be held against its own.
    """
    rows, theirs = list(rows), _rows_of(chosen, reference)
    by_rung: dict[float, list[float]] = {}
    for row in theirs:
        if row.score_loss is not None:
            by_rung.setdefault(row.budget, []).append(row.score_loss)
    deviation, task = pool(by_rung.values()).deviation, {row.task_digest for row in theirs}
    verdicts = []
    for alarm in alarms:
        losses = {
            row.seed: row.score_loss
            for row in rows
            if (row.entry, row.budget, row.track, row.mode)
            == (alarm.entry.partition(PLACEBO)[0], alarm.rung, "declared", FLOAT)
            and (row.entry_digest, row.machine_kind) == (alarm.entry_digest, chosen.machine_kinds[0])
            and row.task_digest in task
            and row.finished
            and row.score_loss is not None
            and _own(read(row)) == alarm.values
        }
        base = by_rung.get(alarm.rung, [])
        if not losses or not base or deviation is None:
            verdicts.append(Verdict(alarm, len(losses)))
            continue
        gap = math.fsum(base) / len(base) - math.fsum(losses.values()) / len(losses)
        error = deviation * math.sqrt(1 / len(losses) + 1 / len(base))
        verdicts.append(Verdict(alarm, len(losses), gap, error))
    return verdicts


def alarm_note(verdict: Verdict, reference: str) -> str:
    alarm = verdict.alarm
    trial = f"trial {alarm.number} of {alarm.entry} at {rung_name(alarm.rung)}"
    if verdict.holds is None or verdict.gap is None or verdict.error is None:
        by = (alarm.yardstick - alarm.loss) / alarm.error
        return (
            f"undertuned baseline? {trial} ended {by:.1f} standard errors below {reference}: "
            f"{SEEDS} seeds of it will tell (bench challenge)"
        )
    side, errors = "below" if verdict.gap > 0 else "above", abs(verdict.gap) / verdict.error
    return (
        f"{'' if verdict.holds else 'no '}undertuned baseline: {verdict.seeds} seeds of {trial} end "
        f"{abs(verdict.gap):.4f} nats {side} {reference}, {errors:.1f} standard errors"
    )


def _rows_of(chosen: Selection, reference: str) -> list[IndexRow]:
    return [row for (entry, _), rows in chosen.cells.items() if entry == reference for row in rows if row.finished]


def _own(record: Record) -> dict[str, Value]:
    return {name: value for name, value in record.inputs.values.items() if "." not in name}
