"""What a plan can detect, before a run is made: the smallest speedup that its seeds tell from 1 (protocol D)."""

import math
from collections.abc import Sequence

from bench.score.curve import Curve
from bench.score.placebo import TAU_DF
from bench.score.statistics import LEVEL, Noise, margin

POWER = 0.8
STEP = 0.002  # of ln speedup, between the places first looked at
HALVINGS = 30


def smallest_gap(
    noise: Noise,
    seeds: int,
    reference_seeds: int,
    t2: float = 0.0,
    level: float = LEVEL,
    power: float = POWER,
    tau_df: int = TAU_DF,
) -> float | None:
    """Return the true difference of losses, in nats, that the test of the board finds with this probability.

    The test is the board's own: |L_ref(D) - L| against its margin, Student's t with the degrees of freedom by Welch
    and Satterthwaite, so a true gap d is found as a noncentral t with d / standard error. t2 is the tuning variance of
    each arm. None where the noise is unknown.
    """
    found = margin(noise, Noise(None, 0), seeds, reference_seeds, t2, t2, level, tau_df)
    if found is None:
        return None
    from scipy.special import nctdtrinc, stdtrit  # late: it costs a tenth of a second

    needed = float(stdtrit(found.df, 1 - level / 2))
    return float(nctdtrinc(found.df, 1 - power, needed)) * found.error


def smallest_speedup(
    curve: Curve,
    tokens: float,
    noise: Noise,
    seeds: int,
    ladder_seeds: Sequence[int],
    tau: float | None = None,
    level: float = LEVEL,
    power: float = POWER,
    tau_df: int = TAU_DF,
) -> float | None:
    """Return the smallest speedup at a budget that a plan finds; None where the ladder ends before it, or has no noise.

    curve: the reference's ladder; ladder_seeds: of its rungs, in the curve's order; seeds: the plan's at this budget;
    tau: tuning noise of ln speedup, which the ladder's slope turns into loss at the place that is read, as the board
    does; None where there is none, as in the transfer track.
    """
    start = float(curve.loss_at(tokens))

    def found(log_speedup: float) -> bool | None:
        at = tokens * math.exp(log_speedup)
        before, after = curve.neighbours(at)
        t2 = 0.0 if tau is None else (tau * float(curve.slope_at(at))) ** 2
        gap = smallest_gap(noise, seeds, min(ladder_seeds[before], ladder_seeds[after]), t2, level, power, tau_df)
        return None if gap is None else start - float(curve.loss_at(at)) >= gap

    last = math.log(curve.tokens[-1] / tokens)
    places = [STEP * i for i in range(1, int(last / STEP) + 1)] if last > 0 else []
    high = next((place for place in places if found(place)), None)
    if high is None:
        return None
    low = high - STEP
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if found(middle) else (middle, high)
    return math.exp(high)
