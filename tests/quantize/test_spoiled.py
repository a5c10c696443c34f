"""Weights and files that are no good: a typed outcome, one line, nothing lost."""

import os
import signal
import subprocess
import sys

import pytest
import torch
from checkpoints import model_of
from small import ADAMW, ROOT, make, write_task

from bench.battery.tiny import TINY, batch_at
from bench.children import quantized_path, read_quantized
from bench.diagnosis import check_diagnosis, diagnosis_path
from bench.errors import BenchError
from bench.evaluate.after import measure_modes
from bench.evaluate.weights import Checkpoint
from bench.mode import check_mode, mode_names, read_mode
from bench.places import check_writable
from bench.quantize.calibration import Calibration

AFTER = [name for name in mode_names() if read_mode(name).kind == "after"]
SCORE = batch_at(100).numpy()
CALIBRATION = Calibration(torch.cat([batch_at(step) for step in range(2)]).numpy())


@pytest.mark.parametrize("where", ["model.layers.0.self_attn.q_proj.weight", "model.embed_tokens.weight"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_have_a_loss_that_is_none_or_fail_with_their_cause(where, value):
    def spoiled():
        model = model_of(TINY)
        with torch.no_grad():
            model.get_parameter(where)[0, 0] = value
        return model

    floats = spoiled()
    checkpoint = Checkpoint(spoiled, lambda name: floats.get_submodule(name).weight.detach())
    found = {name: one for name, one, _ in measure_modes(checkpoint, AFTER, CALIBRATION, SCORE, 4, "a" * 64)}
    assert list(found) == AFTER
    for name, one in found.items():
        if read_mode(name).algorithm == "round":
            assert one.loss is None and one.degradation is None
        else:
            assert "no number" in one.cause or "not all numbers" in one.cause


def test_a_mode_that_does_not_fit_how_a_run_was_trained_is_refused():
    assert check_mode("ptq-w4", "bf16").quantizes and not check_mode("bf16", "qat-w4a4").quantizes
    assert check_mode("qat-w4a4", "qat-w4a4").kind == "training"
    for mode, trained, said in (
        ("qat-int8", "bf16", "mode qat-int8 is one of training, and this record was trained in bf16"),
        ("ptq-w4", "qat-w4a4", "mode ptq-w4 acts on runs in float, and this record was trained in qat-w4a4"),
        ("ptq-w5", "bf16", "no mode ptq-w5; did you mean ptq-w4"),
    ):
        with pytest.raises(BenchError, match=said):
            check_mode(mode, trained)


def test_a_folder_that_may_not_be_written_is_known_before_anything_is_measured(tmp_path, monkeypatch):
    check_writable(tmp_path / "record.json")
    monkeypatch.setattr(os, "access", lambda path, how: False)
    with pytest.raises(BenchError, match="may not be written"):
        check_writable(tmp_path / "record.json")


def test_a_kill_between_two_modes_loses_neither(tmp_path):
    task = write_task(tmp_path, train_documents="3000")
    record = make(task, ADAMW, tmp_path, weights=tmp_path / "weights")
    words = [sys.executable, "-u", "-m", "bench", "quantize", str(record), "ptq-w4", "ptq-w3", "ptq-w4", "ptq-w8a8"]
    words += ["--tasks", str(tmp_path), "--weights", str(tmp_path / "weights")]
    setting = {"cwd": ROOT, "env": {**os.environ, "BENCH_DATA": str(tmp_path / "data")}, "text": True}
    killed = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, **setting)
    assert "ptq-w4: " in killed.stderr.readline()
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    before = read_quantized(quantized_path(record))
    assert "ptq-w4" in before.modes
    said = subprocess.run(words, capture_output=True, check=True, **setting)
    now = read_quantized(quantized_path(record))
    assert set(now.modes) == {"ptq-w4", "ptq-w3", "ptq-w8a8"} and now.modes["ptq-w4"] == before.modes["ptq-w4"]
    assert set(check_diagnosis(now, diagnosis_path(record)).modes) == set(now.modes)
    assert "ptq-w4: " not in said.stderr and not [path for path in record.parent.iterdir() if "partial" in path.name]
