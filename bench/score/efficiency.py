"""Parameter efficiency of a mode: the share of its parameters that a rounded model is worth, over three sizes or more.

L(N) = A / (N rho)^alpha + E at a fixed ratio of tokens to parameters, rho = 1 in bf16 (arXiv:2509.23500; the efficiency
after Kumar et al. 2024, arXiv:2411.04330). A, alpha and E are an entry's own, by least squares of log residuals under
Huber's loss. From three sizes on they are fitted to bf16 alone, and each size gives the rho of its pair of losses,

    rho = (1 + N^alpha / A (L_mode - L_bf16))^(-1/alpha)

From four on one rho is fitted with them, to both arithmetics at once; its interval is the span of the fits that leave
one size out.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.errors import BenchError

SIZES = 3  # at least: three unknowns of bf16's law
JOINT = 4  # at least, for one rho of all sizes
HUBER = 1e-3  # log residuals beyond it weigh linearly
EXPONENTS = (0.1, 0.3, 0.6)  # starts of the search
FLOORS = (0.3, 0.6, 0.9)  # starts of E, as shares of the least loss


@dataclass(frozen=True)
class Efficiency:
    pairs: tuple[float | None, ...]  # by size, as given; None where the mode's loss lies below what any size reaches
    exponent: float  # of bf16's law
    floor: float  # its E, nats
    residual: float  # its largest absolute log residual
    rho: float | None  # of the fit to all sizes in both arithmetics; None for three sizes
    low: float | None  # least and largest of the fits without one size
    high: float | None


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
    unit = math.exp(sum(map(math.log, sizes)) / len(sizes))
    law, residual = _fit(sizes, floats, None)
    scale, exponent = math.exp(law[0]), math.exp(law[1])
    pairs = tuple(
        _pair((n / unit) ** exponent / scale * (loss - base), exponent)
        for n, base, loss in zip(sizes, floats, losses, strict=True)
    )
    rho, spans = None, []
    if len(set(sizes)) >= JOINT:
        rho = math.exp(_fit(sizes, floats, losses)[0][3])
        for left in sorted(set(sizes)):
            kept = [i for i, size in enumerate(sizes) if size != left]
            part, _ = _fit(*([column[i] for i in kept] for column in (sizes, floats, losses)))
            spans.append(math.exp(part[3]))
    exponent, floor, residual = map(_cut, (exponent, math.exp(law[2]), residual))
    low, high = (_cut(found(spans)) if spans else None for found in (min, max))
    pairs = tuple(None if pair is None else _cut(pair) for pair in pairs)
    return Efficiency(pairs, exponent, floor, residual, None if rho is None else _cut(rho), low, high)


def _cut(number: float) -> float:
    """Return six digits: as many as every processor's search ends with."""
    return float(f"{number:.6g}")


def _pair(rise: float, exponent: float) -> float | None:
    """Return (1 + rise)^(-1 / exponent), rise the mode's cost over what bf16 has above its floor."""
    return float((1 + rise) ** (-1 / exponent)) if rise > -1 else None


def _fit(
    sizes: Sequence[float], floats: Sequence[float], losses: Sequence[float] | None
) -> tuple[NDArray[np.float64], float]:
    """Return ln A, ln alpha, ln E of bf16's law, and ln rho where losses are given, with the largest residual.

    The best fit from a grid of starts; sizes are in units of their geometric mean.
    """
    from scipy.optimize import least_squares  # late: it costs half a second

    unit = math.exp(sum(map(math.log, sizes)) / len(sizes))
    both = [*floats, *(losses or ())]
    n = np.asarray([*sizes] * (len(both) // len(sizes)), dtype=np.float64) / unit
    rounded = np.repeat([0.0, 1.0], len(sizes))[: len(both)]
    logs = np.log(both)

    def residuals(x: NDArray[np.float64]) -> NDArray[np.float64]:
        shift = x[3] if losses is not None else 0.0
        rises = np.exp(x[0] - np.exp(x[1]) * (np.log(n) + rounded * shift))
        found: NDArray[np.float64] = np.log(rises + np.exp(x[2])) - logs
        return found

    best = None
    for exponent in EXPONENTS:
        for share in FLOORS:
            floor = share * min(floats)
            start = [math.log(sum(floats) / len(floats) - floor), math.log(exponent), math.log(floor)]
            start += [-0.1] * (losses is not None)
            found = least_squares(residuals, start, loss="huber", f_scale=HUBER, xtol=1e-12, ftol=1e-12, gtol=1e-12)
            if best is None or found.cost < best.cost:
                best = found
    assert best is not None
    return best.x, float(np.abs(best.fun).max())
