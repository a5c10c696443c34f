"""A finished run in the modes of finished checkpoints: its kept weights measured, each mode once, beside its record.

At the task's common losses only modes that round to nearest are measured: the others would take longer than the run.
"""

import gc
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel

from bench.children import (
    AfterTraining,
    Crossing,
    Failed,
    Rounded,
    quantized_path,
    read_quantized,
    write_crossing,
    write_quantized,
)
from bench.crossings import crossings
from bench.data.sequences import Sequences
from bench.data.tokens import prepare
from bench.diagnosis import diagnosis_path, write_diagnosis
from bench.errors import BenchError
from bench.evaluate.after import difference, failed_mode, measure_modes, proved_loss, scored
from bench.evaluate.crossings import name_of
from bench.evaluate.weights import forget, kept, on_disk, read_model, restored
from bench.machine import machine_facts, make_deterministic
from bench.mode import read_mode
from bench.model import weights_digest
from bench.quantize.after import apply, needs_calibration
from bench.quantize.calibration import Calibration, calibration_of
from bench.record import Point, Record, read_log, read_record
from bench.task import Task


def unmeasured(path: Path, names: Sequence[str]) -> list[str]:
    """Return the modes that a record's child record has not, or has from other code than there is now.

    One that failed is there: the same weights would fail in it again.
    """
    child = quantized_path(path)
    there = read_quantized(child).mode_digests if child.exists() else {}
    return [name for name in names if there.get(name) != read_mode(name, "after").digest]


def uncrossed(path: Path, task: Task, names: Sequence[str]) -> dict[float, Point]:
    """Return the common losses that a record's curve passed and its child record has not in each of the modes."""
    record, child = read_record(path), quantized_path(path)
    wanted = {name: read_mode(name).digest for name in _nearest(names)}
    passed = crossings(record, read_log(path, record), task) if wanted else {}
    there = {
        crossing.threshold: {name: found.mode_digest for name, found in crossing.modes.items()}
        for crossing in (read_quantized(child).crossings if child.exists() else ())
    }
    return {loss: point for loss, point in passed.items() if not wanted.items() <= there.get(loss, {}).items()}


def _nearest(names: Sequence[str]) -> list[str]:
    return [name for name in names if read_mode(name, "after").algorithm == "round"]


def missing_weights(path: Path, task: Task, names: Sequence[str], weights: Path, again: bool = False) -> bool:
    """Return whether a replay must make weights again before what is left can be measured."""
    run_id = read_record(path).run_id
    wanted = [run_id] * bool(again or unmeasured(path, names))
    wanted += [name_of(run_id, loss) for loss in uncrossed(path, task, names)]
    return not all(kept(weights, name) for name in wanted)


def measure_finished(
    path: Path, task: Task, names: Sequence[str], weights: Path, data: Path, again: bool = False
) -> Iterator[tuple[str, AfterTraining | Failed]]:
    """Measure what is left of the modes, write each as soon as it is there, and yield those of the end of the run.

    A kill loses the mode under way alone, and one that fails is written with its cause while the others go on. again:
    the modes that are there are measured anew. Common losses whose weights were not kept are left as they are
    (uncrossed says which).
    """
    record = read_record(path)
    if record.inputs.task_digest != task.digest:
        raise BenchError(
            f"{path}: was made on another version of the task {record.task}",
            "check out the version of the task that it names, or make the run again",
        )
    left, passed = unmeasured(path, names), uncrossed(path, task, names)
    left = list(names) if again else left
    if not left and not passed:
        return
    make_deterministic(task.training.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    machine = machine_facts(device, task.training.threads, False).kind
    tokens = prepare(task.data, task.model.vocabulary, data)
    score = Sequences(tokens["score"], task.training.context)
    score_NS, batch = score.in_order(0, len(score)), task.evaluation.batch_sequences
    digest, child = record.weights.evaluated or "", quantized_path(path)
    calibration: Calibration | None = None
    calibrated = [name for name in left if needs_calibration(read_mode(name))]
    try:
        calibration = calibration_of(Sequences(tokens["train"], task.training.context)) if calibrated else None
    except BenchError as error:
        left = [name for name in left if name not in calibrated]
        for name in calibrated:
            failed = failed_mode(name, error, machine)
            write_quantized(child, record.run_id, digest, name, failed)
            yield name, failed
    checkpoint = on_disk(weights / record.run_id, partial(_on, device, record, task, weights, path))
    for name, measured, diagnosed in measure_modes(checkpoint, left, calibration, score_NS, batch, machine):
        if diagnosed is not None:
            write_diagnosis(diagnosis_path(path), record.run_id, digest, name, diagnosed)
        write_quantized(child, record.run_id, digest, name, measured)
        yield name, measured
    for loss, point in passed.items():
        if not kept(weights, name_of(record.run_id, loss)):
            continue
        crossing = _at_common_loss(loss, point, record, task, _nearest(names), weights, device, score_NS)
        write_crossing(child, record.run_id, digest, crossing)


def _on(device: torch.device, record: Record, task: Task, weights: Path, path: Path) -> PreTrainedModel:
    return restored(record, task, weights, path).to(device)


def _at_common_loss(
    loss: float, point: Point, record: Record, task: Task, names: Sequence[str], weights: Path, device: torch.device,
    score_NS: np.ndarray,
) -> Crossing:  # fmt: skip
    """Measure the weights that were kept where the curve passed a loss."""
    folder, batch = weights / name_of(record.run_id, loss), task.evaluation.batch_sequences
    model = read_model(folder, task.model.attention).to(device)
    digest, float_loss = weights_digest(model), scored(model, score_NS, batch)
    modes: dict[str, Rounded] = {}
    for name in names:
        del model  # before the next is there: one resident copy
        gc.collect()  # modules refer to one another
        model = read_model(folder, task.model.attention).to(device)
        mode = read_mode(name, "after")
        try:
            rounded, proof = proved_loss(model, name, apply(model, mode, None), score_NS, batch, float_loss)
            layers = proof["actual"]["count"]
        except BenchError:  # its cause stands with the end of the run, where it fails alike
            rounded, layers = None, 0
        modes[name] = Rounded(
            mode_digest=mode.digest, loss=rounded, degradation=difference(rounded, float_loss), layers=layers
        )
    assert point.loss is not None
    return Crossing(
        threshold=loss, tokens=point.tokens, curve_loss=point.loss, weights=digest, float_loss=float_loss, modes=modes
    )


def forget_all(path: Path, task: Task, weights: Path) -> None:
    """Remove what was kept of a run: all of it was measured."""
    run_id = read_record(path).run_id
    for name in (run_id, *(name_of(run_id, loss) for loss in task.common_losses)):
        forget(weights, name)
