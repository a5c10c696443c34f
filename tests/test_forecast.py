"""The forecast: hours, money and memory are what the formulas say, and what a person asks wrongly is one line."""

import json
from functools import partial

import pytest
import torch
from small import ROOT

import bench.model
from bench.claims import build_rest
from bench.devices import DEVICES, device_named, device_reported
from bench.errors import BenchError
from bench.forecast import Purchase, forecast, render_forecast
from bench.memory import LARGE_VOCABULARY, PIECE_TOKENS, largest_micro_batch, step_memory
from bench.model import build_model, sequence_losses
from bench.roles import roles_of
from bench.task import read_task

TASKS = sorted((ROOT / "tasks").glob("*.toml"))
GPT2 = read_task(ROOT / "tasks" / "gpt2-124m.toml")


@pytest.mark.parametrize("path", TASKS, ids=lambda path: path.stem)
def test_every_task_has_a_forecast(path):
    task = read_task(path)
    facts = forecast(path.stem, task, Purchase("h200", price=3.0))
    assert json.loads(json.dumps(facts)) == facts
    assert [rung["rung"] for rung in facts["rungs"]] == [f"{rung:g}x" for rung in task.budget.rungs]
    assert facts["memory_bytes"] == sum(facts["memory"].values())
    assert facts["device"]["fits"], "every task fits one H200"
    assert "cost" in render_forecast(facts)


def test_hours_and_cost_follow_from_operations():
    facts = forecast("gpt2-124m", GPT2, Purchase("h100", devices=8, price=2.5, mfu=0.5))
    rung = next(rung for rung in facts["rungs"] if rung["rung"] == "1x")
    assert rung["flops"] == pytest.approx(1_698_693_120 * 798e6, rel=1e-3)
    assert rung["device_hours"] == pytest.approx(rung["flops"] / (0.5 * 989e12) / 3600)
    assert rung["wall_hours"] == rung["device_hours"] / 8
    assert rung["cost"] == rung["device_hours"] * 2.5


def test_without_a_device_no_hours_and_without_a_price_no_cost():
    bare, priceless = forecast("gpt2-124m", GPT2), forecast("gpt2-124m", GPT2, Purchase("h100"))
    assert bare["device"] is None and bare["rungs"][0]["device_hours"] is None
    assert priceless["rungs"][0]["device_hours"] > 0 and priceless["rungs"][0]["cost"] is None
    assert "hours" not in render_forecast(bare) and "cost" not in render_forecast(priceless)


def test_the_assumed_mfu_is_said_to_be_assumed():
    assert "at 40% of 989 bf16 TFLOP/s: an assumption" in render_forecast(forecast("g", GPT2, Purchase("h100")))


@pytest.mark.parametrize(("purchase", "what"), [
    (Purchase("h10"), "no such device is known; did you mean h100?"),
    (Purchase(price=2.0), "--price needs --device"),
    (Purchase("h100", price=float("nan")), "--price must be a finite number"),
    (Purchase("h100", mfu=0.0), "--mfu above 0"),
    (Purchase("h100", devices=7), "a batch of 480 sequences cannot be shared by 7 devices"),
    (Purchase(micro_batch=7), "no multiple of a micro-batch of 7"),
])  # fmt: skip
def test_a_wrong_question_is_one_line(purchase, what):
    with pytest.raises(BenchError) as error:
        forecast("gpt2-124m", GPT2, purchase)
    assert what in error.value.what and "\n" not in error.value.what


def test_devices_are_found_by_name_and_by_what_the_driver_calls_them():
    reported = {"NVIDIA H100 80GB HBM3": "h100", "NVIDIA H100 PCIe": "h100-pcie", "NVIDIA H200": "h200",
                "NVIDIA A100-SXM4-80GB": "a100-80gb", "NVIDIA A100 80GB PCIe": "a100-80gb", "NVIDIA L40S": "l40s",
                "NVIDIA A100-SXM4-40GB": "a100-40gb", "NVIDIA A100-PCIE-40GB": "a100-40gb", "NVIDIA B200": "b200",
                "NVIDIA GeForce RTX 4090": "rtx-4090", "AMD Instinct MI300X": "mi300x"}  # fmt: skip
    for name, device in reported.items():
        assert device_reported(name) is device_named(device)
    assert device_reported("NVIDIA GB200") is None and device_reported("NVIDIA GeForce RTX 4090 D") is None
    assert all(device.source for device in DEVICES.values())


def test_the_loss_is_accounted_as_the_model_makes_it():
    assert (LARGE_VOCABULARY, PIECE_TOKENS) == (bench.model.LARGE_VOCABULARY, bench.model.PIECE_TOKENS)


@pytest.mark.parametrize("path", TASKS, ids=lambda path: path.stem)
def test_weights_and_state_are_counted_to_the_byte(path):
    task = read_task(path)
    with torch.device("meta"):
        model = bench.model._random(task.model, task.training.context)
    memory = step_memory(task, 1)
    assert memory.weights == sum(w.nbytes for w in model.parameters())
    assert memory.state == 2 * memory.weights == 2 * memory.gradients


def test_ranks_share_the_state_of_the_hidden_matrices_only():
    alone, shared = step_memory(GPT2, 8), step_memory(GPT2, 8, ranks=8)
    assert alone.state - shared.state == 8 * GPT2.matrix_parameters * 7 // 8
    assert (alone.weights, alone.gradients, alone.activations) == (
        shared.weights, shared.gradients, shared.activations)  # fmt: skip


def test_the_largest_micro_batch_fits_and_the_next_does_not():
    limit = 20 * 10**9
    largest = largest_micro_batch(GPT2, 480, 1, limit)
    following = next(size for size in range(largest + 1, 481) if 480 % size == 0)
    assert step_memory(GPT2, largest).total <= limit < step_memory(GPT2, following).total
    assert largest_micro_batch(GPT2, 480, 1, 10**9) is None


def kept_bytes(task, micro_batch, compiled):
    """Return the bytes of distinct storages that autograd saves in a forward pass, weights left out."""
    model = build_model(task.model, task.training.context, 0, task.training.activation_checkpointing)
    weights = {w.untyped_storage().data_ptr() for w in roles_of(model).all}
    losses_of = partial(sequence_losses, model)
    if compiled:
        torch.compiler.reset()
        losses_of = torch.compile(losses_of, dynamic=False)
    found = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            found[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    tokens = torch.randint(0, task.model.vocabulary, (micro_batch, task.training.context + 1))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = losses_of(tokens).mean()
    loss.backward()
    return sum(size for size, _ in found.values())


def shrunk(name, attention, checkpointing=False):
    """Return a real task's shape at 2 layers and a small vocabulary: only activations are looked at."""
    task = read_task(ROOT / "tasks" / f"{name}.toml")
    model = {"layers": 2, "width": 128, "ffn": 384, "heads": 4, "vocabulary": 256, "padded_vocabulary": 256}
    return task.model_copy(update={
        "model": task.model.model_copy(update={**model, "attention": attention}),
        "training": task.training.model_copy(update={"context": 128, "activation_checkpointing": checkpointing}),
    })  # fmt: skip


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", ["llama-60m", "gpt2-124m"])
def test_activations_are_what_autograd_keeps(name, attention, compiled):
    if compiled and attention == "eager":
        pytest.skip("a compilation of half a minute for what only small tasks use")
    task = shrunk(name, attention)
    assert step_memory(task, 8, compiled=compiled).activations == pytest.approx(kept_bytes(task, 8, compiled), rel=0.05)


def test_checkpointing_keeps_one_input_a_layer():
    task = shrunk("llama-60m", "sdpa", checkpointing=True)
    plain = shrunk("llama-60m", "sdpa")
    kept, held = kept_bytes(task, 8, False), step_memory(task, 8, compiled=False).activations
    one_layer = (step_memory(plain, 8, compiled=False).activations - kept) / 2
    assert kept < held < kept + 2 * one_layer


def test_the_state_is_adamws_two_moments():
    task = shrunk("gpt2-124m", "sdpa")
    model = build_model(task.model, task.training.context, 0)
    roles = roles_of(model)
    (optimizer,) = build_rest(roles, [], task.rest)
    for w in roles.all:
        w.grad = torch.zeros_like(w)
    optimizer.step()
    held = sum(t.nbytes for state in optimizer.state.values() for t in state.values() if t.ndim)
    assert step_memory(task, 1).state == held
