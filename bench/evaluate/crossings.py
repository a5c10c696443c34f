"""Weights of a run where its curve first passed a common loss (bench.crossings): kept to be rounded.

They come from the middle of a schedule, with the learning rate still up.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from bench.assemble import Assembly, Request
from bench.crossings import thresholds_of
from bench.evaluate.weights import forget, keep, kept
from bench.train import Progress


def name_of(run_id: str, threshold: float) -> str:
    """Return the name of the folder among the weights."""
    return f"{run_id}@{threshold:g}"


def adopt(weights: Path, draft: str, run_id: str, losses: Iterable[float]) -> None:
    """Give the run's name to what was kept under a draft's, as a replay does once its last weights are the run's."""
    for loss in losses:
        if kept(weights, name_of(draft, loss)):
            forget(weights, name_of(run_id, loss))
            os.replace(weights / name_of(draft, loss), weights / name_of(run_id, loss))


def discard(weights: Path, draft: str, losses: Iterable[float]) -> None:
    """Remove what is still a draft's: the weights were another run's."""
    for loss in losses:
        forget(weights, name_of(draft, loss))


def keeping(assembly: Assembly, progress: Progress, request: Request, run_id: str, weights: Path | None) -> Assembly:
    """Return the assembly, its curve watched: weights are kept as it passes a loss, again where a killed run does."""
    losses = thresholds_of(request.task, request.budget)
    if weights is None or not losses or assembly.mode.quantizes:
        return assembly
    course, look = assembly.course, assembly.parts.curve_loss
    every = course.curve_every * course.batch_tokens

    def on_the_curve() -> bool:
        """Whether this is a point of the curve, and not the warm-up of a run that goes on."""
        last = progress.curve[-1]["tokens"] // every if progress.curve else -1
        return progress.tokens // every > last or progress.tokens >= course.tokens

    def curve_loss() -> float:
        loss = look()
        if on_the_curve():
            passed = [threshold for threshold in losses if loss <= threshold and not _passed(progress.curve, threshold)]
            if passed:
                with assembly.evaluation_weights():
                    for threshold in passed:
                        assembly.workers.first(partial(keep, assembly.model, weights, name_of(run_id, threshold)))
        return loss

    return replace(assembly, parts=replace(assembly.parts, curve_loss=curve_loss))


def _passed(curve: Iterable[Mapping[str, Any]], threshold: float) -> bool:
    return any(point["loss"] is not None and point["loss"] <= threshold for point in curve)
