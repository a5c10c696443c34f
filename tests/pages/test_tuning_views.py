"""A ledger on a page: every trial in its order, the best marked, values that follow from it, and whether it stands."""

import dataclasses
from typing import get_args

import pytest
from planned import trial_run

from bench.ledger import Stage, Study, append
from bench.pages.tuning import STAGES, after_k_chart, sweep_chart, tuned_tables, tuning_view, tuning_views
from bench.plan import add_modes
from bench.trials import state_after, state_of


@pytest.fixture
def muon(evidence):
    (view,) = tuning_views("muon", evidence)
    return view


def study_of(evidence, entry):
    return next(study for study in evidence.studies["small"] if study.plan.entry == entry)


def test_every_trial_is_a_line_with_its_values(muon, evidence):
    study = study_of(evidence, "muon")
    assert [line.trial for line in muon.trials] == list(study.trials)
    assert all(len(line.cells) == len(muon.names) for line in muon.trials)
    place = muon.names.index("lr")
    assert [line.cells[place] for line in muon.trials[:6]] == [f"{t.values['lr']:g}" for t in study.trials[:6]]


def test_the_best_of_each_budget_is_marked_and_what_is_only_shown_never_is(muon):
    for rung in {line.trial.rung for line in muon.trials}:
        there = [line for line in muon.trials if line.trial.rung == rung and line.trial.stage != "transfer"]
        best = min(line.trial.loss for line in there if line.trial.loss is not None)
        assert {line.trial.loss for line in muon.trials if line.best and line.trial.rung == rung} == {best}
    assert not any(line.best for line in muon.trials if line.trial.stage == "transfer")


def test_tuned_values_are_what_the_ledger_leads_to(muon):
    ((mode, budgets, rows),) = tuned_tables(muon)
    assert muon.stands is None and (mode, budgets) == ("bf16", ["0.5x", "1x", "2x"])
    tuned = muon.tuned["bf16"]
    assert dict(rows)["lr"] == [f"{tuned[rung]['lr']:g}" for rung in sorted(tuned)]


def test_a_failed_trial_keeps_its_line_and_counts(evidence):
    (view,) = tuning_views("sgd", evidence)
    failed = [line for line in view.trials if line.trial.loss is None]
    assert failed and all(line.failed and not line.best for line in failed)
    assert view.spent.failed == len(failed)
    assert "not every seed finished" in sweep_chart(view, "n")


def test_a_ledger_of_another_plan_does_not_stand(evidence):
    study = study_of(evidence, "muon")
    odd = dataclasses.replace(study, trials=study.trials[1:])
    view = tuning_view(odd, "small", evidence.tasks["small"], None)
    assert view.tuned == {} and "not the one that the plan asks for" in view.stands
    assert len(view.trials) == len(odd.trials)


def test_a_search_that_goes_on_has_no_values_yet(evidence):
    study = study_of(evidence, "muon")
    view = tuning_view(dataclasses.replace(study, trials=study.trials[:5]), "small", evidence.tasks["small"], None)
    assert view.tuned == {} and view.stands is None and tuned_tables(view) == []


def test_trials_that_another_processor_made_in_its_stead_are_counted(muon, evidence):
    study = study_of(evidence, "muon")
    first, second, *rest = study.trials
    assert muon.stood_in == []
    run = first.runs[0].model_copy(update={"stand_in": "Other <CPU>"})
    one = first.model_copy(update={"runs": (run, *first.runs[1:])})
    view = tuning_view(dataclasses.replace(study, trials=(one, second, *rest)), "small", evidence.tasks["small"], None)
    assert view.stood_in == ["1 on Other <CPU>"]


def test_charts_name_what_they_draw(muon):
    assert "random orders" in after_k_chart(muon, "k") and "selecting loss" in sweep_chart(muon, "s")


def test_tolerance_and_sensitivity_are_the_boards(muon, evidence):
    board = evidence.searches["small", "bf16", "tuned"]
    assert muon.search in board and muon.search.entry == "muon"


def test_tokens_spent_are_told_from_those_that_values_rest_on_and_from_those_that_the_reference_lends(evidence, told):
    for entry, lends in (("muon", True), ("adamw", False), ("adamw-ref", False)):
        (view,) = tuning_views(entry, evidence)
        shown = [line.trial for line in view.trials if line.trial.stage in ("transfer", "batch")]
        assert len(shown) == view.spent.trials - view.rests_on.trials > 0
        page = told[f"entries/{entry}.html"]
        assert f"{view.rests_on.tokens:,.0f} on the {view.rests_on.trials} trials that its tuned values" in page
        said = f"{view.search.lent:,.0f} on the reference’s trials, which found the rest’s values"
        assert (said in page) is lends and ("which found the rest’s values" in page) is lends


def test_every_stage_of_a_ledger_is_explained():
    assert set(STAGES) == set(get_args(Stage))


def test_the_trials_of_modes_that_were_added_later_stand_beside_the_search(evidence, tmp_path):
    study, task = study_of(evidence, "muon"), evidence.tasks["small"]
    added = add_modes(study.plan, ("qat-int8", "ptq-w4"), study.plan.entry)
    steps = {rung: task.steps(rung) for rung in task.budget.rungs}
    before, trials = state_after(study, {}, steps), []
    for wanted in state_of(added, steps, [], before=before).waiting:
        runs = tuple(trial_run(added, wanted, seed, 3.0 - wanted.values["lr"]) for seed in added.tuning.seeds)
        trials.append(append(tmp_path / "ledger", added, trials, wanted.stage, wanted.rung, wanted.values, runs))
    both = [study, Study(added, tuple(trials))]
    first, second = tuning_views("muon", dataclasses.replace(evidence, studies={"small": both}))
    assert set(first.tuned) == {"bf16"} and first.plan == study.plan
    assert [line.trial for line in second.trials] == trials and len(trials) == 2 and second.stands is None
    ((mode, _, rows),) = tuned_tables(second)
    assert mode == "qat-int8" and dict(rows)["lr"] == dict(tuned_tables(first)[0][2])["lr"], "the float rate was best"
    assert second.names[-1] == "mode"
