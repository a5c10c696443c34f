"""Replay: the same bits are called identical, other bits are found and named with their step."""

import dataclasses
import gzip
import json
import subprocess
import sys

import pytest
from small import ADAMW, ROOT, make, places_in, write_entry, write_task

from bench import replay as replays
from bench.digest import digest_of_bytes
from bench.entry import Entry
from bench.errors import BenchError
from bench.record import log_path, read_record, seal
from bench.replay import replay
from bench.setting import Watch, settle
from bench.task import read_task


def again(path, task, folder, entry=ADAMW, **more):
    return replay(path, read_task(task), Entry(entry), places_in(folder), Watch(), **more)


def test_all_of_a_run_and_its_first_steps_replay_identical(tmp_path):
    task = write_task(tmp_path)
    path = make(task, ADAMW, tmp_path)
    for steps in (None, 1, 20):
        result = again(path, task, tmp_path, steps=steps)
        assert (result.verdict, result.first_difference, result.notes) == ("identical", None, ())
    assert result.steps == 20


@pytest.mark.parametrize("eager", [False, True])
def test_a_compiled_run_is_replayed_compiled_unless_asked_for_without(tmp_path, monkeypatch, eager):
    """What compiling moves a loss by is so a figure that anybody can have of any record."""
    task, asked = write_task(tmp_path), []
    path = make(task, ADAMW, tmp_path)
    record = read_record(path)
    machine = record.machine.model_copy(update={"compiled": True})
    monkeypatch.setattr(replays, "read_record", lambda path: record.model_copy(update={"machine": machine}))
    monkeypatch.setattr(replays, "settle", lambda request, watch, compiled: asked.append(compiled) or settle(
        request, watch, False))  # fmt: skip
    result = again(path, task, tmp_path, steps=1, eager=eager)
    assert asked == [not eager] and "compiled is False here, True there" in result.notes


def forged(path, step: int, by: float):
    """Change the recorded loss at a step and seal the record again, as a dishonest party could."""
    log = json.loads(gzip.decompress(log_path(path).read_bytes()))
    log["loss"][step - 1] += by
    text = json.dumps(log, separators=(",", ":")).encode()
    log_path(path).write_bytes(gzip.compress(text, mtime=0))
    table = json.loads(path.read_text())
    path.write_text(json.dumps(seal({**table, "log": digest_of_bytes(text)})))


@pytest.mark.parametrize(
    ("by", "notes", "verdict"),
    [(0.01, [], "different"), (0.01, ["another machine"], "within band"), (0.2, ["another machine"], "different")],
)
def test_a_loss_that_does_not_come_back_is_found_with_its_step(tmp_path, monkeypatch, by, notes, verdict):
    task = write_task(tmp_path)
    path = make(task, ADAMW, tmp_path)
    forged(path, 11, by)
    monkeypatch.setattr("bench.replay.differences", lambda record, setting: notes)
    result = again(path, task, tmp_path, steps=20)
    assert (result.verdict, result.first_difference) == (verdict, 11)
    assert result.largest_gap == pytest.approx(by, rel=1e-4)
    assert again(path, task, tmp_path, steps=8).verdict == "identical"


FORGERIES = {
    "chains": {"loss": "0" * 64},
    "weights": {"evaluated": "0" * 64},
    "facts": {"passes": 0.5},
    "charged_tokens": 8192.0,
    "score_loss": 1.0,
    "outcome": "inert",
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_record_resealed_with_a_forged_part_is_found_by_its_name(tmp_path, name):
    value, task = FORGERIES[name], write_task(tmp_path)
    path = make(task, ADAMW, tmp_path)
    table = json.loads(path.read_text())
    table[name] = {**table[name], **value} if isinstance(value, dict) else value
    path.write_text(json.dumps(seal(table)))
    result = again(path, task, tmp_path)
    assert (result.verdict, result.differing) == ("different", (name,))


def test_a_log_without_steps_proves_nothing_and_is_refused(tmp_path):
    task = write_task(tmp_path)
    path = make(task, ADAMW, tmp_path)
    log = json.loads(gzip.decompress(log_path(path).read_bytes()))
    text = json.dumps({**log, "loss": [], "gradient_norm": [], "milestones": []}).encode()
    log_path(path).write_bytes(gzip.compress(text))
    path.write_text(json.dumps(seal({**json.loads(path.read_text()), "log": digest_of_bytes(text)})))
    with pytest.raises(BenchError, match="does not have the 64 steps"):
        again(path, task, tmp_path, steps=20)


def test_a_crash_replays_as_a_crash(tmp_path):
    body = (
        "class Strange(Optimizer):\n    def step(self):\n"
        "        self.calls = getattr(self, 'calls', 0) + 1\n        if self.calls > 20: raise KeyError('oops')\n\n"
        "def build(roles, hp, run):\n    return Strange([{'params': roles.matrices}], {'lr': 0.1})\n"
    )
    task, entry = write_task(tmp_path), write_entry(tmp_path, body)
    path = make(task, entry, tmp_path)
    result = again(path, task, tmp_path, entry)
    assert read_record(path).outcome == "crashed" and read_record(path).steps == 20
    assert (result.verdict, result.differing) == ("identical", ())
    assert again(path, task, tmp_path, entry, steps=20).verdict == "identical"  # all that the record has


@pytest.mark.parametrize("notes", [[], ["another machine"]])
def test_first_steps_that_fail_where_the_run_did_not_are_different(tmp_path, monkeypatch, notes):
    task = write_task(tmp_path)
    path = make(task, ADAMW, tmp_path)
    whole = replays.train

    def failing(parts, course, progress, *rest):
        whole(parts, dataclasses.replace(course, stop_after=7), progress, *rest)
        raise RuntimeError("no more")

    monkeypatch.setattr(replays, "train", failing)
    monkeypatch.setattr(replays, "differences", lambda record, setting: notes)
    result = again(path, task, tmp_path, steps=20)
    assert (result.verdict, result.steps, result.differing) == ("different", 7, ("outcome",))
    assert result.first_difference is None


def test_the_checkpoint_that_is_made_again_has_the_record_s_digest(tmp_path):
    task = write_task(tmp_path)
    path = make(task, ADAMW, tmp_path)
    kept = again(path, task, tmp_path, weights_folder=tmp_path / "weights").weights
    assert kept is not None and (kept / "model.safetensors").stat().st_size > 10_000
    table = json.loads(path.read_text())
    table["weights"]["evaluated"] = "0" * 64
    path.write_text(json.dumps(seal(table)))
    with pytest.raises(BenchError, match="not the record's"):
        again(path, task, tmp_path, weights_folder=tmp_path / "other")


def test_what_another_run_s_curve_passed_is_never_kept_under_the_record_s_name(tmp_path, monkeypatch):
    """At a common loss no digest of a record stands by the weights, so the run's last ones must answer for them."""
    task = write_task(tmp_path)
    task.write_text(f"common_losses = [5.0, 0.5]\n{task.read_text()}")
    path, weights = make(task, ADAMW, tmp_path, budget=0.5), tmp_path / "weights"  # where entries are tuned
    again(path, task, tmp_path, weights_folder=weights)
    run_id = read_record(path).run_id
    assert {home.name for home in weights.iterdir()} == {run_id, f"{run_id}@5"}
    monkeypatch.setattr(replays, "weights_digest", lambda model: "0" * 64)
    with pytest.raises(BenchError, match="not the record's"):
        again(path, task, tmp_path, weights_folder=tmp_path / "other")
    assert not list((tmp_path / "other").iterdir())


def test_a_task_or_an_entry_that_changed_is_refused(tmp_path):
    path = make(write_task(tmp_path), ADAMW, tmp_path)
    other = write_task(tmp_path, clip="0.5")
    with pytest.raises(BenchError, match="the task small has changed"):
        again(path, other, tmp_path)
    with pytest.raises(BenchError, match="the entry adamw has changed"):
        again(path, write_task(tmp_path), tmp_path, entry=ROOT / "baselines/sgd/sgd.toml")


def test_a_run_in_a_mode_whose_code_has_changed_since_is_refused(tmp_path):
    task = write_task(tmp_path)
    record = read_record(make(task, ADAMW, tmp_path))
    other = record.inputs.model_copy(update={"mode_digest": "0" * 64})
    with pytest.raises(BenchError, match="the mode bf16 has changed"):
        replays.request_of(record.model_copy(update={"inputs": other}), read_task(task), Entry(ADAMW))


def test_a_record_edited_by_hand_is_one_clear_line(tmp_path):
    path = make(write_task(tmp_path), ADAMW, tmp_path)
    path.write_text(path.read_text().replace('"outcome": "finished"', '"outcome": "diverged"'))
    done = subprocess.run(
        [sys.executable, "-m", "bench", "replay", str(path)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {path}: the record was changed") and "Traceback" not in done.stderr
    with pytest.raises(BenchError):
        read_record(path)


@pytest.mark.parametrize("text", ["# a readme", "", "[]", '{"schema": 1}', '{"run_id": "x", "schema": 2}'])
def test_a_file_that_is_no_record_is_told_so(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(BenchError, match="no record of schema 1"):
        read_record(tmp_path / "a.json")


def test_more_steps_than_the_record_has_are_refused(tmp_path):
    task = write_task(tmp_path)
    path = make(task, ADAMW, tmp_path)
    with pytest.raises(BenchError, match="the record has 64"):
        again(path, task, tmp_path, steps=65)
