"""Records read against plans: what is missing, what is too many, whose values stand; and the command that says so."""

import json
import runpy
import shutil
import sys
from pathlib import Path

import pytest
from planned import KIND, TASK, bowl, plan_of, trial_run, write_trials, yardstick
from small import ROOT

from bench.cli.main import main
from bench.ledger import Study, append, ledger_path
from bench.plan import write_plan
from bench.record import Inputs, Log, Machine, record_path, write_record
from bench.score.board import make_board
from bench.score.cells import select
from bench.score.evidence import (
    costs_of,
    departures,
    looks_of,
    placebos_of,
    plan_notes,
    searches_of,
)
from bench.score.table import render
from bench.trials import state_of

OWN, MUON = yardstick(), plan_of("muon")
MEANS = {0.25: 3.95, 0.5: 3.70, 1.0: 3.53, 1.5: 3.46, 2.0: 3.41, 4.0: 3.32, 8.0: 3.25}


def rows_of(plan, make_row, means, track="tuned", noise=0.002):
    """One row for every planned run of a track."""
    found = []
    for rung, seeds in plan.ladder.items():
        for seed in seeds:
            loss = means[rung] + noise * (seed % 3 - 1)
            row = make_row(plan.entry, rung, seed, loss, track=track, task=TASK, name="nano", epochs=0.5)
            found.append(row._replace(plan=plan.digest, entry_digest=plan.entry_digest, machine_kind=plan.machine_kind))
    return found


@pytest.fixture
def row(make_row):
    def build(*args, epochs=0.5, **what):
        return make_row(*args, **what)._replace(epochs=epochs)

    return build


def both(plan, row):
    return rows_of(plan, row, MEANS) + rows_of(plan, row, MEANS, "transfer")


def test_a_plan_done_in_full_has_no_departure(row):
    found = departures(MUON, both(MUON, row))
    assert (found.missing, found.extra) == ((), ())


def test_missing_runs_show(row):
    rows = both(MUON, row)
    gone = rows.pop(4)
    assert departures(MUON, rows).missing == ((gone.track, "bf16", gone.budget, gone.seed),)
    assert len(departures(MUON, []).missing) == 2 * 9
    assert len(departures(MUON, [one._replace(plan=None) for one in rows]).missing) == 2 * 9


@pytest.mark.parametrize(
    "change", [{"seed": 7}, {"budget": 0.5}, {"mode": "qat-int8"}, {"track": "declared"}, {"entry": "adamw"},
               {"entry_digest": "0" * 64}, {"machine_kind": "0" * 64}, {"task_digest": "0" * 64}], ids=str,
)  # fmt: skip
def test_extra_runs_show(row, change):
    rows = both(MUON, row)
    odd = rows[0]._replace(**change, path="odd")
    found = departures(MUON, [*rows, odd])
    assert found.extra == ("odd",) and found.missing == ()


def test_a_board_says_which_runs_are_not_as_planned(row):
    rows = rows_of(OWN, row, MEANS) + both(MUON, row)
    board = make_board(rows, TASK, "adamw-ref")
    studies = [Study(OWN, ()), Study(MUON, ())]
    assert plan_notes(studies, rows, board) == []
    gone = [one for one in rows if (one.entry, one.budget, one.seed) != ("muon", 2.0, 1)]
    (note,) = plan_notes(studies, gone, board)
    assert note == f"the plan {MUON.digest[:16]} of muon: 1 run is missing (2x seeds 1)"
    more = [*rows, rows[-1]._replace(seed=9, path="there.json")]
    assert plan_notes(studies, more, board) == [f"the plan {MUON.digest[:16]} of muon asks for no such run: there.json"]
    assert plan_notes([], rows, board) == ["of no plan that is here: records of adamw-ref, muon"]
    assert "; and more)" in plan_notes(studies, [one for one in rows if one.entry == "muon"], board)[0]


def test_looks_and_placebos_come_from_plans(row):
    second = plan_of("muon", after=MUON)
    assert looks_of([Study(MUON, ()), Study(OWN, ())]) == {"muon": 0, "adamw-ref": 0}
    assert looks_of([Study(second, ()), Study(MUON, ())]) == {"muon": 2}
    placebo = plan_of("adamw", 1)
    assert placebos_of([Study(placebo, ())], [row("muon@2", task=TASK)]) == {"adamw@1": "adamw", "muon@2": "muon"}


def test_the_seeds_of_two_looks_pool_at_the_second_ones_level(row):
    second = plan_of("muon", after=MUON)
    rows = rows_of(OWN, row, MEANS) + rows_of(MUON, row, MEANS) + rows_of(second, row, MEANS)
    studies = [Study(OWN, ()), Study(MUON, ()), Study(second, ())]
    board = make_board(rows, TASK, "adamw-ref", looks=looks_of(studies))
    assert board.rows[0].rungs[0].seeds == (0, 1, 2, 3, 4, 5)
    assert {found.level for found in board.rows[0].speedups.values()} == {0.0125}
    assert plan_notes(studies, rows, board) == []


@pytest.fixture
def studies(tmp_path):
    made = {plan.entry: write_trials(tmp_path / plan.entry, plan, bowl(), 60) for plan in (OWN, MUON)}
    return [Study(OWN, tuple(made["adamw-ref"])), Study(MUON, tuple(made["muon"]))]


def tokens_of(study, counts):
    return sum(run.charged_tokens for trial in study.trials if counts(trial.stage) for run in trial.runs)


def test_on_the_transfer_track_an_entry_is_charged_what_its_values_rest_on(row, studies):
    """The yardstick's search found them; the entry's own is not used there, but for the two factors that are shown."""
    rows = rows_of(OWN, row, MEANS) + rows_of(MUON, row, MEANS, "transfer")
    chosen = select(rows, TASK.digest, "bf16", "transfer", "adamw-ref", None)
    found = costs_of(studies, chosen, TASK, "adamw-ref", {"muon"}, track="transfer")["muon"].tuning_tokens
    shown = tokens_of(studies[1], lambda stage: stage == "transfer")
    assert found == tokens_of(studies[0], lambda stage: stage != "batch") + shown > shown > 0
    assert (
        searches_of(studies, make_board(rows, TASK, "adamw-ref", track="transfer"), 5.6, {"muon"})[1].charged == found
    )


def test_costs_are_the_ledgers_tokens_and_the_runs_own_clocks(row, studies):
    rows = rows_of(OWN, row, MEANS) + rows_of(MUON, row, MEANS)
    rows = [one._replace(train_seconds=one.tokens * (3e-4 if one.entry == "muon" else 2e-4)) for one in rows]
    chosen = select(rows, TASK.digest, "bf16", "tuned", "adamw-ref", None)
    full, hybrid = (costs_of(studies, chosen, TASK, "adamw-ref", which)["muon"] for which in (set(), {"muon"}))
    theirs = costs_of(studies, chosen, TASK, "adamw-ref", set())["adamw-ref"]
    assert full.seconds_per_token == pytest.approx(3e-4) and full.memory_bytes is None
    assert hybrid.tuning_tokens == full.tuning_tokens + theirs.tuning_tokens
    assert full.tuning_tokens == tokens_of(studies[1], lambda stage: stage != "transfer") > 0
    assert theirs.tuning_tokens == tokens_of(studies[0], lambda stage: stage != "batch") > 0
    assert costs_of([], chosen, TASK, "adamw-ref", set())["muon"].tuning_tokens is None


def test_the_ladders_slope_is_read_at_the_rung_and_not_at_a_trials_loss(row, studies):
    """Trials have selecting losses, the ladder scoring ones: halves a nat apart would move the slope."""
    board = make_board(rows_of(OWN, row, MEANS) + rows_of(MUON, row, MEANS), TASK, "adamw-ref")

    def raised(trial):
        runs = [run.model_copy(update={"select_loss": run.select_loss + 0.4}) for run in trial.runs]
        return trial.model_copy(update={"runs": tuple(runs)})

    moved = [Study(study.plan, tuple(map(raised, study.trials))) for study in studies]
    one, other = (searches_of(held, board, 50.0, set()) for held in (studies, moved))
    assert [found.tolerance.value for found in one] == pytest.approx([found.tolerance.value for found in other])


def test_a_table_of_the_searches_is_shown(row, studies):
    rows = rows_of(OWN, row, MEANS) + rows_of(MUON, row, MEANS)
    board = make_board(rows, TASK, "adamw-ref")
    searches = searches_of(studies, board, 5.6, {"muon"})
    assert [search.entry for search in searches] == ["adamw-ref", "muon"]
    text = render(board, TASK, "plain", searches)
    lines = text[text.index("tuning: tokens of all trials") :].splitlines()
    muon = next(line for line in lines if line.startswith("muon"))
    assert " ".join(lines[2].split()) == "entry trials tokens charged best tolerance sensitivity"
    assert muon.split()[:2] == ["muon", str(len(studies[1].trials))]
    told = json.loads(render(board, TASK, "json", searches))["tuning"]
    assert told[1]["spent"]["trials"] == len(studies[1].trials) and told[1]["after_k"][0]["trials"] == 1
    assert "tuning: tokens" not in render(board, TASK) and json.loads(render(board, TASK, "json"))["tuning"] == []


# From files, by the command.

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
    assert "tuning: tolerance" not in out
