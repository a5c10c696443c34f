"""The ledger: whatever is done to its lines is found, and a line cut short by a kill was never there."""

import json

import pytest
from planned import STEPS, TASK, bowl, plan_of, trial_run, write_trials

from bench.digest import digest_of
from bench.errors import BenchError
from bench.ledger import append, ledger_path, read_ledger, read_studies
from bench.lint import lint_paths
from bench.plan import write_plan
from bench.trials import state_of

PLAN = plan_of("muon")


@pytest.fixture
def ledger(tmp_path):
    path = ledger_path(tmp_path, PLAN)
    return path, write_trials(path, PLAN, bowl(2e-2), 8)


def test_a_ledger_is_read_back_as_it_was_written(ledger):
    path, trials = ledger
    assert read_ledger(path, PLAN) == trials and len(trials) == 8
    assert trials[0].before == PLAN.digest and [t.number for t in trials] == list(range(8))
    assert read_ledger(path.with_name("none.jsonl"), PLAN) == []


def test_the_form_of_a_line_does_not_change(ledger):
    """Pinned: the ledgers of plans under way are read by it."""
    line = json.loads(ledger[0].read_text().splitlines()[0])
    assert list(line) == ["number", "stage", "rung", "values", "runs", "before", "digest"]
    assert list(line["runs"][0]) == [
        "seed", "run_id", "outcome", "select_loss", "charged_tokens", "train_seconds", "loss_chain",
    ]  # fmt: skip
    assert line["digest"] == digest_of({name: value for name, value in line.items() if name != "digest"})


def test_trials_of_a_processor_that_stands_in_name_it_and_lint_asks_for_what_shows_that_it_may(tmp_path):
    def run(*facts):
        return trial_run(*facts).model_copy(update={"stand_in": "Some processor"})

    path = ledger_path(tmp_path / "ledgers", PLAN)
    write_plan(tmp_path / "plans", PLAN)
    trials = write_trials(path, PLAN, bowl(2e-2), 3, run=run)
    assert read_ledger(path, PLAN) == trials and {run.stand_in for trial in trials for run in trial.runs} == {
        "Some processor"
    }
    with pytest.raises(BenchError, match="Some processor is not shown to give another processor's bits"):
        list(lint_paths([tmp_path / "ledgers"]))


def _edited(lines):
    return [*lines[:3], lines[3].replace('"finished"', '"diverged"'), *lines[4:]]


def _better(lines):
    """A lower loss, with the line's digest made anew, as somebody would who read the code."""
    line = json.loads(lines[3])
    line["runs"][0]["select_loss"] -= 0.1
    bare = {name: value for name, value in line.items() if name != "digest"}
    return [*lines[:3], json.dumps({**bare, "digest": digest_of(bare)}), *lines[4:]]


def _numbered_anew(lines):
    line = {**json.loads(lines[7]), "number": 9}
    bare = {name: value for name, value in line.items() if name != "digest"}
    return [*lines[:7], json.dumps({**bare, "digest": digest_of(bare)})]


CHEATS = {
    "numbered anew": (_numbered_anew, "line 8: the chain is broken"),
    "removed": (lambda lines: lines[:3] + lines[4:], "line 4: the chain is broken"),
    "the first removed": (lambda lines: lines[1:], "line 1: the chain is broken"),
    "reordered": (lambda lines: [*lines[:3], lines[4], lines[3], *lines[5:]], "line 4: the chain is broken"),
    "edited": (_edited, "line 4: the chain is broken"),
    "edited and sealed": (_better, "line 5: the chain is broken"),
    "repeated": (lambda lines: [*lines, lines[-1]], "line 9: the chain is broken"),
    "written by hand": (lambda lines: [*lines, '{"number": 8}'], "line 9: missing key"),
    "an empty line": (lambda lines: [*lines, ""], "line 9: not valid JSON"),
    "no table": (lambda lines: [*lines, "[]"], "line 9"),
    "NaN": (lambda lines: [*lines[:7], lines[7].replace('"charged_tokens":1000.0', '"charged_tokens":NaN')], "NaN"),
    "a key more": (lambda lines: [*lines[:7], lines[7].replace('{"number"', '{"note":1,"number"')], "unknown key note"),
}


@pytest.mark.parametrize("cheat", CHEATS)
def test_a_ledger_is_only_appended_to_by_bench(ledger, cheat):
    path, _ = ledger
    change, said = CHEATS[cheat]
    path.write_text("".join(f"{line}\n" for line in change(path.read_text().splitlines())))
    with pytest.raises(BenchError, match=said) as caught:
        read_ledger(path, PLAN)
    assert "\n" not in caught.value.what


def test_a_ledger_of_another_plan_is_refused(ledger):
    with pytest.raises(BenchError, match="line 1: the chain is broken"):
        read_ledger(ledger[0], plan_of("muon", 1))


def test_a_line_appended_in_due_form_is_not_the_plans(ledger):
    """The chain alone cannot tell; the search can."""
    path, trials = ledger
    values = {**trials[0].values, "lr": 0.0123}
    wanted = state_of(PLAN, STEPS, trials).waiting[0]
    runs = (trial_run(PLAN, wanted, PLAN.tuning.seeds[0], 1.0),)
    append(path, PLAN, trials, "sobol", 1.0, values, runs)
    with pytest.raises(BenchError, match="trial 8 is not the one that the plan asks for"):
        state_of(PLAN, STEPS, read_ledger(path, PLAN))


def test_a_trial_beyond_the_plan_is_refused(tmp_path):
    path = ledger_path(tmp_path, PLAN)
    trials = write_trials(path, PLAN, bowl(2e-2))
    assert state_of(PLAN, STEPS, trials).tuned is not None
    append(path, PLAN, trials, trials[-1].stage, trials[-1].rung, trials[-1].values, trials[-1].runs)
    with pytest.raises(BenchError, match="1 trials beyond the plan"):
        state_of(PLAN, STEPS, read_ledger(path, PLAN))


def test_a_line_cut_anywhere_was_never_appended_and_is_dropped_by_the_next(ledger):
    path, trials = ledger
    whole = path.read_bytes()
    last = len(whole) - len(whole.splitlines(keepends=True)[-1])
    for cut in (1, 20, 300, len(whole) - last - 1):
        path.write_bytes(whole[: last + cut])
        assert read_ledger(path, PLAN) == trials[:7]
        again = append(path, PLAN, trials[:7], trials[7].stage, trials[7].rung, trials[7].values, trials[7].runs)
        assert again == trials[7] and path.read_bytes() == whole


def test_a_number_that_is_none_is_never_written(ledger):
    path, trials = ledger
    before = path.read_bytes()
    runs = (trials[0].runs[0].model_copy(update={"train_seconds": float("nan")}),)
    with pytest.raises(ValueError, match="not JSON compliant"):
        append(path, PLAN, trials, "sobol", 1.0, {"lr": 1.0}, runs)
    assert path.read_bytes() == before


def test_studies_are_the_plans_of_one_version_of_a_task(tmp_path):
    old = PLAN.model_copy(update={"task_digest": "0" * 64})
    for plan in (PLAN, plan_of("adamw"), old):
        write_plan(tmp_path / "plans", plan)
    trials = write_trials(ledger_path(tmp_path / "ledgers", PLAN), PLAN, bowl(2e-2), 3)
    found = read_studies(tmp_path, "nano", TASK.digest)
    assert [(study.plan.entry, list(study.trials)) for study in found] == [("adamw", []), ("muon", trials)]
    assert read_studies(tmp_path / "nothing", "nano", TASK.digest) == []
