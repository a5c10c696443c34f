"""What counts as another processor's needs what shows that it may: records, trials, and the showing itself."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from small import places_in
from standins import OTHER, planned, record_of_another, request_of, shown

from bench.errors import BenchError
from bench.lint import lint_paths
from bench.record import read_record, seal
from bench.run import run
from bench.setting import Watch
from bench.standin import why_not_stood_in, why_not_tried
from bench.task import read_task

theirs = pytest.fixture(record_of_another)


def test_lint_asks_for_what_shows_that_a_record_may_count_as_another(theirs, tmp_path, monkeypatch):
    task, path = theirs
    proof, _ = shown(theirs, tmp_path, monkeypatch)
    leaderboard = tmp_path / "leaderboard"
    places = replace(places_in(tmp_path), records=leaderboard / "records")
    found = read_record(run(replace(request_of(task), seed=5), places, Watch()))
    (leaderboard / "versions.json").write_text(json.dumps({"small": {"1": read_task(task).digest}}))
    assert any("1 runs shown" in line for line in lint_paths([leaderboard]))
    assert why_not_stood_in(found, leaderboard) is None
    text = proof.read_text()
    proof.unlink()
    with pytest.raises(BenchError, match=f"is not shown to give the bits of {OTHER}"):
        list(lint_paths([leaderboard]))
    proof.write_text(text)
    path.unlink()
    with pytest.raises(BenchError, match="has no such record"):
        list(lint_paths([leaderboard / "standins"]))


def test_what_is_shown_of_one_algorithm_is_not_to_be_called_another_s(theirs, tmp_path, monkeypatch):
    proof, _ = shown(theirs, tmp_path, monkeypatch)
    table = json.loads(proof.read_text())
    table["shown"][0]["algorithm"] = "shampoo"
    proof.write_text(json.dumps(seal(table)))
    with pytest.raises(BenchError, match="has no such record"):
        list(lint_paths([tmp_path / "leaderboard" / "standins"]))


def test_a_file_beside_which_one_stands_is_found_from_there_too(theirs, tmp_path, monkeypatch):
    proof, _ = shown(theirs, tmp_path, monkeypatch)
    monkeypatch.chdir(proof.parent)
    assert [line.partition(":")[0] for line in lint_paths([Path(proof.name)])] == [proof.name]


@pytest.mark.parametrize(("mode", "fits"), [("bf16", True), ("qat-int8", False)])
def test_trials_are_asked_for_the_mode_that_they_trained_in(theirs, tmp_path, monkeypatch, mode, fits):
    proof, _ = shown(theirs, tmp_path, monkeypatch)
    plan = planned(tmp_path, theirs[0])[1]
    monkeypatch.setattr("bench.standin._run_by", lambda *_: {("adamw", "bf16"), ("adamw", "qat-int8")})
    made = SimpleNamespace(stand_in=json.loads(proof.read_text())["here"]["processor"])
    trial = SimpleNamespace(values={"lr": 0.1, "mode": mode}, runs=[made])
    why = why_not_tried(plan, [trial], tmp_path / "leaderboard")
    assert why is None if fits else "the bits of adamw in qat-int8" in why
