"""From one loss at charged tokens to a speedup, with its interval. The interval is the test, turned into tokens."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bench.score.curve import Curve, Fit
from bench.score.statistics import LEVEL, Margin


@dataclass(frozen=True)
class Speedup:
    """Reference tokens over the entry's charged tokens at equal loss."""

    value: float | None  # None where the loss lies outside the reference's measured range
    bound: Literal[">=", "<=", "="]  # with value None: the bound is in limit
    low: float | None  # ends of the interval, 95% by default; None where it is open, or where no_interval says why
    high: float | None
    fit: float | None  # the same figure from the three-parameter fit, shown beside
    reference_tokens: float | None  # D_ref(L): what the reference needs for this loss
    limit: float | None = None  # with value None: the ladder's end over the charged tokens
    margin: float | None = None  # nats; the loss must lie this far below the reference's to beat it
    p_value: float | None = None  # two-sided, of no difference at equal tokens; None off the ladder
    p_holm: float | None = None  # the same, adjusted for all claims on the board and for looks; None for no claim
    no_interval: str | None = None  # why there is no interval
    level: float = LEVEL  # of the interval and the test; below 0.05 where a plan's seeds were looked at before

    @property
    def interpolation_error(self) -> float | None:
        """The gap between the fit's figure and the headline, in ln speedup: what the choice of curve moves."""
        return math.log(self.fit / self.value) if self.fit and self.value else None

    @property
    def beats_reference(self) -> bool:
        return self.low is not None and self.low > 1

    @property
    def beats_reference_on_the_whole_board(self) -> bool:
        """Whether the claim stands with every other claim of the board made beside it."""
        return self.beats_reference and self.p_holm is not None and self.p_holm < LEVEL

    @property
    def figure(self) -> float:
        """The value, or the bound that stands in for it."""
        figure = self.value if self.value is not None else self.limit
        assert figure is not None
        return figure


def beats(curve: Curve, loss: float, charged: float, margin: float) -> bool:
    """Return whether L_ref(D) - L > m, with the sum rounded as in the interval's end.

    Before the ladder starts, the reference's loss is at least its first rung's, which is what is taken; past the
    ladder's end nothing is known of the reference, so nothing is claimed.
    """
    return charged <= curve.tokens[-1] and float(curve.loss_at(charged)) > loss + margin


def speedups(
    curve: Curve,
    fit: Fit | None,
    losses: Sequence[float],
    charged: Sequence[float],
    margins: Sequence[Margin | None],
    no_interval: str | None = None,
) -> list[Speedup]:
    """Return the speedup of each loss at its charged tokens; all are read off the ladder in one go."""
    nats = [0.0 if margin is None else margin.nats for margin in margins]
    worse = [loss + m for loss, m in zip(losses, nats, strict=True)]
    better = [loss - m for loss, m in zip(losses, nats, strict=True)]
    tokens, sides = curve.tokens_for([[*losses], worse, better])
    found = []
    for i, (loss, spent, margin) in enumerate(zip(losses, charged, margins, strict=True)):
        value = float(tokens[0, i]) / spent
        inside = sides[0, i] == 0
        low, high = _interval(tokens[1:, i].tolist(), sides[1:, i].tolist(), spent)
        on_ladder = curve.tokens[0] <= spent <= curve.tokens[-1]
        found.append(
            Speedup(
                value=value if inside else None,
                bound="=" if inside else ">=" if sides[0, i] > 0 else "<=",
                low=None if margin is None else agree(low, beats(curve, loss, spent, nats[i])),
                high=None if margin is None else high,
                fit=_by_fit(fit, loss, spent) if inside else None,
                reference_tokens=float(tokens[0, i]) if inside else None,
                limit=None if inside else value,
                margin=None if margin is None else nats[i],
                p_value=margin.p_value(float(curve.loss_at(spent)) - loss) if margin and on_ladder else None,
                no_interval=no_interval if margin is None else None,
                level=LEVEL if margin is None else margin.level,
            )
        )
    return found


def _interval(tokens: list[float], sides: list[int], spent: float) -> tuple[float | None, float | None]:
    """Return [D_ref(L + m), D_ref(L - m)] / D; an end is open on the side where the ladder does not reach it."""
    low = None if sides[0] < 0 else tokens[0] / spent
    high = None if sides[1] > 0 else tokens[1] / spent
    return low, high


def agree(low: float | None, beaten: bool) -> float | None:
    """Return the lower end on the test's side of 1: the two differ by rounding only, and then the test decides."""
    if beaten:
        return low if low is not None and low > 1 else math.nextafter(1.0, 2.0)
    return low if low is None or low <= 1 else 1.0


def _by_fit(fit: Fit | None, loss: float, spent: float) -> float | None:
    tokens = None if fit is None else fit.tokens_for(loss)
    return None if tokens is None else tokens / spent
