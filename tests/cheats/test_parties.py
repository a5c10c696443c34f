"""Who made records, by which harness, and what they did to the weights: what a reader of a submission is told."""

import shutil

import pytest
from synthetic import record

from bench.assemble import harness_digest
from bench.cli.submit import bundle
from bench.digest import digest_of
from bench.errors import BenchError
from bench.plan import write_plan
from bench.record import read_record
from bench.rerun import rerun_plan
from bench.submission.harness import own_harness
from bench.submission.judge import verify
from bench.submission.values import sizes_apart

OTHER = digest_of("other")


def test_updates_on_the_transfer_track_that_have_not_the_yardstick_s_size_are_remarked_on_once_a_rung():
    def run(entry, budget, seed, size, track="transfer"):
        made = record(entry, "0" * 64, budget, seed, track=track)
        return made.model_copy(update={"facts": made.facts.model_copy(update={"update_rms": {"hidden": size}})})

    theirs = [run("adamw-ref", budget, seed, 0.002, "tuned") for budget in (1.0, 2.0) for seed in range(3)]
    honest = {f"{seed}": run("muon", 1.0, seed, 0.002 * factor) for seed, factor in enumerate((0.85, 1.0, 1.2))}
    assert list(sizes_apart(honest, theirs)) == []
    off = {**honest, "a": run("muon", 1.0, 3, 0.005), "b": run("muon", 1.0, 4, 0.009), "c": run("muon", 2.0, 0, 0.0)}
    told = dict(sizes_apart(off, theirs))
    unranked = "a row whose steps are off by a factor above 1.25 is not ranked"
    assert told == {"a": f"0.005 on the transfer track, the yardstick's at 1x is 0.002: {unranked}",
                    "c": f"0 on the transfer track, the yardstick's at 2x is 0.002: {unranked}"}  # fmt: skip
    assert list(sizes_apart({"t": run("muon", 1.0, 0, 0.5, "tuned")}, theirs)) == []


def test_a_version_of_the_harness_that_nobody_knows_is_remarked_on_once(forgery, tmp_path):
    assert own_harness() == harness_digest()
    base = tmp_path / "base"
    shutil.copytree(forgery.clone.root, base, ignore=shutil.ignore_patterns("runs", "records"))
    first = forgery.records[:2]
    for path in first:
        forgery.forge(lambda facts: facts["inputs"].update(harness=OTHER), path)
    told = verify(forgery.folder, base)
    remarks = [remark for remark in told.remarks if remark.key == "inputs.harness"]
    assert not told.findings and len(remarks) == 1 and remarks[0].reason.startswith(f"{OTHER[:12]} is neither")


def test_a_trial_of_an_unknown_version_of_the_harness_is_remarked_on(clone, forgery):
    forgery.forge_ledger(lambda trials: trials[3]["runs"][0].update(run_id=OTHER))
    (remark,) = verify(forgery.folder, clone.root).remarks
    assert remark.key == "line 4" and remark.reason.endswith("explains 1 of the run_ids")


def rerun_by(f, who):
    """Put a rerun into the bundle whose record is one of the author's under another seed, and return its name."""
    later = rerun_plan(f.clone.plan, "0" * 40, f.clone.plan.machine_kind, 1.0, "tuned", 1)
    write_plan(f.folder / "leaderboard" / "plans", later)
    home = f.folder / "leaderboard" / "records" / "small" / later.digest[:16]
    home.mkdir()
    first = f.record
    copy = home / first.name
    for suffix in (".json", ".log.gz"):
        shutil.copy(first.with_suffix(suffix), copy.with_suffix(suffix))
    seed = later.rungs["1x"][0]
    path = f.forge(lambda facts: facts["inputs"].update(seed=seed) or facts.update(plan=later.digest, who=who), copy)
    return path.relative_to(f.folder).as_posix()


@pytest.mark.parametrize("who", ["the author", "a keeper", "another"])
def test_an_author_s_own_rerun_is_refused_and_a_keeper_s_is_remarked_on(clone, forgery, monkeypatch, who):
    monkeypatch.setattr("bench.submission.study.read_maintainers", lambda leaderboard: frozenset({"a keeper"}))
    name = rerun_by(forgery, read_record(forgery.record).who if who == "the author" else who)
    told = verify(forgery.folder, clone.root)
    assert [found.file for found in told.findings if found.key == "who"] == [name] * (who == "the author")
    assert [found.file for found in told.remarks if found.key == "who"] == [name] * (who == "a keeper")


def test_a_record_that_counts_as_another_processor_s_unshown_is_refused(forgery):
    """A machine that nobody showed to be the plan's says that it stands for it: run_id and kind stay as planned."""

    def claim(facts):
        own = {name: facts["machine"][name] for name in ("processor", "instructions", "switches")}
        facts["machine"] |= {"processor": "a faster one", "stands_for": own}

    name = forgery.forge(claim).name
    assert any(name in said and "a faster one is not shown to give the bits of" in said for said in forgery.said())


def test_a_plan_on_an_older_version_of_the_task_is_no_part_of_a_bundle(clone, tmp_path):
    root = tmp_path / "clone"
    shutil.copytree(clone.root, root, ignore=shutil.ignore_patterns("runs"))
    task, target = root / "tasks" / "small.toml", tmp_path / "sent"
    task.write_text(task.read_text().replace("version = 1", "version = 2"))
    with pytest.raises(BenchError, match="has no plan on this version of small"):
        bundle(task, clone.plan.entry, target, root / "leaderboard", root / "baselines")
    assert not target.exists()
