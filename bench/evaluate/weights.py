"""A record's model: its evaluated weights kept by the run or a replay, read back and held to the record's digest."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.pytorch_utils import Conv1D
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME
from transformers.utils.logging import disable_progress_bar

from bench.errors import BenchError
from bench.model import CAUSAL_SDPA, export_model, linear_of, weights_digest
from bench.record import Record
from bench.task import Task


def keep(model: PreTrainedModel, weights: Path, run_id: str) -> Path:
    """Export the model to its run's folder among the weights, in one move: a folder that is there is whole."""
    folder, draft = weights / run_id, weights / f".{run_id}.partial"
    shutil.rmtree(draft, ignore_errors=True)  # of a process that was killed
    draft.mkdir(parents=True)
    disable_progress_bar()
    export_model(model, draft)
    forget(weights, run_id)
    os.replace(draft, folder)
    return folder


def kept(weights: Path, run_id: str) -> bool:
    return (weights / run_id / "config.json").is_file()


def forget(weights: Path, run_id: str) -> None:
    """Remove a run's weights; the config goes first, so that a kill in between leaves none that seem whole."""
    (weights / run_id / "config.json").unlink(missing_ok=True)
    shutil.rmtree(weights / run_id, ignore_errors=True)


@dataclass(frozen=True)
class Checkpoint:
    """A float model that lies elsewhere: taken up whole as often as rounding uses it up, or a layer's weight alone."""

    model: Callable[[], PreTrainedModel]
    weight: Callable[[str], Tensor]  # by the layer's name, (out, in), on the CPU


def on_disk(folder: Path, model: Callable[[], PreTrainedModel]) -> Checkpoint:
    return Checkpoint(model, partial(read_weight, folder))


def restored(record: Record, task: Task, weights: Path, record_path: Path) -> PreTrainedModel:
    """Return the model at the weights that the record was evaluated at, fp32 and on the CPU; weights as by a replay."""
    if task.digest != record.inputs.task_digest:
        raise BenchError(
            f"the task {record.task} has changed since this record (digest {task.digest[:12]}, recorded "
            f"{record.inputs.task_digest[:12]})",
            "check out the version the record was made with",
        )
    if record.weights.evaluated is None:
        raise BenchError(f"{record_path}: the run was not evaluated ({record.outcome}): it has no weights")
    folder = weights / record.run_id
    if not kept(weights, record.run_id):
        raise BenchError(
            f"{folder}: the record's weights are not here",
            f"make them again: bench replay {record_path} --keep-weights {weights}",
        )
    again = f"make them again over these: bench replay {record_path} --keep-weights {weights}"
    try:
        model = read_model(folder, task.model.attention)
    except BenchError as error:
        raise BenchError(error.what, again) from error
    digest = weights_digest(model)
    if digest != record.weights.evaluated:
        raise BenchError(
            f"{folder}: these weights are not the record's (digest {digest[:12]}, recorded "
            f"{record.weights.evaluated[:12]})",
            again,
        )
    return model


def read_model(folder: Path, attention: str) -> PreTrainedModel:
    """Return what bench.model.export_model wrote, its matrices as (out, in) again."""
    disable_progress_bar()
    kernel = CAUSAL_SDPA if attention == "sdpa" else attention
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation=kernel, local_files_only=True
        )
    except Exception as error:  # whatever a damaged file makes the readers of JSON and safetensors raise
        raise BenchError(f"{folder}: the weights cannot be read: {error}".splitlines()[0]) from error
    for module in model.modules():
        for name, child in list(module.named_children()):
            if isinstance(child, Conv1D):
                setattr(module, name, linear_of(child))
    return model.eval()


def read_weight(folder: Path, layer: str) -> Tensor:
    """Return the weight of one linear layer inside the blocks, with the bits and the layout that read_model gives it.

    Of the file no more is held than this: it is mapped, and let go of again.
    """
    name, home = f"{layer}.weight", folder / SAFE_WEIGHTS_NAME
    try:
        if (index := folder / SAFE_WEIGHTS_INDEX_NAME).is_file():
            home = folder / json.loads(index.read_text())["weight_map"][name]
        transposed = json.loads((folder / "config.json").read_text())["model_type"] == "gpt2"
        with safe_open(home, framework="pt") as file:
            stored: Tensor = file.get_tensor(name)
            return stored.mT.contiguous() if transposed else stored.clone()
    except Exception as error:  # whatever a damaged file makes the readers of JSON and safetensors raise
        raise BenchError(f"{folder}: the weights cannot be read: {error}".splitlines()[0]) from error
