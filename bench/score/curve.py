"""The reference ladder as a curve of loss over tokens, read both ways; beyond its ends there are only bounds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.errors import BenchError
from bench.score.bits import steady

Floats = NDArray[np.float64]
HALVINGS = 60  # of an interval of log tokens: more than a double can tell apart


@dataclass(frozen=True)
class Curve:
    """A monotone cubic (PCHIP; Fritsch and Butland 1984) of mean loss on log tokens, through at least two rungs."""

    tokens: tuple[float, ...]  # rising
    losses: tuple[float, ...]  # never rising: the running minimum of the means

    @classmethod
    def through(cls, tokens: Sequence[float], means: Sequence[float]) -> "Curve":
        """Return the curve through a ladder's means, in any order; what is no ladder is refused."""
        pairs = sorted(zip(map(float, tokens), map(float, means), strict=True))
        if len(pairs) < 2:
            raise BenchError(f"a ladder needs at least two rungs, got {len(pairs)}")
        if not all(math.isfinite(number) for pair in pairs for number in pair):
            raise BenchError("a ladder's tokens and losses must be finite numbers")
        rising = [first for first, _ in pairs]
        if rising[0] <= 0 or any(b <= a for a, b in zip(np.log(rising), np.log(rising[1:]), strict=False)):
            raise BenchError(f"a ladder's tokens must be positive and all different, got {rising}")
        return cls(tuple(rising), tuple(np.minimum.accumulate([loss for _, loss in pairs]).tolist()))

    @cached_property
    def _x(self) -> Floats:
        return steady(np.log(np.asarray(self.tokens)))

    @cached_property
    def _y(self) -> Floats:
        return np.asarray(self.losses)

    @cached_property
    def _coefficients(self) -> Floats:
        from scipy.interpolate import PchipInterpolator  # late: it costs a tenth of a second

        return np.asarray(PchipInterpolator(self._x, self._y).c, dtype=np.float64)

    def _segment(self, x: Floats) -> NDArray[np.intp]:
        found: NDArray[np.intp] = np.clip(np.searchsorted(self._x, x, side="right") - 1, 0, len(self._x) - 2)
        return found

    def _cubic(self, segment: NDArray[np.intp], x: Floats) -> Floats:
        """Return the losses at x, held between the segment's ends so that rounding cannot make the curve rise."""
        c, t = self._coefficients[:, segment], x - self._x[segment]
        loss = ((c[0] * t + c[1]) * t + c[2]) * t + c[3]
        loss = np.where(x >= self._x[segment + 1], self._y[segment + 1], loss)
        held: Floats = np.clip(loss, self._y[segment + 1], self._y[segment])
        return held

    def _inside(self, tokens: ArrayLike) -> Floats:
        return steady(np.log(np.clip(np.asarray(tokens, dtype=np.float64), self.tokens[0], self.tokens[-1])))

    def loss_at(self, tokens: ArrayLike) -> Floats:
        """Return the reference's loss; beyond an end of the ladder, the loss at that end."""
        x = self._inside(tokens)
        return self._cubic(self._segment(x), x)

    def slope_at(self, tokens: ArrayLike) -> Floats:
        """Return dL/dlnD, never positive; beyond an end of the ladder, the slope at that end."""
        x = self._inside(tokens)
        segment = self._segment(x)
        c, t = self._coefficients[:, segment], x - self._x[segment]
        slope: Floats = np.minimum((3 * c[0] * t + 2 * c[1]) * t + c[2], 0.0)
        return slope

    def tokens_for(self, losses: ArrayLike) -> tuple[Floats, NDArray[np.intp]]:
        """Return the fewest tokens with a loss this low, and where the loss lies.

        Side 0: on the ladder. Side 1: lower than the ladder reaches, so more than these tokens (its last rung).
        Side -1: higher than the ladder starts, so fewer than these tokens (its first rung).
        """
        wanted = np.asarray(losses, dtype=np.float64)
        assert np.isfinite(wanted).all(), "a missing loss is None and never gets here"
        side = (wanted < self._y[-1]).astype(np.intp) - (wanted > self._y[0])
        wanted = np.clip(wanted, self._y[-1], self._y[0])
        knot = np.searchsorted(-self._y, -wanted, side="left")  # the first rung with a loss this low
        segment = np.maximum(knot - 1, 0)
        low, high = self._x[segment], self._x[knot]
        for _ in range(HALVINGS):  # the loss at high is always low enough
            middle = (low + high) / 2
            enough = self._cubic(segment, middle) <= wanted
            low, high = np.where(enough, low, middle), np.where(enough, middle, high)
        at_rung = (wanted == self._y[knot]) | (high == self._x[knot])  # exactly, not but for rounding
        found = np.where(at_rung, np.asarray(self.tokens)[knot], steady(np.exp(high)))
        return np.where(side > 0, self.tokens[-1], found), side

    def neighbours(self, tokens: float) -> tuple[int, int]:
        """Return the indices of the rungs on both sides; beyond an end, that end twice; on a rung, that rung twice."""
        after = int(np.searchsorted(self.tokens, tokens, side="left"))
        if after == len(self.tokens):
            return after - 1, after - 1
        return (after, after) if self.tokens[after] == tokens or after == 0 else (after - 1, after)


@dataclass(frozen=True)
class Fit:
    """L(D) = a (D / unit)^-B + b by least squares, as in arXiv 2509.02046: shown beside the curve, never for it."""

    a: float
    B: float
    b: float
    unit: float  # tokens of 1x

    def loss_at(self, tokens: float) -> float:
        return float(self.a * (tokens / self.unit) ** -self.B + self.b)

    def tokens_for(self, loss: float) -> float | None:
        """Return the tokens of a loss, on the ladder or off it; none for a loss that the fit never reaches."""
        if loss <= self.b:
            return None
        log_tokens = -math.log((loss - self.b) / self.a) / self.B
        return self.unit * math.exp(log_tokens) if abs(log_tokens) < 100 else None


def fit_ladder(tokens: Sequence[float], means: Sequence[float], unit: float) -> Fit | None:
    """Return the three-parameter fit; none for fewer than three rungs or a ladder that is no falling power.

    For a given B the best a and b are a straight-line fit, so one number is searched: on a grid, then between
    its neighbours, where the sum of squares has no slope. No start can send it astray. Its numbers are cut to
    ten digits, so that every processor gives the same ones, whatever its last bits.
    """
    if len(tokens) < 3:
        return None
    from scipy.optimize import brentq  # late, as above

    u, mean = [count / unit for count in tokens], math.fsum(means) / len(means)

    def line(B: float) -> tuple[float, float, float, float]:
        """Return a, b, the sum of squares and its slope in B; not finite where B leaves a double's range."""
        try:
            z = [one**-B for one in u]
            middle = math.fsum(z) / len(z)
            spread = math.fsum((one - middle) ** 2 for one in z)
            a = math.fsum((one - middle) * (loss - mean) for one, loss in zip(z, means, strict=True)) / spread
        except (OverflowError, ZeroDivisionError):
            return math.nan, math.nan, math.inf, math.nan
        b = mean - a * middle
        rest = [a * one + b - loss for one, loss in zip(z, means, strict=True)]
        slope = -2 * a * math.fsum(r * one * math.log(count) for r, one, count in zip(rest, z, u, strict=True))
        return a, b, math.fsum(r * r for r in rest), slope

    grid = np.geomspace(0.01, 10, 300).tolist()
    best = min(range(len(grid)), key=lambda place: line(grid[place])[2])
    low, high = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    if not line(low)[3] < 0 < line(high)[3]:  # the best power lies off the grid: no power law
        return None
    B = _cut(brentq(lambda power: line(power)[3], low, high, xtol=1e-14))
    a, b = map(_cut, line(B)[:2])
    return Fit(a, B, b, unit) if a > 0 else None


def _cut(number: float) -> float:
    return float(f"{number:.10g}")
