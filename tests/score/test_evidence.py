"""Records read against plans: what is missing, what is too many, whose values stand, and what it cost."""

import json

import pytest
from planned import TASK, bowl, plan_of, write_trials, yardstick

from bench.ledger import Study
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
    rows = [one._replace(token_seconds=3e-4 if one.entry == "muon" else 2e-4) for one in rows]
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
