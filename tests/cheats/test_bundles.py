"""Submissions whose results must be rejected, each by what `bench verify` says of it; and the honest one stands."""

import json
import shutil
import time

import pytest

from bench.digest import digest_of
from bench.submission.judge import verify

OTHER = digest_of("other")


def facts_of(path):
    return json.loads(path.read_text())


def test_the_honest_one_stands_in_less_than_a_second_a_record(clone, forgery):
    start = time.process_time()
    told = verify(forgery.folder, clone.root)
    assert not told.findings and not told.remarks and (told.plans, told.records) == (1, len(forgery.records))
    assert time.process_time() - start < told.records


def edits_a_record_by_hand(f):
    f.record.write_text(f.record.read_text().replace('"who"', '"who" ', 1).replace("finished", "crashed", 1))


def fakes_its_loss(f):
    f.forge(lambda facts: facts.update(score_loss=facts["score_loss"] - 0.5))


def fakes_the_end_of_a_chain(f):
    f.forge(lambda facts: facts["chains"].update(loss=OTHER))


def fakes_the_data_it_saw(f):
    f.forge(lambda facts: facts["chains"].update(data=OTHER))


def fakes_the_losses_of_its_log(f):
    f.forge_log(lambda log: log["loss"].__setitem__(3, log["loss"][3] - 0.5))


def fakes_its_curve(f):
    f.forge_log(lambda log: log["curve"].pop(1))


def fakes_its_first_loss(f):
    f.forge(lambda facts: facts.update(initial_loss=9.0))


def hides_a_step_in_its_log(f):
    f.forge_log(lambda log: log["loss"].__setitem__(3, None))


def logs_every_other_step(f):
    def thin(log):
        log.update(stride=2, loss=log["loss"][::2], gradient_norm=log["gradient_norm"][::2])

    f.forge_log(thin)


def says_another_mode_s_digest(f):
    f.forge(lambda facts: facts["inputs"].update(mode_digest=OTHER))


def is_charged_for_passes_of_no_probe(f):
    f.forge(lambda facts: facts["facts"].update(passes=1.5))


def hides_its_probe(f):
    path = f.folder / "baselines" / "my_optimizer" / "optimizer.py"
    path.write_text(path.read_text().replace("):\n", "):\n    wants_probe = True\n", 1))


def chooses_its_batches(f):
    f.forge(lambda facts: facts["facts"].update(batches={"first": 32, "last": 32, "largest": 32}))


def fakes_its_clip_rate(f):
    f.forge(lambda facts: facts["facts"].update(clip_rate=0.123))


def fakes_the_size_of_its_updates(f):
    f.forge(lambda facts: facts["facts"]["update_rms"].update(hidden=1.0))


def fakes_its_time(f):
    f.forge(lambda facts: facts["cost"].update(train_seconds=0.001))


def is_charged_for_less(f):
    f.forge(lambda facts: facts.update(charged_tokens=facts["charged_tokens"] / 2))


def stops_early(f):
    f.forge(lambda facts: facts.update(steps=facts["steps"] - 1))


def hides_the_precision_of_its_weights(f):
    f.forge(lambda facts: facts["facts"].update(weight_dtypes=[]))


def keeps_bf16_state(f):
    f.forge(lambda facts: facts["facts"].update(state_dtypes=["bfloat16"]))


def applies_no_decay(f):
    f.forge(lambda facts: facts["facts"].update(last_multiplier=0.9))


def evaluates_other_weights(f):
    path = f.folder / "baselines" / "my_optimizer" / "optimizer.py"
    path.write_text(path.read_text() + "# def evaluation_weights: as the source would say, if it had it\n")
    f.forge(lambda facts: facts["weights"].update(evaluated=OTHER))


def says_another_schedule(f):
    f.forge(lambda facts: facts["facts"].update(schedule="constant"))


def is_of_another_version_of_the_task(f):
    f.forge(lambda facts: facts["inputs"].update(task_digest=OTHER))


def is_of_other_code(f):
    f.forge(lambda facts: facts["inputs"].update(entry_digest=OTHER))


def runs_at_values_it_was_not_tuned_to(f):
    f.forge(lambda facts: facts["inputs"]["values"].update(lr=0.123))


def picks_a_seed(f):
    f.forge(lambda facts: facts["inputs"].update(seed=77))


def leaves_a_bad_seed_out(f):
    f.record.with_suffix(".log.gz").unlink()
    f.record.unlink()


def copies_a_good_seed(f):
    first, second = f.records[:2]
    kept = facts_of(second)["inputs"]
    shutil.copy(first.with_suffix(".log.gz"), second.with_suffix(".log.gz"))
    second.write_text(first.read_text())
    f.forge(lambda facts: facts.update(inputs=kept), second)


def runs_a_seed_twice(f):
    copy = f.record.with_name(f"{OTHER}.json")
    shutil.copy(f.record, copy)
    shutil.copy(f.record.with_suffix(".log.gz"), copy.with_suffix(".log.gz"))
    f.forge(lambda facts: facts["inputs"].update(harness=OTHER), copy)


def edits_a_trial(f):
    f.ledger.write_text(f.ledger.read_text().replace("finished", "diverged", 1))


def drops_a_trial(f):
    f.forge_ledger(lambda trials: trials.pop(3))


def fakes_a_trial_s_loss(f):
    worst = max(range(6), key=lambda i: json.loads(f.ledger.read_text().splitlines()[i])["runs"][0]["select_loss"])
    f.forge_ledger(lambda trials: trials[worst]["runs"][0].update(select_loss=0.1))


def copies_a_trial_s_run(f):
    f.forge_ledger(lambda trials: trials[1]["runs"][0].update(loss_chain=trials[0]["runs"][0]["loss_chain"]))


def names_two_trials_alike(f):
    f.forge_ledger(lambda trials: trials[1]["runs"][0].update(run_id=trials[0]["runs"][0]["run_id"]))


def charges_a_trial_for_less(f):
    f.forge_ledger(lambda trials: trials[1]["runs"][0].update(charged_tokens=1.0))


def hides_what_tuning_cost(f):
    path = next(f.folder.rglob("tuned/small/*.toml"))
    path.write_text(path.read_text().replace("trials = ", "trials = 1"))


def edits_its_tuned_values(f):
    path = next(f.folder.rglob("tuned/small/*.toml"))
    path.write_text(path.read_text().replace("weight_decay = ", "weight_decay = 1"))


def replan(f, **changed):
    """Write the plan anew with something changed, under the name that it then has, and its ledger."""
    from bench.plan import read_plan, write_plan

    plan = read_plan(f.plan).model_copy(update=changed)
    f.plan.unlink()
    write_plan(f.folder / "leaderboard" / "plans", plan)


def plans_its_own_seeds(f):
    replan(f, rungs={"1x": (3, 5, 8)})


def plans_fewer_trials(f):
    replan(f, tuning=f.clone.plan.tuning.model_copy(update={"sobol": 2}))


def narrows_its_space_after_looking(f):
    path = f.folder / "baselines" / "my_optimizer" / "my-optimizer.toml"
    path.write_text(path.read_text().replace("low     = 3e-4", "low     = 2e-3"))
    space = {**f.clone.plan.space}
    space["lr"] = space["lr"].model_copy(update={"low": 2e-3})
    replan(f, space=space)


def changes_its_code_after_the_plan(f):
    path = f.folder / "baselines" / "my_optimizer" / "optimizer.py"
    path.write_text(path.read_text().replace("_foreach_sign", "_foreach_neg"))


def reads_files_in_its_code(f):
    path = f.folder / "baselines" / "my_optimizer" / "optimizer.py"
    path.write_text(path.read_text() + "\n\nopen('x')\n")


def overwrites_what_is_published(f):
    path = f.clone.root / "baselines" / "adamw" / "optimizer.py"
    target = f.folder / "baselines" / "adamw" / "optimizer.py"
    target.parent.mkdir()
    target.write_text(path.read_text() + "\n# mine now\n")


CHEATS = {
    edits_a_record_by_hand: "was changed after it was written",
    fakes_its_loss: ": score_loss: ",
    fakes_the_end_of_a_chain: ": chains.loss: ",
    fakes_the_data_it_saw: ": chains.data: ",
    fakes_the_losses_of_its_log: "the loss chain at step 4 does not follow",
    fakes_its_curve: ": log.curve: ",
    fakes_its_first_loss: ": initial_loss: ",
    hides_a_step_in_its_log: ": log.loss: ",
    logs_every_other_step: ": log.stride: ",
    says_another_mode_s_digest: ": inputs.mode_digest: ",
    is_charged_for_passes_of_no_probe: ": facts.passes: ",
    hides_its_probe: ": facts.probe: is missing",
    fakes_its_clip_rate: ": facts.clip_rate: ",
    chooses_its_batches: ": facts.batches: of the run's own choice",
    fakes_the_size_of_its_updates: ": facts.update_rms.hidden: ",
    fakes_its_time: ": cost.train_seconds: ",
    is_charged_for_less: ": protocol A7: ",
    stops_early: "the log does not have the",
    hides_the_precision_of_its_weights: ": protocol A1: weights not recorded",
    keeps_bf16_state: ": protocol A1: ",
    applies_no_decay: ": protocol A3: ",
    evaluates_other_weights: ": weights.evaluated: ",
    says_another_schedule: ": facts.schedule: ",
    is_of_another_version_of_the_task: ": inputs.task_digest: ",
    is_of_other_code: ": inputs.entry_digest: ",
    runs_at_values_it_was_not_tuned_to: ": inputs.values: ",
    picks_a_seed: "the plan asks for no such run",
    leaves_a_bad_seed_out: ": rungs: no record of",
    copies_a_good_seed: "another run",
    runs_a_seed_twice: ": inputs.seed: duplicate",
    edits_a_trial: "the chain is broken here",
    drops_a_trial: "is not the one that the plan asks for",
    fakes_a_trial_s_loss: "my-optimizer",
    copies_a_trial_s_run: "its chain of losses is another run's",
    names_two_trials_alike: "line 2: its run_id is another run's",
    charges_a_trial_for_less: "line 2: 1 charged tokens, 1x has 4,096",
    hides_what_tuning_cost: ": cost.trials: ",
    edits_its_tuned_values: ": tuned.bf16.1x: is not what the ledger leads to",
    plans_its_own_seeds: ": rungs: ",
    plans_fewer_trials: ": tuning: ",
    narrows_its_space_after_looking: "has a first plan already",
    changes_its_code_after_the_plan: ": entry_digest: ",
    reads_files_in_its_code: "open reads files",
    overwrites_what_is_published: "is published already, and differs",
}


@pytest.mark.parametrize("cheat", CHEATS, ids=lambda cheat: cheat.__name__.replace("_", "-"))
def test_a_submission_is_refused_that(cheat, forgery):
    cheat(forgery)
    said = forgery.said()
    assert any(CHEATS[cheat] in line for line in said), said


def test_trials_that_diverged_at_the_same_step_may_have_one_chain(forgery):
    chain = json.loads(forgery.ledger.read_text().splitlines()[0])["runs"][0]["loss_chain"]
    lost = {"outcome": "diverged", "select_loss": None, "loss_chain": chain, "charged_tokens": 64.0}
    forgery.forge_ledger(lambda trials: [trial["runs"][0].update(lost) for trial in trials[:2]])
    assert not [line for line in forgery.said() if "chain of losses" in line]
