"""A task's ladder made longer or shorter after plans were written for it: the search of what was added, and no more."""

import pytest
from planned import STEPS, bowl, plan_of, searched, trial_run, write_trials

from bench.errors import BenchError
from bench.ledger import Study, append
from bench.submission.values import led_to
from bench.trials import state_of


def test_added_rungs_are_tuned_as_if_they_had_been_there_and_nothing_else_is(tmp_path):
    """The values carried to the new rung and the trials made there are those of a plan with the whole ladder."""
    whole, steps = plan_of(), {**STEPS, 3.0: 1500}
    whole = whole.model_copy(update={"rungs": {**whole.rungs, "3x": (0, 1, 2), "0.5x": (0, 1, 2)}})
    tried, tuned = searched(whole, bowl(1e-3), steps)
    short = plan_of()
    ledger = write_trials(tmp_path / "short", short, bowl(1e-3), steps=steps)
    before = state_of(short, steps, ledger)
    assert set(before.tuned) == {1.0, 2.0, 4.0}
    rungs = {"8x": (0, 1, 2), "0.5x": (0, 1, 2)}
    added = short.model_copy(update={"rungs": rungs, "after": short.digest, "adds_rungs": True})
    waiting = state_of(added, steps, [], before=before).waiting
    assert [(wanted.stage, wanted.rung) for wanted in waiting] == [("rung", 0.5)] * 3
    trials, path = [], tmp_path / "added"
    while waiting := state_of(added, steps, trials, before=before).waiting:
        for wanted in waiting:
            runs = tuple(trial_run(added, wanted, seed, bowl(1e-3)(wanted)) for seed in added.tuning.seeds)
            trials.append(append(path, added, trials, wanted.stage, wanted.rung, wanted.values, runs))
    found = state_of(added, steps, trials, before=before).tuned
    assert set(found) == {0.5, 1.0, 2.0, 4.0, 8.0} and {trial.rung for trial in trials} == {0.5, 8.0}
    assert found[0.5] == tuned[0.5] and {rung: found[rung] for rung in before.tuned} == before.tuned
    assert [t.values for t in trials if t.rung == 0.5] == [w.values for w, _ in tried if w.rung == 0.5]
    studies = {plan.digest: Study(plan, tuple(held)) for plan, held in ((added, trials), (short, ledger))}
    for plan in (short, added):  # what a submission's file of tuned values is held to
        led = led_to(plan, studies, steps)
        assert led.values["bf16"] == found and led.added == {added.digest: trials[-1].digest}


def test_a_ladder_that_was_shortened_is_one_line():
    steps = {rung: count for rung, count in STEPS.items() if rung != 4.0}
    with pytest.raises(BenchError, match="nano: the ladder has no 4x any more") as caught:
        state_of(plan_of(), steps, [])
    assert "may be extended and not shortened" in caught.value.hint
