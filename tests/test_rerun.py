"""A rerun takes a published plan's values and seeds that nobody chose; its plan is told from one that was chosen."""

import pytest
from planned import KIND, plan_of
from small import ROOT
from typer.testing import CliRunner

from bench.cli.main import app
from bench.errors import BenchError
from bench.ledger import Study
from bench.plan import add_modes, find_plans, read_plan, write_plan
from bench.record import is_record_name, read_record
from bench.rerun import FIRST_SEED, drawn_seed, rerun_plan
from bench.score.evidence import departures, looks_of

MERGE = "0" * 40


def test_seeds_come_from_the_merge_the_plan_and_the_place_and_from_nothing_else():
    plan = plan_of("muon")
    one, other = (rerun_plan(plan, merge, KIND, 1.0, "tuned", 3) for merge in (MERGE, "1" * 40))
    assert one == rerun_plan(plan, MERGE, KIND, 1.0, "tuned", 3) and one.rungs != other.rungs
    assert len(set(one.rungs["1x"])) == 3 and min(one.rungs["1x"]) >= FIRST_SEED
    assert one.rungs["1x"][:1] == rerun_plan(plan, MERGE, KIND, 1.0, "tuned", 1).rungs["1x"]
    assert drawn_seed(plan.digest, MERGE, "1x", 0) != drawn_seed(plan.digest, MERGE, "2x", 0)


def test_a_rerun_is_no_look_and_no_plan_of_the_author_s(tmp_path):
    plan = plan_of("muon")
    rerun = rerun_plan(plan, MERGE, KIND, 1.0, "transfer", 1)
    for one in (plan, rerun):
        assert read_plan(write_plan(tmp_path, one)) == one
    assert find_plans(tmp_path, "nano", "muon") == [plan]
    assert (rerun.look, rerun.tracks, rerun.after) == (plan.look, ("transfer",), plan.digest)
    assert [wanted[:3] for wanted in departures(rerun, []).missing] == [("transfer", "bf16", 1.0)]
    assert looks_of([Study(plan, ()), Study(rerun, ())]) == {"muon": 0}
    assert rerun_plan(plan.model_copy(update={"adds_rungs": True}), MERGE, KIND, 1.0, "tuned", 1).adds_rungs is False


def test_what_was_never_planned_cannot_be_run_again():
    plan = plan_of("muon")
    with pytest.raises(BenchError, match="has no runs at 8x on the tuned track"):
        rerun_plan(plan, MERGE, KIND, 8.0, "tuned", 1)
    with pytest.raises(BenchError, match="has no runs at 1x on the declared track"):
        rerun_plan(plan, MERGE, KIND, 1.0, "declared", 1)
    with pytest.raises(BenchError, match="is a rerun itself"):
        rerun_plan(rerun_plan(plan, MERGE, KIND, 1.0, "tuned", 1), MERGE, KIND, 1.0, "tuned", 1)
    with pytest.raises(BenchError, match="only adds modes"):
        rerun_plan(add_modes(plan, ("qat-int8",), "adamw-ref"), MERGE, KIND, 1.0, "tuned", 1)


def test_a_run_that_was_trained_rounded_is_not_run_again(monkeypatch):
    monkeypatch.chdir(ROOT)
    records = sorted((ROOT / "leaderboard" / "records").glob("*/*/*.json"))
    rounded = next(
        path for path in records if is_record_name(path.name) and read_record(path).inputs.mode == "qat-int8"
    )
    said = CliRunner().invoke(app, ["rerun", str(rounded)])
    assert isinstance(said.exception, BenchError) and "was trained in qat-int8" in said.exception.what


def test_a_published_plan_keeps_the_digest_of_its_name():
    paths = sorted((ROOT / "leaderboard" / "plans").glob("*/*.json"))
    assert paths and all(path.stem.endswith(read_plan(path).digest[:16]) for path in paths)
