"""Downstream tasks by lm-eval, on a model in memory: float, or with its linear layers rounded."""

import datetime
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from lm_eval.evaluator import evaluate
from lm_eval.utils import hash_string
from transformers import PreTrainedModel

from bench.children import ModeScores, Score, TaskScores
from bench.data.corpus import Split, batches
from bench.data.encoding import tokenizer_of
from bench.data.sequences import Sequences
from bench.data.tokens import prepare
from bench.errors import BenchError
from bench.evaluate.harness import Harness, Report, quiet
from bench.evaluate.loss import evaluate as losses
from bench.evaluate.questions import Asked, load, manager_of
from bench.evaluate.tokenizer import harness_tokenizer
from bench.machine import machine_facts, make_deterministic
from bench.mode import check_mode, read_mode
from bench.model import sequence_losses
from bench.quantize.after import apply, needs_calibration
from bench.quantize.calibration import Calibration, calibration_of
from bench.quantize.linear import convert, expected, quantized, reset_counts
from bench.record import Record
from bench.task import HubText, Task

LM_EVAL = version("lm-eval")
BOOTSTRAPS = 1000  # of a perplexity's standard error; an accuracy's has a formula


@dataclass(frozen=True)
class Wanted:
    """What is to be put to a model."""

    names: list[str]
    limit: int | None  # documents of a task, or of each part of a group
    there: Callable[[ModeScores], set[str]]  # tasks that were put in the same way before
    keep: Callable[[ModeScores], None]  # called after each task
    report: Callable[[str, int, int], None]  # task, requests done, of all
    say: Callable[[str], None]


def measure(record: Record, task: Task, model: PreTrainedModel, mode: str, data: Path, wanted: Wanted) -> ModeScores:
    """Put the tasks one after the other to the record's model in a mode, and return all scores.

    The batch is the one of the task's own evaluation, the context that of training, the arithmetic the mode's.
    """
    tokenizer = harness_tokenizer(task.data)
    make_deterministic(task.training.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = model.to(device).eval()
    layers = put_in_mode(model, record, mode, lambda: calibration_of(_windows(task, data, "train")))
    definition, batch = read_mode(mode), task.evaluation.batch_sequences
    scores = ModeScores(
        mode_digest=definition.digest,
        lm_eval=LM_EVAL,
        batch=batch,
        padding="right",
        context=task.training.context,
        dtype=str(model.dtype).removeprefix("torch."),
        autocast=definition.autocast,
        machine=machine_facts(device, task.training.threads, False).kind,
        quantized=len(layers),
        text_bits_per_byte=_text_bits(record, task, model, mode, data, wanted.say),
        made=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        tasks={},
    )
    with quiet():
        harness = Harness(model, tokenizer, scores.context, batch, tokenizer_of(task.data).end, scores.autocast)
    manager = manager_of(wanted.names)
    left = [name for name in wanted.names if name not in wanted.there(scores)]
    for name in left:
        with quiet():
            asked = load(name, manager)
        found = ask(harness, asked, wanted.limit, partial(wanted.report, name))
        check_rounding(model, layers)
        scores = scores.model_copy(update={"tasks": {**scores.tasks, name: found}})
        wanted.keep(scores)
    return scores


def put_in_mode(model: PreTrainedModel, record: Record, name: str, calibrated: Callable[[], Calibration]) -> list[str]:
    """Make the model compute as the mode says, and return the names of the layers that round: none if it is float."""
    mode = check_mode(name, record.inputs.mode)
    if not mode.quantizes:
        return []
    wanted = expected(model)
    if mode.kind == "after":
        apply(model, mode, calibrated() if needs_calibration(mode) else None)
    else:
        convert(model, mode)
    layers = [layer for layer, _ in quantized(model)]
    if not layers or sorted(layers) != sorted(wanted):
        raise BenchError(f"mode {name} rounds {len(layers)} layers, expected {len(wanted)}", "a fault of the harness")
    reset_counts(model)
    return layers


def check_rounding(model: PreTrainedModel, layers: list[str]) -> None:
    """Raise where a layer that should round passed anything through unrounded, or was never used."""
    idle = [name for name, layer in quantized(model)
            if not 0 < int(layer.quantized_forwards) == int(layer.forwards)]  # fmt: skip
    if idle or sum(1 for _ in quantized(model)) != len(layers):
        raise BenchError(
            f"{len(idle)} layers did not round in every pass, the first {idle[:1]}", "a fault of the harness"
        )


def _text_bits(
    record: Record, task: Task, model: PreTrainedModel, mode: str, data: Path, say: Callable[[str], None]
) -> float | None:
    """Return the model's bits per byte of the scoring half's text, or None where that is not at hand."""
    assert isinstance(task.data, HubText)
    try:
        windows = _windows(task, data, "score")
        size = sum(len(text.encode()) for batch in batches(task.data, "score") for text in batch.documents)
    except BenchError as error:
        say(f"no bits per byte of the scoring text: {error.what}")
        return None
    loss = record.score_loss
    if mode != record.inputs.mode:
        tokens, batch = windows.in_order(0, len(windows)), task.evaluation.batch_sequences
        loss = float(losses(partial(sequence_losses, model), tokens, batch, model.device).mean())
    return None if loss is None else _number(loss / math.log(2) * len(windows.tokens) / size)


def _windows(task: Task, data: Path, split: Split) -> Sequences:
    return Sequences(prepare(task.data, task.model.vocabulary, data)[split], task.training.context)


def ask(harness: Harness, asked: Asked, limit: int | None, report: Report) -> TaskScores:
    """Put one task, or its first so many documents, and return what came of it.

    One at a time: lm-eval sorts the requests of all that is put in one go, and last bits would depend on what else is.
    """
    harness.report, harness.cut, harness.pieced = report, 0, 0
    with quiet():
        told = evaluate(
            lm=harness, task_dict={"tasks": asked.parts, "groups": asked.groups}, limit=limit,
            bootstrap_iters=BOOTSTRAPS, log_samples=True,
        )  # fmt: skip
    metrics = told["groups" if asked.groups else "results"][asked.name]
    names = [key.removesuffix(",none") for key in metrics if key.endswith(",none") and "_stderr" not in key]
    first = next(iter(asked.parts.values()))
    chances, bits, size = [], 0.0, 0
    for name, task in asked.parts.items():
        for sample in told["samples"][name]:
            choices, right = _right(task, sample)
            chances.append(1 / choices if choices > 1 else math.nan)
            bits -= sample["filtered_resps"][right][0] / math.log(2)
            size += len(sample["arguments"][right][1].encode())
    hashes = [s[key] for name in sorted(asked.parts) for s in told["samples"][name]
              for key in ("doc_hash", "prompt_hash", "target_hash")]  # fmt: skip
    chance = sum(chances) / len(chances)
    return TaskScores(
        documents=len(chances),
        split=asked.split,
        source="hub" if asked.source == "hub" else "mirror",
        version=str(told["versions"].get(asked.name, first.VERSION)),
        hash=hash_string("".join(hashes)),
        scores={name: Score(value=_number(metrics[f"{name},none"]), stderr=_number(metrics[f"{name}_stderr,none"]))
                for name in sorted(names)},
        chance=None if math.isnan(chance) else _number(chance),
        bits_per_byte=_number(bits / size),
        cut=harness.cut,
        pieced=harness.pieced,
    )  # fmt: skip


def _right(task: Any, sample: dict[str, Any]) -> tuple[int, int]:
    """Return (choices, place of the right one); a task without choices has its one continuation."""
    if task.OUTPUT_TYPE != "multiple_choice":
        return 1, 0
    gold = task.doc_to_text(sample["doc"]) if task.multiple_input else sample["target"]
    return len(sample["filtered_resps"]), int(gold)


def _number(value: Any) -> float | None:
    """Return a figure at six digits, or None where it is no finite number."""
    return float(f"{value:.6g}") if isinstance(value, int | float) and math.isfinite(value) else None
