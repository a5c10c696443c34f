"""The modes of a finished checkpoint: what they do to the weights, on models of both families, and beside a record."""

import csv
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import lying, model_of
from small import ADAMW, make, write_task
from typer.testing import CliRunner

from bench.battery.tiny import TINY, batch_at
from bench.children import MODE_BYTES, AfterTraining, Quantized, quantized_path, read_quantized, write_quantized
from bench.diagnose.quantization import diagnose
from bench.errors import BenchError
from bench.evaluate import after
from bench.evaluate.after import measure_mode, measure_modes, perplexity, scored
from bench.evaluate.finished import measure_finished, unmeasured
from bench.lint import lint_paths
from bench.mode import Operand, mode_names, read_mode
from bench.quantize.after import apply
from bench.quantize.arithmetic import quantize
from bench.quantize.calibration import Calibration
from bench.quantize.linear import expected, quantized
from bench.quantize.proof import most_levels
from bench.record import find_records
from bench.task import read_task

AFTER = [name for name in mode_names() if read_mode(name).kind == "after"]
GPT2 = TINY.model_copy(update={"family": "gpt2"})
ODD = TINY.model_copy(update={"width": 36, "ffn": 52})  # 36 = 4 x 9 and 52 = 4 x 13: blocks of 4
SPECS = pytest.mark.parametrize("spec", [TINY, GPT2, ODD], ids=["llama", "gpt2", "odd"])
SCORE = torch.cat([batch_at(step) for step in range(100, 103)])[:20].numpy()  # no whole number of batches of 8
CALIBRATION = Calibration(torch.cat([batch_at(step) for step in range(2)]).numpy())


def test_the_modes_that_were_agreed_are_there():
    agreed = {"ptq-w8a8", "ptq-w4", "ptq-w3", "ptq-w4a4", "ptq-w4a4-hadamard", "ptq-w4-gptq", "ptq-w4a4-gptq",
              "ptq-mixed-4", "ptq-mixed-3"}  # fmt: skip
    assert agreed <= set(AFTER)
    assert len({read_mode(name).digest for name in AFTER}) == len(AFTER)


@SPECS
@pytest.mark.parametrize("name", AFTER)
def test_every_mode_measures_every_family_and_proves_what_it_did(spec, name):
    ((_, found, told),) = measure_modes(lying(spec), [name], CALIBRATION, SCORE, 8, "a" * 64)
    mode, proof = read_mode(name), found.quantization
    assert proof.float_score_loss == scored(model_of(spec), SCORE, 8)
    assert found.loss != proof.float_score_loss
    assert found.degradation == found.loss - proof.float_score_loss
    assert found.perplexity == math.exp(found.loss)
    assert proof.expected == proof.actual and proof.actual.count == (4 if spec is GPT2 else 7) * spec.layers
    assert proof.forwards == 1.0
    assert (proof.activations is None) == (mode.activations is None)
    if mode.algorithm != "hawq":
        assert proof.weights.bits == mode.weights.bits and proof.weights.levels[1] <= 2**mode.weights.bits - 1
    assert (found.gptq is not None, found.hawq is not None) == (mode.algorithm == "gptq", mode.algorithm == "hawq")
    assert found.calibration == (CALIBRATION.digest if mode.algorithm != "round" else None)
    assert set(proof.blocks.values()) == ({4} if mode.hadamard and spec is ODD else {32, 64} if mode.hadamard else {1})
    assert len(found.model_dump_json()) < MODE_BYTES
    short = found.diagnosis
    assert short.digest == told.digest and told.block == (mode.hadamard or 0)
    assert told.propagation["module"][-1] == "head" and short.error == told.propagation["R"][-1] > 0
    kurtoses = [value for part in told.weights.values() for value in part["kurtosis"]]
    assert len(kurtoses) == proof.actual.count and short.weights.kurtosis == pytest.approx(np.mean(kurtoses), rel=1e-3)


@SPECS
@pytest.mark.parametrize("name", ["ptq-w4", "ptq-w3", "ptq-w8a8"])
def test_to_nearest_the_weights_are_those_of_a_reference_in_float64(spec, name):
    model, reference = model_of(spec), model_of(spec)
    apply(model, read_mode(name), None)
    half = 2 ** (read_mode(name).weights.bits - 1) - 1
    for layer_name, layer in quantized(model):
        w = reference.get_submodule(layer_name).weight.detach().numpy().astype(np.float64)
        step = np.abs(w).max(axis=1, keepdims=True) / half
        nearest = np.rint(w / step)
        clear = np.abs(w / step - np.floor(w / step) - 0.5) > 1e-5  # halfway, fp32 and float64 may part
        assert clear.mean() > 0.99
        np.testing.assert_allclose(layer.weight.detach().numpy()[clear], (nearest * step)[clear], rtol=1e-6, atol=1e-9)
    untouched = set(dict(model.named_parameters())) - {f"{n}.weight" for n in expected(model)}
    assert all(torch.equal(model.get_parameter(n), reference.get_parameter(n)) for n in untouched)


@pytest.mark.parametrize("name", ["ptq-mixed-4", "ptq-mixed-3"])
def test_each_layer_of_a_mixed_mode_has_the_levels_of_its_own_bits(name):
    model = model_of(TINY)
    told = apply(model, read_mode(name), CALIBRATION).hawq
    for layer_name, layer in quantized(model):
        block, _, part = layer_name.removeprefix("model.layers.").partition(".")
        bits = int(told["bits"][part][int(block)])
        assert layer.weight_rule[0] == bits and most_levels(layer.weight.detach()) <= 2**bits - 1


def test_the_same_arguments_give_the_same_bits():
    first, second = (
        measure_mode(model_of(GPT2), lying(GPT2).weight, "ptq-mixed-3", CALIBRATION, SCORE, 8, 1.0) for _ in range(2)
    )
    assert first == second


def test_a_loss_that_is_no_number_is_null():
    model = model_of(TINY)
    with torch.no_grad():
        model.get_output_embeddings().weight.fill_(float("nan"))
    assert scored(model, SCORE, 8) is None
    assert perplexity(None) is None and perplexity(800.0) is None


def test_a_mode_whose_layers_did_not_round_is_refused(monkeypatch):
    monkeypatch.setattr(after, "why_inert", lambda facts: "a layer was never quantized in a forward pass")
    with pytest.raises(BenchError, match="mode ptq-w4: a layer was never quantized"):
        measure_mode(model_of(TINY), lying(TINY).weight, "ptq-w4", None, SCORE, 8, 1.0)
    with pytest.raises(BenchError, match="mode qat-w4a4 is one of training"):
        measure_mode(model_of(TINY), lying(TINY).weight, "qat-w4a4", None, SCORE, 8, 1.0)


@pytest.mark.parametrize(("bits", "name"), [(4, "ptq-w4a4"), (8, "ptq-w8a8"), (3, "ptq-w3")])
@pytest.mark.parametrize("shape", [(48, 16), (16, 48), (7, 33)], ids=str)
def test_absmax_is_nvidia_modelopts_to_a_millionth(bits, name, shape):
    pytest.importorskip("modelopt.torch.quantization", reason="needs nvidia-modelopt, which the extra test installs")
    from modelopt.torch.quantization.config import QuantizerAttributeConfig
    from modelopt.torch.quantization.nn import TensorQuantizer

    theirs = TensorQuantizer(QuantizerAttributeConfig(num_bits=bits, type="dynamic", block_sizes={-1: None}))
    x = torch.randn(shape, generator=torch.Generator().manual_seed(bits))
    mode = read_mode(name)
    ours = quantize(x, mode.weights.bits, mode.weights.grid)
    assert float((ours - theirs(x)).abs().max()) <= 1e-6 * float(x.abs().max())
    assert not torch.equal(ours, x)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A record, and the folder that its task and its text lie in."""
    folder = tmp_path_factory.mktemp("made")
    task = write_task(folder, train_documents="3000")
    return folder, make(task, ADAMW, folder)


def call(made, *arguments):
    from bench.cli.main import app

    folder, record = made
    home = ["--tasks", str(folder), "--weights", str(folder / "weights")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCH_DATA", str(folder / "data"))
        return CliRunner().invoke(app, ["quantize", str(record), *arguments, *home])


def test_the_verb_replays_measures_writes_one_child_record_and_adds_to_it(made):
    _, record = made
    missing = call(made, "ptq-w4")
    assert isinstance(missing.exception, BenchError) and "bench replay" in str(missing.exception)
    first = call(made, "ptq-w4", "ptq-w4-gptq", "--replay")
    assert first.exit_code == 0, first.exception
    assert "ptq-w4-gptq" in first.stdout and "degradation" in first.stdout
    path = quantized_path(record)
    before = read_quantized(path)
    assert before.run_id == record.stem and sorted(before.modes) == ["ptq-w4", "ptq-w4-gptq"]
    second = call(made, "ptq-w4", "ptq-mixed-4", "--format", "json")
    assert second.exit_code == 0, second.exception
    now = read_quantized(path)
    assert sorted(now.modes) == ["ptq-mixed-4", "ptq-w4", "ptq-w4-gptq"] and json.loads(second.stdout)["run_id"]
    assert now.modes["ptq-w4"] == before.modes["ptq-w4"]  # not measured anew
    float_loss = now.modes["ptq-w4"].quantization.float_score_loss
    assert float_loss == pytest.approx(json.loads(record.read_text())["score_loss"], abs=1e-6)
    assert "ptq-mixed-4: " in second.stderr and "ptq-w4: " not in second.stderr
    assert "ptq-w4: " in call(made, "ptq-w4", "--again").stderr
    assert read_quantized(path).modes["ptq-w4"].loss == before.modes["ptq-w4"].loss


def test_the_child_record_is_no_record_and_one_edited_by_hand_is_refused(made):
    _, record = made
    path = quantized_path(record)
    call(made, "ptq-w4", "--replay")
    assert [line for line in lint_paths([record.parent]) if "ptq-w4" in line and record.name in line]
    assert find_records([record.parent]) == [record]
    path.write_text(path.read_text().replace('"ptq-w4"', '"ptq-w3"', 1))
    with pytest.raises(BenchError, match="changed after it was written"):
        read_quantized(path)
    path.unlink()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["ptq-w5"], "no mode ptq-w5; did you mean ptq-w4"),
        (["qat-w4a4"], "mode qat-w4a4 is one of training and cannot be used here"),
    ],
)
def test_what_cannot_be_done_is_one_line(made, arguments, said):
    assert said in str(call(made, *arguments).exception)


def test_a_calibration_text_that_is_too_short_fails_the_modes_that_need_it_and_no_others(tmp_path):
    task = write_task(tmp_path, train_documents="12", context="64")
    made = tmp_path, make(task, ADAMW, tmp_path)
    said = call(made, "ptq-w4-gptq", "ptq-mixed-3", "ptq-w4", "--replay", "--format", "csv")
    assert "could not be measured: ptq-w4-gptq: a training text of" in str(said.exception)
    assert "too short to calibrate on: 128 are needed" in str(said.exception)
    child = read_quantized(quantized_path(made[1]))
    assert set(child.modes) == {"ptq-w4"} and set(child.failed) == {"ptq-w4-gptq", "ptq-mixed-3"}
    lines = list(csv.DictReader(io.StringIO(said.stdout)))
    assert [line["mode"] for line in lines] == ["ptq-w4", "ptq-w4-gptq", "ptq-mixed-3"]
    assert all(None not in line for line in lines) and float(lines[0]["loss"]) == child.modes["ptq-w4"].loss
    assert lines[1]["cause"] == child.failed["ptq-w4-gptq"].cause and str(tmp_path) not in lines[1]["cause"]
    assert unmeasured(made[1], ["ptq-w4-gptq", "ptq-w4"]) == []
    definition = read_task(task)
    other = definition.model_copy(update={"version": definition.version + 1})
    with pytest.raises(BenchError, match="another version of the task"):
        list(measure_finished(made[1], other, ["ptq-w4"], tmp_path / "weights", tmp_path / "data"))


def test_a_mode_that_refuses_the_model_fails_and_the_next_is_measured(monkeypatch):
    groups = read_mode("ptq-w4").model_copy(update={"weights": Operand(bits=4, grid="absmax", over=24)})
    monkeypatch.setattr(after, "read_mode", lambda name, kind=None: groups if name == "ptq-w4" else read_mode(name))
    diagnosed = []

    def watched(model, mode, *rest):
        diagnosed.append(mode)
        return diagnose(model, mode, *rest)

    monkeypatch.setattr(after, "diagnose", watched)
    first, second = measure_modes(lying(TINY), ["ptq-w4", "ptq-w3"], None, SCORE, 8, "a" * 64)
    assert "groups of 24 do not divide its width" in first[1].cause and first[1].mode_digest == groups.digest
    assert second[0] == "ptq-w3" and second[1].loss and diagnosed == [read_mode("ptq-w3")]  # refused before it


def test_layers_that_fell_back_are_said():
    ((_, found, _),) = measure_modes(lying(TINY), ["ptq-w4-gptq"], CALIBRATION, SCORE, 8, "a" * 64)
    count = found.quantization.actual.count
    assert found.fallen_back is None
    fallen = found.model_copy(update={"gptq": found.gptq.model_copy(update={"fallbacks": 3})})
    told = f"3 of {count} layers fell back to rounding to nearest"
    facts = {"schema": 1, "run_id": "b" * 64, "weights": "c" * 64, "digest": "d" * 64, "modes": {"ptq-w4-gptq": fallen}}
    assert Quantized.model_validate(facts).spoilt(["ptq-w4-gptq"]) == [f"ptq-w4-gptq: {told}"]


def test_a_mode_takes_at_most_four_kilobytes_whatever_the_model(tmp_path, made):
    ((_, found, _),) = measure_modes(lying(TINY), ["ptq-mixed-4"], CALIBRATION, SCORE, 8, "a" * 64)
    parts = dict.fromkeys(found.hawq.bits, "8" * 96)
    large = AfterTraining.model_validate(found.model_dump() | {"hawq": found.hawq.model_dump() | {"bits": parts}})
    path = tmp_path / f"{'b' * 64}.quantized.json"
    write_quantized(path, "b" * 64, "c" * 64, "ptq-mixed-4", large)
    assert Path(path).stat().st_size <= MODE_BYTES + 400
