"""Weights kept by the run itself: those its record was evaluated at, whole or not there."""

import pytest
import torch
from safetensors.torch import load_file
from small import ADAMW, make, write_task

from bench.battery.tiny import CONTEXT, TINY
from bench.errors import BenchError
from bench.evaluate.weights import forget, keep, kept, read_model, read_weight, restored
from bench.model import build_model, export_model, weights_digest
from bench.quantize.linear import expected
from bench.record import read_record
from bench.task import read_task


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A task, a record of it, and the folder with the run's weights."""
    folder = tmp_path_factory.mktemp("kept")
    task = write_task(folder, tokens="2_048")
    return task, make(task, ADAMW, folder, weights=folder / "weights"), folder / "weights"


def test_a_finished_run_keeps_the_weights_it_was_evaluated_at(made):
    task, path, weights = made
    record = read_record(path)
    assert [item.name for item in weights.iterdir()] == [record.run_id]
    model = restored(record, read_task(task), weights, path)
    assert weights_digest(model) == record.weights.evaluated and kept(weights, record.run_id)


def test_none_are_kept_of_a_run_that_diverged_or_rounds(tmp_path):
    task, weights = write_task(tmp_path, tokens="2_048"), tmp_path / "weights"
    paths = [
        make(task, ADAMW, tmp_path, weights=weights, values={"lr": 1e6}),
        make(task, ADAMW, tmp_path, weights=weights, mode="qat-int8"),
        make(task, ADAMW, tmp_path),
    ]
    assert [read_record(path).outcome for path in paths] == ["diverged", "finished", "finished"]
    assert not weights.exists()


def test_what_a_kill_left_is_neither_read_nor_in_the_way(made, tmp_path, monkeypatch):
    task, path, weights = made
    record, task = read_record(path), read_task(task)
    model = restored(record, task, weights, path)
    monkeypatch.setattr("os.replace", lambda draft, folder: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        keep(model, tmp_path, record.run_id)
    assert not kept(tmp_path, record.run_id) and list(tmp_path.iterdir())
    monkeypatch.undo()
    for _ in range(2):  # over those that are there, too
        keep(model, tmp_path, record.run_id)
        assert weights_digest(restored(record, task, tmp_path, path)) == record.weights.evaluated
    forget(tmp_path, record.run_id)
    assert not kept(tmp_path, record.run_id) and not list(tmp_path.iterdir())
    with pytest.raises(BenchError, match="the record's weights are not here"):
        restored(record, task, tmp_path, path)


@pytest.mark.parametrize("shard", ["50GB", "20KB"])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_one_layers_weight_is_read_as_the_whole_models_is(tmp_path, family, shard):
    model = build_model(TINY.model_copy(update={"family": family}), CONTEXT, seed=0)
    export_model(model, tmp_path)
    if shard == "20KB":
        state = {name: weight.clone() for name, weight in load_file(tmp_path / "model.safetensors").items()}
        (tmp_path / "model.safetensors").unlink()
        model.save_pretrained(tmp_path, state_dict=state, max_shard_size=shard)
    assert len(list(tmp_path.glob("*.safetensors"))) > 1 or shard == "50GB"
    whole = read_model(tmp_path, TINY.attention)
    for name in expected(model):
        weight, same = read_weight(tmp_path, name), whole.get_submodule(name).weight
        assert torch.equal(weight, same) and weight.stride() == same.stride()
    for path in tmp_path.glob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(BenchError, match="the weights cannot be read"):
        read_weight(tmp_path, name)
