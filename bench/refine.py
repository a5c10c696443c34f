"""A refined schedule: the shape that a run's own gradient norms ask for (Defazio et al. 2023, arXiv:2310.07831)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import median_filter

from bench.assemble import Request, assemble
from bench.clock import Clock
from bench.errors import BenchError
from bench.run import warm_up
from bench.setting import Watch, settle
from bench.train import Diverged, Progress, train

POINTS = 33  # of a shape
WIDTH = 0.1  # of the median filter, as a share of the steps


def gradient_norms(request: Request, data_folder: Path, watch: Watch) -> list[float]:
    """Return the l1 norm of the gradient at each step of a run, after clipping: what the optimizer is given.

    l1 is the norm that Adam's refinement is made from (Algorithm 2); SGD's would be l2.
    """
    setting = settle(request, watch)
    assembly = assemble(request, data_folder, setting.hardware)
    warm_up(assembly)
    sums: list[torch.Tensor] = []

    @contextmanager
    def measured() -> Iterator[None]:
        norms = torch._foreach_norm([w.grad for w in assembly.roles.all if w.grad is not None], 1)
        sums.append(torch.stack(norms).sum())
        yield

    parts = replace(assembly.parts, around_step=measured)
    progress = Progress()

    def report(now: Progress) -> None:
        watch.progress(now, assembly.course.steps, assembly.course.batch_tokens)

    try:
        train(parts, assembly.course, progress, Clock(), lambda must: None, report)
    except Diverged as error:
        raise BenchError(f"the run whose gradients were to be measured diverged: {error}") from None
    return torch.stack(sums).double().tolist()


def refined_shape(norms: Sequence[float], points: int = POINTS) -> tuple[float, ...]:
    """Return the multipliers, at equal distances over the budget, that norms G_1..G_T ask for.

    With w_t = 1 / G_t of norms smoothed by a median filter, eta_t is w_t times the sum of the w that follow, and its
    peak is set to 1 (Algorithm 2). Equal norms give a straight line to zero; norms that fall
    at the start give a warm-up.
    """
    if len(norms) < 2 or not all(norm > 0 for norm in norms):
        raise BenchError("a schedule is refined from at least two gradient norms above 0")
    width = max(1, round(WIDTH * len(norms)))
    smooth = median_filter(np.asarray(norms, dtype=float), size=width, mode="reflect")
    weights = 1 / smooth
    after = np.append(np.cumsum(weights[::-1])[::-1], 0.0)  # of the weights from each step on
    ends = np.append(weights, weights[-1]) * after  # at the start of every step, and at the end: zero
    shape = np.interp(np.linspace(0, 1, points), np.linspace(0, 1, len(ends)), ends)
    return tuple(float(f"{value:.4g}") for value in shape / shape.max())
