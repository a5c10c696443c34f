"""The trials of a ledger: each charged for what it trained on, each once, each named by the digest of its inputs."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from bench.entry import BATCH, MODE, Value
from bench.ledger import Trial
from bench.mode import FLOAT, read_mode
from bench.plan import Plan
from bench.record import Inputs, Record
from bench.submission.values import Led
from bench.task import Task, rung_name
from bench.tuned import Tuned, lent_values, rest_of
from bench.tuning import FACTOR

NEAR = 1e-6  # relative, of charged tokens


@dataclass(frozen=True)
class Told:
    """What the inputs of a plan's trials follow from."""

    plan: Plan
    task: Task
    hybrid: bool  # part of the model is the harness's, at the yardstick's values
    probed: bool  # steps may take more than one pass
    led: Led | None
    yardstick: Tuned | None


def oddities(told: Told, trials: Iterable[Trial]) -> Iterator[tuple[int, str]]:
    """Yield (number of the trial, reason)."""
    chains: dict[str, str] = {}
    names: set[str] = set()
    for trial in trials:
        tokens = told.task.tokens(trial.rung)
        for run in trial.runs:
            finished = run.outcome == "finished"
            if finished and (run.select_loss is None or run.loss_chain is None):
                yield trial.number, "a finished run has a loss and a chain"
            if finished and run.loss_chain and chains.setdefault(run.loss_chain, run.run_id) != run.run_id:
                yield trial.number, "its chain of losses is another run's"
            if run.run_id in names:
                yield trial.number, "its run_id is another run's"
            names.add(run.run_id)
            low = tokens * (1 - NEAR) if finished else 0.0
            high = float("inf") if told.probed else tokens * (1 + NEAR)
            if not low <= run.charged_tokens <= high:
                yield trial.number, f"{run.charged_tokens:,.0f} charged tokens, {rung_name(trial.rung)} has {tokens:,}"


def unexplained(told: Told, trials: Iterable[Trial], records: Iterable[Record]) -> list[int]:
    """Return the trials whose run_id no version of the harness and of the mode that the plan's records have explains.

    A plan may outlive a version: trials made by one that left no record are honest, so this is a remark and no finding.
    """
    harnesses = {record.inputs.harness for record in records}
    digests: dict[str, set[str]] = {}
    for record in records:
        digests.setdefault(record.inputs.mode, {read_mode(record.inputs.mode).digest}).add(record.inputs.mode_digest)
    return [
        trial.number
        for trial in trials
        for run in trial.runs
        if harnesses and run.run_id not in _names(told, trial, run.seed, harnesses, digests)
    ]


def _names(told: Told, trial: Trial, seed: int, harnesses: set[str], digests: Mapping[str, set[str]]) -> Iterator[str]:
    plan, values = told.plan, dict(trial.values)
    batch, mode = values.pop(BATCH, None), str(values.pop(MODE, FLOAT))
    task = told.task if batch is None else told.task.with_batch(float(batch), trial.rung)
    added: dict[str, Value] = {}
    if told.hybrid and told.yardstick:
        added = {f"rest.{name}": value for name, value in rest_of(told.yardstick.at(trial.rung)).items()}
    if trial.stage == "transfer" and told.yardstick and told.led:
        table = told.led.transfer.get(rung_name(trial.rung), {})
        added |= {name: value for name, value in table.items() if name.startswith("transfer.")}  # type: ignore[misc]
        lent = lent_values(plan, told.yardstick.at(trial.rung))
        values = {**lent, "lr": float(lent["lr"]) * float(values[FACTOR])}
    for harness in sorted(harnesses):
        for digest in sorted(digests.get(mode, {read_mode(mode).digest})):
            yield Inputs(
                task=plan.task, task_digest=task.digest, entry=plan.entry, entry_digest=plan.entry_digest,
                values=dict(sorted({**values, **added}.items())), mode=mode, mode_digest=digest, budget=trial.rung,
                track="transfer" if trial.stage == "transfer" else "tuned", seed=seed, harness=harness,
                machine_kind=plan.machine_kind,
            ).run_id  # fmt: skip
