"""The ledger: every tuning trial of a plan, failed ones too, one JSON line each, chained by digest, append-only."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from bench.digest import digest_of
from bench.entry import Value
from bench.errors import BenchError
from bench.plan import Plan, all_plans
from bench.record import Digest, Loss, Outcome
from bench.spec import Spec, parse_json, read_text, validate

Stage = Literal["sweep", "sobol", "refine", "rung", "transfer", "batch", "mode"]
SEARCHES = ("sweep", "sobol", "refine")  # choose among values, at one rung and batch; their selecting losses compare
SEARCHED = (*SEARCHES, "rung")  # lead to an entry's tuned values in float


class TrialRun(Spec):
    """One seed of a trial."""

    seed: int
    run_id: Digest
    outcome: Outcome
    select_loss: Loss  # nats per token on the selecting half: what tuning is judged by
    charged_tokens: float
    train_seconds: float
    loss_chain: Digest | None
    stand_in: str | None = None  # the processor that made it, where it counts as another (bench.standin)


class Trial(Spec):
    """One line. Its stage, rung and values are what the plan asks for at this place, or the ledger is refused."""

    number: int
    stage: Stage
    rung: float
    values: dict[str, Value]
    runs: tuple[TrialRun, ...]
    before: Digest  # of the line before; of the plan for the first
    digest: Digest  # of all of the above

    @property
    def loss(self) -> float | None:
        """The mean selecting loss over seeds; None where a seed did not finish."""
        losses = [run.select_loss for run in self.runs if run.outcome == "finished"]
        finished = [loss for loss in losses if loss is not None]
        return sum(finished) / len(finished) if finished and len(finished) == len(self.runs) else None


@dataclass(frozen=True)
class Study:
    """A plan with what its ledger holds so far."""

    plan: Plan
    trials: tuple[Trial, ...]


def ledger_path(folder: Path, plan: Plan) -> Path:
    return folder / plan.task / f"{plan.entry}-{plan.digest[:16]}.jsonl"


def read_ledger(path: Path, plan: Plan) -> list[Trial]:
    """Return the trials; a line removed, reordered or edited is refused. Whether they are the plan's is for tuning.

    A last line cut short by a kill was never appended: it is dropped when the next one is written.
    """
    if not path.exists():
        return []
    lines = read_text(path).split("\n")[:-1]
    trials: list[Trial] = []
    for number, line in enumerate(lines):
        where = f"{path}: line {number + 1}"
        trial = validate(parse_json(line, where), Trial, where)
        bare = {name: value for name, value in json.loads(line).items() if name != "digest"}
        before = trials[-1].digest if trials else plan.digest
        if trial.digest != digest_of(bare) or trial.before != before or trial.number != number:
            raise BenchError(
                f"{where}: the chain is broken here: a line was edited, moved or removed",
                "a ledger is only ever appended to, by bench; restore it from version control",
            )
        trials.append(trial)
    return trials


def read_studies(leaderboard: Path, task: str, task_digest: str) -> list[Study]:
    """Return all plans of this version of a task with their ledgers, by entry and look; none where none is there."""
    plans = [plan for plan in all_plans(leaderboard / "plans", task) if plan.task_digest == task_digest]
    return [Study(plan, tuple(read_ledger(ledger_path(leaderboard / "ledgers", plan), plan))) for plan in plans]


def append(
    path: Path, plan: Plan, trials: list[Trial], stage: Stage, rung: float, values: dict[str, Value],
    runs: tuple[TrialRun, ...],
) -> Trial:  # fmt: skip
    """Write the next line, on disk before it counts, and return it."""
    bare = {
        "number": len(trials),
        "stage": stage,
        "rung": rung,
        "values": values,
        "runs": [run.model_dump(mode="json", exclude_defaults=True) for run in runs],
        "before": trials[-1].digest if trials else plan.digest,
    }
    line = json.dumps({**bare, "digest": digest_of(bare)}, separators=(",", ":"), allow_nan=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        _drop_cut_line(file)
        file.write(line.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    return Trial.model_validate_json(line)


def _drop_cut_line(file: BinaryIO) -> None:
    file.seek(0)
    whole = file.read().rpartition(b"\n")
    file.truncate(len(whole[0]) + len(whole[1]))
