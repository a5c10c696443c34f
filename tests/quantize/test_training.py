"""A run in a mode that quantizes: it trains, is scored as it trained, proves it, resumes and replays to the bit."""

import json
import subprocess
import sys

import pytest
import torch
from small import ADAMW, MUON, ROOT, make, places_in, write_task

from bench import checkpoint
from bench.assemble import HARNESS, Request
from bench.digest import digest_of
from bench.entry import Entry
from bench.errors import BenchError
from bench.mode import mode_names, read_mode
from bench.quantize import linear
from bench.quantize.proof import most_levels, why_inert
from bench.record import HEADER_BYTES, read_log, read_record
from bench.replay import replay
from bench.run import run
from bench.setting import Watch
from bench.task import read_task
from bench.verify import lint_record

ROUNDING = [name for name in mode_names() if read_mode(name).kind == "training" and read_mode(name).quantizes]


def train(task, folder, mode, entry=ADAMW, **more):
    found = Entry(entry)
    request = Request(task.stem, read_task(task), found, found.values({}), mode, 1.0, "declared", 0)
    return run(request, places_in(folder), Watch(), checkpoint_seconds=0.0, **more)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("mode", ROUNDING)
def test_a_run_says_what_was_rounded_and_replays_identical(tmp_path, mode, family):
    task = write_task(tmp_path, family=f'"{family}"')
    path = train(task, tmp_path, mode)
    record, rules = read_record(path), read_mode(mode)
    facts = record.facts.quantization
    assert record.outcome == "finished" and path.stat().st_size <= HEADER_BYTES
    assert facts.expected == facts.actual and facts.actual.count == (7 if family == "llama" else 4)
    assert facts.forwards == 1.0
    assert facts.blocks == ({"32": 32, "64": 64} if rules.hadamard else {"32": 1, "64": 1})
    for side, rule in ((facts.weights, rules.weights), (facts.activations, rules.activations)):
        assert side.bits == rule.bits and 2 <= side.levels[0] <= side.levels[1] <= 2**rule.bits
        assert (0 < side.clipped < 0.2) if rule.grid == "gaussian" else side.clipped == 0
        assert (0 < side.masked < side.clipped) if rules.gradient == "trust" else side.masked == 0
    assert abs(facts.float_score_loss - record.score_loss) < 1 and facts.float_score_loss != record.score_loss
    assert [tick.rule for tick in lint_record(record, read_task(task)) if tick.ok is False] == []
    again = replay(path, read_task(task), Entry(ADAMW), places_in(tmp_path), Watch())
    assert (again.verdict, again.differing) == ("identical", ())


def test_modes_train_to_different_weights_from_the_same_start_on_the_same_data(tmp_path):
    task = write_task(tmp_path)
    modes = ("bf16", "fp8", "qat-int8", "qat-w4a4", "qat-w4a4-absmax")
    records = [read_record(train(task, tmp_path, mode)) for mode in modes]
    assert len({r.weights.initial for r in records}) == len({r.chains.data for r in records}) == 1
    assert len({r.weights.final for r in records}) == len({r.run_id for r in records}) == len(modes)
    assert records[0].facts.quantization is None
    assert records[0].score_loss == read_record(make(task, ADAMW, tmp_path / "alone")).score_loss  # no mode leaks


class Killed(BaseException):
    """As a signal would: nothing catches it."""


def test_a_killed_run_resumes_to_the_bit(tmp_path, monkeypatch):
    task = write_task(tmp_path)
    straight = train(task, tmp_path / "straight", "qat-w4a4", MUON)
    save = checkpoint.save

    def save_and_die(folder, step, state):
        save(folder, step, state)
        if step >= 32:
            raise Killed

    monkeypatch.setattr(checkpoint, "save", save_and_die)
    with pytest.raises(Killed):
        train(task, tmp_path / "killed", "qat-w4a4", MUON)
    monkeypatch.setattr(checkpoint, "save", save)
    resumed = train(task, tmp_path / "killed", "qat-w4a4", MUON)
    one, other = read_record(straight), read_record(resumed)
    assert (one.chains, one.weights, one.facts, one.score_loss) == (
        other.chains, other.weights, other.facts, other.score_loss)  # fmt: skip
    assert read_log(straight, one).loss == read_log(resumed, other).loss


def test_a_mode_that_converts_nothing_is_inert_before_its_first_step(tmp_path, monkeypatch):
    monkeypatch.setattr("bench.assemble.convert", lambda model, mode: [])
    record = read_record(train(write_task(tmp_path), tmp_path, "qat-int8"))
    assert (record.outcome, record.steps) == ("inert", 0)
    assert record.cause == "0 layers are quantized, 7 expected, of the same names"


def test_a_mode_whose_quantizers_stay_off_is_inert(tmp_path, monkeypatch):
    def convert_and_forget(model, mode):
        linear.convert(model, mode)
        linear.enable(model, False)

    monkeypatch.setattr("bench.assemble.convert", convert_and_forget)
    record = read_record(train(write_task(tmp_path), tmp_path, "qat-int8"))
    assert (record.outcome, record.cause) == ("inert", "a layer was never quantized in a forward pass")


def test_too_many_levels_are_inert():
    rounding = {"bits": 2, "levels": [3, 5], "clipped": 0.0, "masked": 0.0}
    same = {"count": 1, "digest": digest_of("x")}
    facts = {"actual": same, "expected": same, "forwards": 1.0, "weights": None, "activations": rounding}
    assert why_inert(facts) == "activations have 5 levels in a row, more than 2 bits give"
    assert why_inert({**facts, "activations": {**rounding, "levels": [3, 4]}}) is None


def test_levels_are_those_of_the_richest_row():
    assert most_levels(torch.tensor([[1.0, 1.0, 1.0, 1.0], [0.0, 2.0, 0.0, 1.0]])) == 3


def test_checkpointed_activations_change_no_bit(tmp_path):
    records = []
    for name in ("false", "true"):
        (tmp_path / name).mkdir()
        task = write_task(tmp_path / name, activation_checkpointing=name)
        records.append(read_record(train(task, tmp_path / name, "qat-w4a4")))
    assert records[0].weights == records[1].weights
    assert records[0].facts.quantization == records[1].facts.quantization


def test_bf16_keeps_its_digest_and_a_rounding_mode_has_its_code_in_its_own():
    bf16 = read_mode("bf16")
    assert bf16.digest == digest_of({"kind": "training", "autocast": "bfloat16"})
    assert not [name for name in HARNESS if name.startswith("quantize/")]
    says = read_mode("qat-int8").model_dump(mode="json", exclude={"summary"}, exclude_none=True)
    assert read_mode("qat-int8").digest != digest_of(says)


def test_the_command_trains_in_a_mode_and_refuses_unknown_ones(tmp_path):
    line = [
        sys.executable,
        "-m",
        "bench",
        "run",
        str(write_task(tmp_path)),
        str(ADAMW),
        "--records",
        str(tmp_path / "r"),
    ]
    done = subprocess.run([*line, "--mode", "qat-w4a4", "--json"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and json.loads(done.stdout)["outcome"] == "finished", done.stderr
    refused = subprocess.run([*line, "--mode", "qat-w4a"], cwd=ROOT, capture_output=True, text=True)
    assert refused.returncode != 0 and "no mode qat-w4a; did you mean qat-w4a4?" in refused.stderr


def test_a_mode_of_finished_checkpoints_does_not_train(tmp_path, monkeypatch):
    (tmp_path / "modes").mkdir()
    (tmp_path / "modes" / "ptq.toml").write_text(
        'summary = ""\nkind = "after"\nautocast = "bfloat16"\nalgorithm = "round"\n'
        '[weights]\nbits = 4\ngrid = "absmax"\nover = "row"\n'
    )
    monkeypatch.setattr("bench.mode.MODES", tmp_path / "modes")
    with pytest.raises(BenchError, match="mode ptq acts on a finished checkpoint and cannot be used here"):
        train(write_task(tmp_path), tmp_path, "ptq")


def test_a_width_that_groups_do_not_divide_ends_before_the_run(tmp_path, monkeypatch):
    rules = read_mode("qat-int8")
    grouped = rules.model_copy(update={"weights": replace_over(rules.weights, 48)})
    monkeypatch.setattr("bench.assemble.read_mode", lambda name, kind=None: grouped)
    with pytest.raises(BenchError, match="groups of 48 do not divide its width 32"):
        train(write_task(tmp_path), tmp_path, "qat-int8")


def replace_over(operand, group):
    return operand.model_copy(update={"over": group})
