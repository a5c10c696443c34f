"""A trial's run_id is the digest of what it was planned to run: an honest one is explained, one of other values not."""

import pytest
from planned import KIND, TASK, plan_of, yardstick

from bench.digest import digest_of
from bench.ledger import Trial, TrialRun
from bench.mode import FLOAT, read_mode
from bench.record import Inputs
from bench.submission.trials import Told, unexplained
from bench.submission.values import Led
from bench.tuned import Cost, Tuned
from bench.tuning import FACTOR

HARNESS = digest_of("harness")
PLAN = plan_of("multi-normalization")  # one of its own hyperparameters has the name of the transfer trials' factor
THEIRS = {"lr": 2e-3, "warmup_fraction": 0.1, "weight_decay": 0.1}
OWN = {**PLAN.fixed, **{name: space.default for name, space in PLAN.space.items()}}


class Harnessed:
    """As much of a record as is asked for."""

    inputs = Inputs(
        task="nano", task_digest=TASK.digest, entry=PLAN.entry, entry_digest=PLAN.entry_digest, values={}, mode=FLOAT,
        mode_digest=read_mode(FLOAT).digest, budget=1.0, track="tuned", seed=0, harness=HARNESS, machine_kind=KIND,
    )  # fmt: skip


def told() -> Told:
    cost = Cost(trials=0, charged_tokens=0.0, train_seconds=0.0)
    lent = Tuned(plan=yardstick().digest, ledger=KIND, cost=cost, tuned={FLOAT: {"1x": THEIRS}}, transfer={})
    return Told(PLAN, TASK, hybrid=False, probed=False, led=Led(None, {}, {}), yardstick=lent)


def trial(stage: str, values: dict, ran: dict) -> Trial:
    track = "transfer" if stage == "transfer" else "tuned"
    run_id = Harnessed.inputs.model_copy(update={"values": dict(sorted(ran.items())), "track": track}).run_id
    run = TrialRun(seed=0, run_id=run_id, outcome="finished", select_loss=2.0, charged_tokens=1.0, train_seconds=1.0,
                   loss_chain=None)  # fmt: skip
    return Trial(number=0, stage=stage, rung=1.0, values=values, runs=(run,), before=KIND, digest=KIND)


LENT = {**OWN, **THEIRS, "weight_decay": 0.0, "lr": THEIRS["lr"] * 2.0}


@pytest.mark.parametrize(
    ("stage", "values", "ran"),
    [("sweep", OWN, OWN), ("sobol", {**OWN, "lr": 0.03}, {**OWN, "lr": 0.03}), ("transfer", {FACTOR: 2.0}, LENT)],
)
def test_the_stage_of_a_trial_says_what_its_factor_is(stage, values, ran):
    assert FACTOR in values
    assert unexplained(told(), [trial(stage, values, ran)], [Harnessed]) == []
    assert unexplained(told(), [trial(stage, values, {**ran, "lr": 0.04})], [Harnessed]) == [0]
