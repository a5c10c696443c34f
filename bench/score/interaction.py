"""What a mode does to an entry beyond what it does to the reference (protocol E): pure functions of losses by seed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.score.statistics import LEVEL, pool


@dataclass(frozen=True)
class Rounded:
    """One entry's runs at one budget, in float and in a mode, by seed; only seeds that finished in both."""

    float_losses: Mapping[int, float]  # nats per token
    losses: Mapping[int, float]  # of the same seeds, in the mode

    @property
    def degradations(self) -> dict[int, float]:
        return {seed: loss - self.float_losses[seed] for seed, loss in sorted(self.losses.items())}


@dataclass(frozen=True)
class Interaction:
    """An entry's degradation less the reference's, paired by seed: below 0 the mode costs it less."""

    value: float  # nats
    margin: float | None  # nats: half of the 95% interval over seeds; None for a single seed, or where nothing varies
    seeds: int
    degradation: float  # the entry's, mean over the shared seeds
    reference: float  # the reference's

    @property
    def told(self) -> bool:
        """Whether the interval excludes 0."""
        return self.margin is not None and abs(self.value) > self.margin


def interaction(entry: Rounded, reference: Rounded) -> Interaction | None:
    """Return (L_entry in mode - L_entry) - (L_ref in mode - L_ref), mean over shared seeds; None where they share none.

    The interval is Student's t on the seeds' differences: initial weights and data are the same at equal seed, and most
    of a seed's noise is in both. With three seeds it is wide, 2.5 deviations, and says so.
    """
    ours, theirs = entry.degradations, reference.degradations
    seeds = sorted(set(ours) & set(theirs))
    if not seeds:
        return None
    differences = [ours[seed] - theirs[seed] for seed in seeds]
    noise = pool([differences])
    margin = None
    if noise.deviation:
        from scipy.special import stdtrit  # late: it costs a tenth of a second

        margin = float(stdtrit(noise.df, 1 - LEVEL / 2)) * noise.deviation / math.sqrt(len(seeds))
    return Interaction(
        value=math.fsum(differences) / len(seeds),
        margin=margin,
        seeds=len(seeds),
        degradation=math.fsum(ours[seed] for seed in seeds) / len(seeds),
        reference=math.fsum(theirs[seed] for seed in seeds) / len(seeds),
    )


def ranks(losses: Mapping[str, Sequence[float]]) -> dict[str, int]:
    """Return each entry's place by its mean loss, from 1; equal means share a place. Noise is not looked at."""
    means = {entry: math.fsum(found) / len(found) for entry, found in losses.items() if found}
    return {entry: 1 + sum(other < mean for other in means.values()) for entry, mean in means.items()}
