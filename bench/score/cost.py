"""What stands beside the headline, labelled: speedup on the curve, in time, with tuning; memory; who is dominated."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress

from bench.score.speedup import Speedup

TOLERANCE = 0.03  # by which two step times or memories may differ and be equal: the canary's (protocol F)
Points = Sequence[tuple[float, float | None]]  # (tokens, loss), tokens rising; None where a loss was not finite


@dataclass(frozen=True)
class Cost:
    """What an entry costs beside its tokens, as measured elsewhere; None is unknown."""

    seconds_per_token: float | None = None  # of training, passes and all
    memory_bytes: float | None = None  # peak
    tuning_tokens: float | None = None  # charged to its trials; a hybrid's with the yardstick's trials for the rest
    timed: bool = True  # its time is of runs interleaved with the reference's (protocol F), not of runs by themselves

    @property
    def told(self) -> bool:
        """Whether others can be held against it in time and memory."""
        return self.timed and self.seconds_per_token is not None and self.memory_bytes is not None


@dataclass(frozen=True)
class Beside:
    """Figures of one entry at one budget that are shown and never ranked; a bound where the speedup is one."""

    on_curve: float | None = None
    time: float | None = None  # speedup in seconds instead of tokens
    step: float | None = None  # seconds per token over the reference's
    memory: float | None = None  # peak bytes over the reference's
    tuning_inclusive: float | None = None
    timed: bool = True  # its times are of runs interleaved with the reference's; else they are indicative

    @property
    def known(self) -> bool:
        return any(figure is not None for figure in (self.on_curve, self.time, self.memory, self.tuning_inclusive))


def beside(
    speedup: Speedup, tokens: float, charged: float, own: Cost, reference: Cost, on_curve: float | None
) -> Beside:
    """Return the figures that stand beside a speedup.

    In time: token speedup x the reference's seconds per token / the entry's. The passes that are charged are in the
    entry's seconds already, so tokens are what was trained on, not what was charged. With tuning: D_ref(L) over
    charged tokens and those of the entry's own trials together; the reference is taken as tuned by somebody else, so
    the figure is what a newcomer who tunes the entry once and trains once would see.
    """
    reference_tokens = speedup.figure * charged
    step = _ratio(own.seconds_per_token, reference.seconds_per_token)
    tuning = own.tuning_tokens
    return Beside(
        on_curve=on_curve,
        time=None if step is None else reference_tokens / (tokens * step),
        step=step,
        memory=_ratio(own.memory_bytes, reference.memory_bytes),
        tuning_inclusive=None if tuning is None else reference_tokens / (charged + tuning),
        timed=own.timed and reference.timed,
    )


def _ratio(own: float | None, reference: float | None) -> float | None:
    return own / reference if own and reference else None


def mean_curve(curves: Sequence[Points]) -> list[tuple[float, float | None]]:
    """Return the mean over seeds at the tokens that all curves have; None where one of them was not finite."""
    if not curves:
        return []
    by_tokens = [dict(curve) for curve in curves]
    found: list[tuple[float, float | None]] = []
    for tokens in sorted(set.intersection(*map(set, by_tokens))):
        losses = [loss for curve in by_tokens if (loss := curve[tokens]) is not None]
        found.append((tokens, math.fsum(losses) / len(losses) if len(losses) == len(curves) else None))
    return found


def first_tokens(curve: Points, loss: float) -> float | None:
    """Return the first tokens at which the curve is as low as a loss, straight in ln tokens between its points."""
    before: tuple[float, float] | None = None
    for tokens, here in curve:
        if here is None:
            before = None
            continue
        if here <= loss:
            if before is None or before[0] <= 0 or before[1] <= here:
                return tokens
            share = (before[1] - loss) / (before[1] - here)
            return before[0] * math.exp(share * math.log(tokens / before[0]))
        before = tokens, here
    return None


def on_curve(curve: Points, reference: Points, passes: float = 1.0) -> float | None:
    """Return the reference's budget over the charged tokens at which the entry's curve passes its final loss.

    Both curves are means of runs at one budget, measured on the same sequences. None where the entry never gets
    there. Off the board: in the middle of a schedule a slow starter looks worse than it ends (protocol C).
    """
    if not reference or reference[-1][1] is None:
        return None
    tokens = first_tokens(curve, reference[-1][1])
    return reference[-1][0] / (passes * tokens) if tokens else None


def dominators(
    names: Sequence[str], better: Sequence[Sequence[bool]], costs: Sequence[Cost]
) -> list[tuple[str, ...] | None]:
    """Return who dominates each entry in tokens, step time and memory (protocol F); None where that is not told.

    One dominates another where the test of the pair says that it needs fewer tokens (better[i][j]: i than j) and
    its step time and its memory are no larger, beyond the tolerance. What was not measured, or not timed side by side
    (a busy machine would decide it), dominates nothing, and what dominates it is not told.
    """
    return [
        tuple(name for name, cost in compress(zip(names, costs, strict=True), column) if _no_worse(cost, own))
        if own.told
        else None
        for column, own in zip(zip(*better, strict=True), costs, strict=True)
    ]


def _no_worse(one: Cost, other: Cost) -> bool:
    pairs = (one.seconds_per_token, other.seconds_per_token), (one.memory_bytes, other.memory_bytes)
    return one.told and all(a is not None and b is not None and a <= b * (1 + TOLERANCE) for a, b in pairs)
