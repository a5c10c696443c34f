"""`bench score` over plans, ledgers and records on disk: what it reads, what fails a build, what does not stand."""

import json
import runpy
import shutil
import sys
from pathlib import Path

import pytest
from planned import KIND, TASK, bowl, plan_of, trial_run, write_trials, yardstick
from small import ROOT

from bench.cli.main import main
from bench.ledger import append, ledger_path
from bench.plan import write_plan
from bench.record import Inputs, Log, Machine, record_path, write_record
from bench.trials import state_of

OWN = yardstick()
MEANS = {0.25: 3.95, 0.5: 3.70, 1.0: 3.53, 1.5: 3.46, 2.0: 3.41, 4.0: 3.32, 8.0: 3.25}

facts = runpy.run_path(str(Path(__file__).with_name("conftest.py")))["facts"]

MACHINE = {"processor": "toy", "instructions": "avx2", "threads": 1, "compiler": None, "compiled": False,
           "switches": {}, "lock": "0" * 64}  # fmt: skip


def write_runs(board, plan, tuned, offset=0.0, partition="entry"):
    """Write a record for every run of a plan's tuned track, at its tuned values."""
    for rung, seeds in plan.ladder.items():
        for seed in seeds:
            table = facts(plan.entry, rung, seed, MEANS[rung] + offset + 0.002 * (seed % 3 - 1), task=TASK)
            extra = {"rest.lr": 0.01} if partition == "harness" else {}
            inputs = {**table["inputs"], "task": "nano", "task_digest": TASK.digest, "entry_digest": plan.entry_digest,
                      "values": {**tuned[rung], **extra}, "machine_kind": plan.machine_kind}  # fmt: skip
            table |= {"inputs": inputs, "run_id": Inputs(**inputs).run_id, "plan": plan.digest, "machine": MACHINE}
            table["facts"]["partition"] = {"hidden": {"entry": 1, "harness": int(partition == "harness")}}
            table["facts"]["epochs"] = 0.5
            steps = (None,) * table["steps"]
            log = Log(stride=1, loss=steps, gradient_norm=steps, curve=(), milestones=(), score_blocks=())
            write_record(record_path(board / "records", "nano", plan.digest, table["run_id"]), table, log)


@pytest.fixture
def board(tmp_path):
    """A leaderboard of a yardstick, muon and three placebos of it, nothing missing, and a function to add plans."""
    kind = Machine(**MACHINE).kind
    steps = {rung: TASK.steps(rung) for rung in TASK.budget.rungs}
    assert kind != KIND

    def add(plan, offset=0.0, partition="entry"):
        plan = plan.model_copy(update={"machine_kind": kind, "tracks": ("tuned",)})
        write_plan(tmp_path / "plans", plan)
        path = ledger_path(tmp_path / "ledgers", plan)
        trials = write_trials(path, plan, lambda wanted: bowl()(wanted) - 2.99 + MEANS[wanted.rung])
        write_runs(tmp_path, plan, state_of(plan, steps, trials).tuned, offset, partition)
        return plan, path, trials

    add(OWN)
    for number in range(4):
        add(plan_of("muon", number), -0.05 + 0.0005 * number, "harness")
    return tmp_path, add


@pytest.fixture
def score(board, monkeypatch, capsys):
    def call(*words, verb="score"):
        monkeypatch.chdir(board[0])
        monkeypatch.setenv("COLUMNS", "400")
        task = str(ROOT / "tasks" / "nano.toml")
        monkeypatch.setattr(sys, "argv", ["bench", verb, task, "--leaderboard", str(board[0]), *map(str, words)])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


def test_the_command_reads_plans_ledgers_and_logs(score):
    code, out, err = score("--format", "json")
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert told["failing"] == [] and told["tau"] is not None and told["tau_degrees_of_freedom"] == 2
    assert [search["entry"] for search in told["tuning"]][:2] == ["adamw-ref", "muon"]
    muon = told["tuning"][1]
    assert muon["charged"] == muon["spent"]["tokens"] + told["tuning"][0]["charged"]
    assert muon["lent"] == told["tuning"][0]["charged"] > told["tuning"][0]["lent"] == 0
    assert told["tuning"][0]["charged"] < told["tuning"][0]["spent"]["tokens"]  # the study of batches is nobody's price
    assert not [note for note in told["notes"] if "missing" in note or "stand" in note or "no plan" in note]
    assert any("indicative only" in note for note in told["notes"])
    assert told["rows"][0]["rungs"][0]["beside"]["tuning_inclusive"] is not None
    code, out, _ = score()
    assert code == 0 and "tuning: tokens of all trials" in out


def test_a_placebo_that_differs_fails_the_build(board, score):
    board[1](plan_of("adamw"), 0.0)
    for number, offset in ((1, 0.06), (2, 0.0605), (3, 0.061)):
        board[1](plan_of("adamw", number), offset)
    code, out, err = score()
    assert code == 1
    assert "this build fails: placebo adamw@3 differs from its twin adamw" in err and "adamw@3" in out


def test_values_that_the_ledger_does_not_lead_to_do_not_stand(board, score):
    plan = plan_of("adamw").model_copy(update={"machine_kind": Machine(**MACHINE).kind, "tracks": ("tuned",)})
    write_plan(board[0] / "plans", plan)
    write_trials(ledger_path(board[0] / "ledgers", plan), plan, bowl(), 3)
    write_runs(board[0], plan, {rung: {"lr": 0.5} for rung in plan.ladder})
    assert "the values of adamw at 1x, 2x, 4x do not stand: its ledger is not finished" in score()[1]
    ledger_path(board[0] / "ledgers", plan).unlink()
    write_trials(ledger_path(board[0] / "ledgers", plan), plan, bowl())
    assert "the values of adamw at 1x, 2x, 4x do not stand: they are not what its ledger leads to" in score()[1]


def test_a_ledger_beyond_its_plan_is_said_and_a_broken_one_refused(board, score):
    plan, path, trials = board[1](plan_of("adamw"))
    last = trials[-1]
    append(path, plan, trials, last.stage, last.rung, last.values, (trial_run(plan, last, 1000, 1.0),))
    assert "the tuned values of adamw do not stand: the ledger of adamw: 1 trials beyond the plan" in score()[1]
    path.write_text(path.read_text().replace('"finished"', '"diverged"', 1))
    code, out, err = score()
    assert (code, out) == (2, "") and "line 1: the chain is broken" in err


def test_the_yardstick_is_challenged_on_its_own_kind_of_machine_alone(board, score):
    plan = plan_of("adamw")
    write_plan(board[0] / "plans", plan)
    write_trials(ledger_path(board[0] / "ledgers", plan), plan, bowl(), 3)  # far below the yardstick: an alarm
    code, out, err = score("--baselines", ROOT / "baselines", verb="challenge")
    assert (code, out) == (2, "") and "adamw-ref's records are of" in err and err.count("\n") <= 2
    assert not list((board[0] / "records" / "nano").glob("declared/*.json"))


def test_a_missing_run_shows(board, score):
    next((board[0] / "records" / "nano" / _folder(board[0], "muon")).glob("*.json")).unlink()
    assert "of muon: 1 run is missing" in score()[1]


def _folder(root, entry):
    return next((root / "plans" / "nano").glob(f"{entry}-*.json")).stem.rpartition("-")[2]


def test_a_board_needs_no_plans(board, score):
    shutil.rmtree(board[0] / "plans")
    code, out, err = score()
    assert (code, err) == (0, "") and "of no plan that is here: records of adamw-ref, muon" in out
    assert "tuning: tokens" not in out
