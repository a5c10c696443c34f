"""A plan carried out on a task of a second, in this process: tuned, laddered, stopped anywhere and gone on with."""

import gc
import math
import re
import shutil
from dataclasses import replace

import pytest
from conducted import Here, Stopped, started
from planned import with_tuning

from bench.errors import BenchError
from bench.jobs import Sizes, pilot, steps_of
from bench.ledger import ledger_path, read_studies
from bench.plan import write_plan
from bench.record import find_records, read_record
from bench.spec import read_json
from bench.task import read_task
from bench.trials import state_of
from bench.tuned import newest_yardstick, read_tuned, rest_of, tuned_path


@pytest.fixture(scope="module", autouse=True)
def _quick():
    """Runs collect garbage before they start: what was imported before them is none."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A bench on which the yardstick has been evaluated, and then muon."""
    bench = started(tmp_path_factory.mktemp("tuned"))
    plans = {}
    for name in ("adamw-ref", "muon"):
        plans[name] = bench.plan(name)
        bench.conductor(plans[name], Here()).evaluate()
    return bench, plans


@pytest.mark.parametrize("name", ["adamw-ref", "muon"])
def test_all_of_a_plan_is_done_and_nothing_else(tuned, name):
    bench, plans = tuned
    plan, task = plans[name], read_task(bench.task_path)
    trials = bench.trials(plan)
    state = state_of(plan, steps_of(task), trials)
    wanted = {(t, rung, seed) for t in plan.tracks for rung, seeds in plan.ladder.items() for seed in seeds}
    assert set(bench.records(plan)) == wanted and state.waiting == ()
    found = read_tuned(bench.entry(name), "small", name)
    assert found.tuned["bf16"] == {"1x": state.tuned[1.0], "2x": state.tuned[2.0]}
    assert (found.plan, found.ledger, found.cost.trials) == (plan.digest, trials[-1].digest, len(trials))
    assert found.cost.charged_tokens == sum(run.charged_tokens for trial in trials for run in trial.runs)
    for (track, rung, _), record in bench.records(plan).items():
        own = {key: value for key, value in record.inputs.values.items() if "." not in key}
        assert record.outcome == "finished"
        assert own == (state.tuned[rung] if track == "tuned" else {
            key: value for key, value in found.transfer["bf16"][f"{rung:g}x"].items() if "." not in key})  # fmt: skip


def test_every_run_of_a_ladder_keeps_its_weights_and_no_trial_does(tuned):
    bench, plans = tuned
    held = {path.name for path in (bench.folder / "weights").iterdir()}
    assert held == {record.run_id for plan in plans.values() for record in bench.records(plan).values()}


def test_trials_are_judged_on_the_selecting_half_and_kept_out_of_the_records(tuned):
    bench, plans = tuned
    for plan in plans.values():
        seeds = {run.seed for trial in bench.trials(plan) for run in trial.runs}
        assert seeds == set(plan.tuning.seeds) and not {seed for _, _, seed in bench.records(plan)} & seeds
        made = [read_record(path) for path in find_records([bench.folder / "work" / "trials"])]
        by_id = {record.run_id: record for record in made}
        for trial in bench.trials(plan):
            for run in trial.runs:
                assert run.select_loss == by_id[run.run_id].select_loss != by_id[run.run_id].score_loss


def test_the_rest_inherits_the_yardsticks_values(tuned):
    bench, plans = tuned
    theirs = read_tuned(bench.entry("adamw-ref"), "small", "adamw-ref")
    for (_, rung, _), record in bench.records(plans["muon"]).items():
        rest = {k.removeprefix("rest."): v for k, v in record.inputs.values.items() if k.startswith("rest.")}
        assert rest == rest_of(theirs.at(rung))
        assert rest["lr"] == pytest.approx(theirs.at(rung)["lr"] * theirs.at(rung)["rest_lr_factor"])


def test_transfer_runs_have_the_yardsticks_values_and_the_size_of_its_updates(tuned):
    bench, plans = tuned
    theirs, own = bench.records(plans["adamw-ref"]), bench.records(plans["muon"])
    for (track, rung, seed), record in own.items():
        if track != "transfer":
            continue
        yardstick = theirs["tuned", rung, seed]
        for name in ("lr", "warmup_fraction"):
            assert record.inputs.values[name] == yardstick.inputs.values[name]
        assert record.inputs.values["transfer.weight_decay"] == yardstick.inputs.values["weight_decay"]
        assert record.inputs.values["weight_decay"] == 0.0 and record.inputs.values["momentum"] == 0.95
        sizes = [one.facts.update_rms["hidden"] for one in (record, yardstick)]
        assert sizes[0] == pytest.approx(sizes[1], rel=0.1)
        scales = [v for name, v in record.inputs.values.items() if re.fullmatch(r"transfer\.\d+x\d+", name)]
        assert len(scales) == 3 and all(
            abs(math.log(scale)) > 0.3 for scale in scales
        )  # which unscaled it would not be


def test_finished_work_is_skipped(tuned):
    bench, plans = tuned
    before = {path: path.read_bytes() for path in find_records([bench.board / "records"])}
    for plan in plans.values():
        engine, ledger = Here(), ledger_path(bench.board / "ledgers", plan)
        held = ledger.read_bytes()
        bench.conductor(plan, engine).evaluate()
        assert engine.given == [] and ledger.read_bytes() == held
    assert {path: path.read_bytes() for path in find_records([bench.board / "records"])} == before


def test_a_removed_record_is_made_again_and_no_other(tuned):
    bench, plans = tuned
    record = bench.records(plans["muon"])["tuned", 2.0, 0]
    path = next(bench.board.rglob(f"{record.run_id}.json"))
    path.unlink()
    engine = Here()
    bench.conductor(plans["muon"], engine).ladder()
    assert [(job.track, job.rung, job.seed) for job in engine.given] == [("tuned", 2.0, 0)]
    again = bench.records(plans["muon"])["tuned", 2.0, 0]
    assert (again.run_id, again.score_loss, again.chains) == (record.run_id, record.score_loss, record.chains)


def shape(trials):
    """What of a ledger is a matter of arithmetic: all but the clock, and the digests that it enters."""
    return [(t.number, t.stage, t.rung, t.values, [(r.seed, r.run_id, r.outcome, r.select_loss, r.loss_chain)
            for r in t.runs]) for t in trials]  # fmt: skip


def test_stopped_after_every_run_it_ends_as_if_it_never_was(tuned, tmp_path):
    bench, plans = tuned
    other = started(tmp_path)
    plan = other.plan("adamw-ref")
    assert plan == plans["adamw-ref"]
    stops, done = 0, False
    while not done:
        try:
            other.conductor(plan, Here(most=1)).evaluate()
            done = True
        except Stopped:
            stops += 1
    runs = [run for trial in bench.trials(plan) for run in trial.runs]
    assert stops == len(runs) + len(bench.records(plan)) - 1  # the last one ends the plan
    assert shape(other.trials(plan)) == shape(bench.trials(plan))
    losses = [{key: record.score_loss for key, record in one.records(plan).items()} for one in (other, bench)]
    assert losses[0] == losses[1]


def test_a_changed_task_or_entry_is_not_the_plans(tuned, tmp_path):
    _, plans = tuned
    other = started(tmp_path)
    other.task_path.write_text(other.task_path.read_text().replace("clip                     = 1.0", "clip = 2.0"))
    with pytest.raises(BenchError, match="the task has changed since the plan"):
        other.conductor(plans["muon"], Here())
    (tmp_path / "again").mkdir()
    other = started(tmp_path / "again")
    source = other.entry("muon").parent / "optimizer.py"
    source.write_text(source.read_text() + "\nCHANGED = 1\n")
    with pytest.raises(BenchError, match="the entry has changed since the plan"):
        other.conductor(plans["muon"], Here())


@pytest.mark.parametrize(
    ("was", "now", "named"),
    [("momentum            = 0.95", "momentum = 0.9", "momentum"), ("high    = 1.6e-1", "high = 0.2", "lr"),
     ("warmup_fraction = 0.1", "warmup_fraction = 0.25", "warmup_fraction")],
)  # fmt: skip
def test_values_and_ranges_edited_after_the_plan_are_refused_by_name(tuned, tmp_path, was, now, named):
    """The entry's digest holds neither: the plan would go on as it was, and the edit be passed over."""
    _, plans = tuned
    other = started(tmp_path)
    path = other.entry("muon")
    text = path.read_text()
    path.write_text(text.replace(was, now, 1))
    with pytest.raises(BenchError, match=rf"muon.toml: {named} changed since the plan {plans['muon'].digest[:16]}"):
        other.conductor(plans["muon"], Here())
    path.write_text(text)
    other.conductor(plans["muon"], Here())


def test_a_ladder_is_extended_and_what_was_made_stands(tmp_path):
    other = started(tmp_path)
    plan = with_tuning(other.plan("adamw-ref"), seeds=(1000,)).model_copy(update={"rungs": {"1x": (0,)}})
    added = plan.model_copy(update={"rungs": {"2x": (0,)}, "after": plan.digest, "adds_rungs": True})
    shutil.rmtree(other.board / "plans")
    for one in (plan, added):
        write_plan(other.board / "plans", one)
    with pytest.raises(BenchError, match="is not tuned"):
        other.conductor(added, Here()).evaluate()
    for one in (plan, added):
        other.conductor(one, Here()).evaluate()
    found = read_tuned(other.entry("adamw-ref"), "small", "adamw-ref")
    assert list(found.tuned["bf16"]) == ["1x", "2x"] and found.plan == plan.digest
    assert found.added == {added.digest: other.trials(added)[-1].digest} and len(other.trials(added)) >= 3
    assert set(other.records(added)) == {("tuned", 2.0, 0)}
    engine, text = Here(), tuned_path(other.entry("adamw-ref"), "small", "adamw-ref")
    held = text.read_bytes()
    for one in (plan, added, plan):  # the first plan's values are written again, and the others stay
        other.conductor(one, engine).evaluate()
    assert engine.given == [] and text.read_bytes() == held


def test_the_ladder_waits_for_the_tuning_and_a_plan_for_the_yardstick(tuned, tmp_path):
    bench, _ = tuned
    placebo = bench.plan("muon", placebo=1)
    with pytest.raises(BenchError, match="muon@1 has no tuned values on small"):
        bench.conductor(placebo, Here()).ladder()
    other = started(tmp_path)
    assert newest_yardstick(other.entry("adamw-ref"), "small", other.board / "plans") is None
    with pytest.raises(BenchError, match="the yardstick adamw-ref has no tuned values on this task"):
        other.plan("muon")


def test_a_plan_is_carried_out_by_one_process_at_a_time(tuned):
    bench, plans = tuned
    with (
        bench.conductor(plans["muon"], Here())._claimed(),
        pytest.raises(BenchError, match="is being carried out by another process"),
    ):
        bench.conductor(plans["muon"], Here()).evaluate()
    with bench.conductor(plans["muon"], Here())._claimed():
        pass  # free again


def test_a_placebo_has_records_of_its_own(tuned):
    bench, _ = tuned
    placebo = bench.plan("adamw", placebo=2)
    bench.conductor(placebo, Here()).tune()
    twin = bench.plan("adamw")
    assert bench.conductor(placebo, Here()).orders.run("tuned", 1.0, 0, {}).places.weights is None  # nothing reads them
    assert {run.seed for trial in bench.trials(placebo) for run in trial.runs} == {1200}
    assert read_tuned(bench.entry("adamw"), "small", "adamw@2").plan == placebo.digest
    assert read_tuned(bench.entry("adamw"), "small", "adamw") is None and placebo.digest != twin.digest
    names = {study.plan.entry for study in read_studies(bench.board, "small", placebo.task_digest)}
    assert {"adamw", "adamw@2", "adamw-ref", "muon"} <= names


def test_another_kind_of_machine_is_refused(tuned):
    bench, plans = tuned
    plan = plans["adamw-ref"].model_copy(update={"machine_kind": "0" * 64})
    with pytest.raises(BenchError, match="machine kind"):
        bench.conductor(plan, Here()).tune()


@pytest.mark.parametrize("lr", [1e30, 1e8])
def test_a_pilot_that_diverges_leaves_what_it_measured_and_ends_no_plan(tuned, tmp_path, lr):
    """At the larger rate no update's square is a number; at the other the steps before the end are kept."""
    bench, plans = tuned
    orders = bench.conductor(plans["muon"], Here()).orders
    job = orders.transfer(1.0, plans["muon"].tuning.seeds[0])
    job = replace(job, values={**job.values, "lr": lr}, places=replace(job.places, work=tmp_path))
    found = read_json(pilot(job), Sizes)
    assert "at step" in found.cause
    assert all(math.isfinite(size) for size in found.sizes.values()) and bool(found.sizes) is (lr == 1e8)


def test_a_ladder_goes_on_at_the_scales_that_it_began_with(tuned):
    """Whatever a pilot would measure under another harness, or in another clone: its file there is not there."""
    bench, plans = tuned
    began = read_tuned(bench.entry("muon"), "small", "muon").transfer["bf16"]["2x"]
    orders = bench.conductor(plans["muon"], Here()).orders
    orders = type(orders)(plans["muon"], orders.paths, lambda work, jobs: pytest.fail("it was measured anew"))
    scales = {f"transfer.{name}": value for name, value in orders.transfer(2.0, 0).transfer.items()}
    assert len(scales) > 1 and scales == {name: value for name, value in began.items() if name in scales}


def test_a_pilot_is_made_once(tuned):
    bench, plans = tuned
    made = sorted((bench.folder / "work" / "pilots").glob("*.json"))
    times = [path.stat().st_mtime_ns for path in made]
    bench.conductor(plans["muon"], Here()).evaluate()
    assert [path.stat().st_mtime_ns for path in made] == times and len(made) == 2 * 2 and pilot.__doc__
