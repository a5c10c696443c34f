"""Parameter efficiency of a mode: the share of its parameters that a rounded model is worth, over three sizes or more.

L(N) = A / (N rho)^alpha + E at a fixed ratio of tokens to parameters, rho = 1 in bf16 (arXiv:2509.23500; the efficiency
after Kumar et al. 2024, arXiv:2411.04330). A, alpha and E are fitted for each entry, to both arithmetics at once, by
least squares of log residuals under Huber's loss; the interval is the span of the fits that leave one size out.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.errors import BenchError

SIZES = 3  # at least: four unknowns, two losses a size
HUBER = 1e-3  # log residuals beyond it weigh linearly
EXPONENTS = (0.1, 0.3, 0.6)  # starts of the search
FLOORS = (0.3, 0.6, 0.9)  # starts of E, as shares of the least loss


@dataclass(frozen=True)
class Efficiency:
    rho: float
    low: float | None  # least and largest of the fits without one size; None for three sizes, which need them all
    high: float | None
    exponent: float
    floor: float  # E, nats
    residual: float  # largest absolute log residual


def efficiency(sizes: Sequence[float], floats: Sequence[float], losses: Sequence[float]) -> Efficiency | None:
    """Return how many of its parameters a model in a mode is worth; None for fewer than three sizes.

    sizes: parameters without embeddings; floats and losses: mean scoring loss in bf16 and in the mode, nats per token.
    """
    if not len(sizes) == len(floats) == len(losses):
        raise BenchError(f"{len(sizes)} sizes with {len(floats)} and {len(losses)} losses", "one of each is expected")
    if any(not (math.isfinite(n) and n > 0) for n in (*sizes, *floats, *losses)):
        raise BenchError("sizes and losses must be finite numbers above 0")
    if len(set(sizes)) < SIZES:
        return None
    whole, cost = _fit(sizes, floats, losses)
    spans = []
    if len(set(sizes)) > SIZES:
        for left in sorted(set(sizes)):
            kept = [i for i, size in enumerate(sizes) if size != left]
            part, _ = _fit(*([column[i] for i in kept] for column in (sizes, floats, losses)))
            spans.append(math.exp(part[3]))
    return Efficiency(
        rho=math.exp(whole[3]), low=min(spans, default=None), high=max(spans, default=None),
        exponent=math.exp(whole[1]), floor=math.exp(whole[2]), residual=cost,
    )  # fmt: skip


def _fit(sizes: Sequence[float], floats: Sequence[float], losses: Sequence[float]) -> tuple[NDArray[np.float64], float]:
    """Return ln A, ln alpha, ln E, ln rho of the best fit from a grid of starts, and its largest residual."""
    from scipy.optimize import least_squares  # late: it costs half a second

    unit = math.exp(sum(map(math.log, sizes)) / len(sizes))
    n = np.asarray([*sizes, *sizes], dtype=np.float64) / unit
    rounded = np.repeat([0.0, 1.0], len(sizes))
    logs = np.log([*floats, *losses])

    def residuals(x: NDArray[np.float64]) -> NDArray[np.float64]:
        rises = np.exp(x[0] - np.exp(x[1]) * (np.log(n) + rounded * x[3]))
        found: NDArray[np.float64] = np.log(rises + np.exp(x[2])) - logs
        return found

    best = None
    for exponent in EXPONENTS:
        for share in FLOORS:
            floor = share * min(floats)
            start = [math.log(sum(floats) / len(floats) - floor), math.log(exponent), math.log(floor), -0.1]
            found = least_squares(residuals, start, loss="huber", f_scale=HUBER, xtol=1e-12, ftol=1e-12, gtol=1e-12)
            if best is None or found.cost < best.cost:
                best = found
    assert best is not None
    return best.x, float(np.abs(best.fun).max())
