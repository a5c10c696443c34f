"""Whether modes fit a task and a device, known before a plan has them and not after hours of training."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel

from bench.data import corpus, synthetic
from bench.data.corpus import BATCH_DOCUMENTS, Batch
from bench.data.drafts import MANIFEST
from bench.data.encoding import packed, tokenizer_of
from bench.data.tokens import Work, prepare
from bench.errors import BenchError
from bench.mode import Mode, read_mode
from bench.model import build_model
from bench.quantize.after import check, needs_calibration
from bench.quantize.calibration import SEQUENCES
from bench.quantize.linear import QuantLinear, expected
from bench.task import SyntheticText, Task


@dataclass(frozen=True)
class Fitting:
    """What stands against modes, by their names, and what is to be known of the others, a line each."""

    against: dict[str, str]
    notes: tuple[str, ...]


def fitting(task: Task, names: Sequence[str], data: Path, device: torch.device) -> Fitting:
    """Return which modes the widths of the task's model, its training text and the device allow.

    Where the text is not at hand, here or at all, that is a note: runs may be made elsewhere.
    """
    against, notes = {}, []
    modes = {name: mode for name in names if (mode := read_mode(name)).quantizes}
    if modes:
        with torch.device("meta"):
            model = build_model(task.model, task.training.context, seed=0)
    for name, mode in modes.items():
        try:
            blocks = check(model, mode)
        except BenchError as error:
            against[name] = error.what
            continue
        smaller = [f"{width} in blocks of {block}" for width, block in blocks.items() if block < (mode.hadamard or 0)]
        if smaller:
            notes.append(
                f"{name}: rotates inputs of {', '.join(smaller)}, not of {mode.hadamard}: none is divided by it"
            )
        if trouble := _trouble(model, mode, device):
            against[name] = f"it does not run on this device ({device.type}): {trouble}"
    calibrated = [name for name, mode in modes.items() if needs_calibration(mode) and name not in against]
    if calibrated:
        try:
            there = _sequences(task, data)
        except BenchError as error:
            notes.append(f"{', '.join(calibrated)}: whether the text is long enough is not known: {error.what}")
        else:
            short = f"the training text has {there} sequences of {task.training.context} tokens, and it calibrates on "
            against |= dict.fromkeys(calibrated if there < SEQUENCES else (), f"{short}{SEQUENCES}")
    return Fitting(against, tuple(notes))


def refuse_unfit(task: Task, names: Sequence[str], data: Path, device: torch.device) -> tuple[str, ...]:
    """Refuse all that cannot be planned in one line, and return what is to be known of the modes where nothing is."""
    found = fitting(task, names, data, device)
    if found.against:
        causes: dict[str, list[str]] = {}
        for name, cause in found.against.items():
            causes.setdefault(cause, []).append(name)
        rest = ",".join(name for name in names if name not in found.against)
        raise BenchError(
            "; ".join(f"{', '.join(alike)}: {cause}" for cause, alike in causes.items()),
            f"change the task, or plan without them: --modes {rest or 'none'}",
        )
    return found.notes


def _trouble(model: PreTrainedModel, mode: Mode, device: torch.device) -> str | None:
    """Return what a layer of the model's first width says on the device, or None where it rounds, and trains."""
    width = model.get_submodule(expected(model)[0]).in_features
    linear = nn.Linear(int(width), 1, device=device)
    least = min(mode.candidate_bits) if mode.candidate_bits else None
    try:
        with torch.autocast(device.type, dtype=torch.bfloat16):
            x = torch.ones(1, linear.in_features, device=device, requires_grad=True)
            QuantLinear(linear, mode, weight_bits=least)(x).sum().backward()
    except (RuntimeError, TypeError) as error:  # what torch raises for an operation or a dtype that a device lacks
        return str(error).strip().splitlines()[0]
    return None


def _sequences(task: Task, data: Path) -> int:
    """Return the sequences of the training text, up to those of a calibration set: no more of it is encoded."""
    text, window = task.data, task.training.context + 1
    tokenizer = tokenizer_of(text)
    work = Work(text, tokenizer, task.model.vocabulary, data, lambda line: None, lambda line: None)
    if (work.home / MANIFEST).is_file():
        return len(prepare(text, task.model.vocabulary, data)["train"]) // window
    tokens, documents = 0, _synthetic(text) if isinstance(text, SyntheticText) else corpus.batches(text, "train")
    for ids, _ in packed(tokenizer, documents):
        tokens += len(ids)
        if tokens >= SEQUENCES * window:
            break
    return tokens // window


def _synthetic(text: SyntheticText) -> Iterator[Batch]:
    documents = synthetic.documents(text, "train")
    while batch := list(islice(documents, BATCH_DOCUMENTS)):
        yield Batch(batch)
