"""What stands against a mode is known when it is planned: widths, the text's length, the device."""

import pytest
import torch
from small import ADAMW, ROOT, write_task
from typer.testing import CliRunner

from bench.cli.main import app
from bench.errors import BenchError
from bench.mode import Operand, mode_names, read_mode
from bench.quantize import fitting as module
from bench.quantize.fitting import fitting
from bench.quantize.linear import QuantLinear
from bench.task import read_task

CPU = torch.device("cpu")
CALIBRATED = ["ptq-mixed-3", "ptq-mixed-4", "ptq-w4-gptq", "ptq-w4a4-gptq"]


def fits(folder, *names, **changed):
    return fitting(read_task(write_task(folder, **changed)), names, folder / "data", CPU)


def test_every_mode_fits_every_task_that_is_there(monkeypatch):
    monkeypatch.setattr(module, "_sequences", lambda task, data: 128)  # their texts may not be at hand
    for path in sorted((ROOT / "tasks").glob("*.toml")):
        found = fitting(read_task(path), mode_names(), ROOT, CPU)
        assert found.against == {}, path.stem


def test_a_text_too_short_to_calibrate_on_stands_against_the_modes_that_do(tmp_path):
    found = fits(tmp_path, "bf16", "ptq-w4", *CALIBRATED, train_documents="12", context="64")
    assert sorted(found.against) == CALIBRATED and found.notes == ()
    assert {cause.partition(" has ")[0] for cause in found.against.values()} == {"the training text"}
    assert all(cause.endswith("sequences of 64 tokens, and it calibrates on 128") for cause in found.against.values())


def test_no_more_of_the_text_is_encoded_than_a_calibration_takes_and_what_is_prepared_is_counted(tmp_path):
    task = read_task(write_task(tmp_path))
    assert module._sequences(task, tmp_path / "data") >= 128 and not (tmp_path / "data").exists()
    whole = len(module.prepare(task.data, task.model.vocabulary, tmp_path / "data")["train"]) // 33
    assert module._sequences(task, tmp_path / "data") == whole > 128


def test_a_text_that_is_not_at_hand_is_a_note(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_MIRROR", str(tmp_path))
    found = fitting(read_task(ROOT / "tasks" / "nano.toml"), ["ptq-w4-gptq", "ptq-w4"], tmp_path / "data", CPU)
    assert found.against == {} and "ptq-w4-gptq: whether the text is long enough is not known" in found.notes[0]
    assert "the mirror has no such file" in found.notes[0]


def test_widths_that_no_whole_block_divides_are_said_and_groups_that_do_not_are_refused(tmp_path, monkeypatch):
    odd = {"width": "36", "heads": "2", "ffn": "52"}
    found = fits(tmp_path, "ptq-w4a4-hadamard", "qat-w4a4", "ptq-w4", **odd)
    assert found.against == {} and [note.partition(":")[0] for note in found.notes] == ["ptq-w4a4-hadamard", "qat-w4a4"]
    assert "36 in blocks of 4, 52 in blocks of 4, not of 128" in found.notes[0]
    groups = read_mode("ptq-w4").model_copy(update={"weights": Operand(bits=4, grid="absmax", over=24)})
    monkeypatch.setattr(module, "read_mode", lambda name: groups)
    assert "groups of 24 do not divide its width 36" in fits(tmp_path, "ptq-w4", **odd).against["ptq-w4"]


def test_a_mode_that_the_device_lacks_an_operation_for_is_refused(tmp_path, monkeypatch):
    def lacking(self, x):
        raise NotImplementedError('"mul" not implemented for Float8_e4m3fn\nand more')

    monkeypatch.setattr(QuantLinear, "forward", lacking)
    assert fits(tmp_path, "fp8").against["fp8"] == (
        'it does not run on this device (cpu): "mul" not implemented for Float8_e4m3fn'
    )


@pytest.mark.parametrize("modes", [[], ["--modes", "ptq-w4,ptq-w4-gptq"]], ids=["standard", "named"])
def test_a_plan_is_refused_in_one_line_and_nothing_is_written(tmp_path, modes):
    task = write_task(tmp_path, train_documents="12", context="64")
    reference = ADAMW.with_name("adamw-ref.toml")
    words = ["plan", str(task), str(reference), "--leaderboard", str(tmp_path / "board")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCH_DATA", str(tmp_path / "data"))
        said = CliRunner().invoke(app, [*words, "--baselines", str(ROOT / "baselines"), *modes]).exception
    assert isinstance(said, BenchError) and "ptq-w4-gptq" in said.what and "\n" not in said.what
    assert "it calibrates on 128" in said.what and "--modes" in said.hint and "ptq-w4" in said.hint
    assert not (tmp_path / "board").exists()
