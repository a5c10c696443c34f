"""What a plan's search shows of an entry, from its ledger alone: how soon it found its best, how wide that is, and at
what cost (protocol B). Losses are those of the selecting half; nothing here is a score."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.ledger import SEARCHES, Trial, TrialRun

if TYPE_CHECKING:
    from scipy.interpolate import PchipInterpolator

WINDOW = 5.0  # octaves: the 32x that sensitivity is read over
TOKENS_LOST = 0.05  # of tokens, within which a learning rate is as good as the best
BAND = (0.05, 0.5, 0.95)  # quantiles over random orders of the trials
HALVINGS = 50

Line = Sequence[tuple[float, float | None]]  # (learning rate, loss), rates rising; None where a seed did not finish


@dataclass(frozen=True)
class AfterK:
    """The best of so many trials; None where all of them may have failed."""

    trials: int
    best: float | None  # of the first so many of the ledger
    low: float | None  # 5%, 50% and 95% quantiles of the best of as many, drawn from the ledger in random order
    median: float | None
    high: float | None


@dataclass(frozen=True)
class Extent:
    """A width or a mean over learning rates; at least this where the sweep ends before it does."""

    value: float
    open: bool = False


@dataclass(frozen=True)
class Spent:
    """What trials cost; a run that stands in several ledgers counts once."""

    trials: int
    failed: int  # trials, of those
    tokens: float  # charged
    seconds: float


@dataclass(frozen=True)
class Search:
    """An entry's tuning at a glance."""

    entry: str
    spent: Spent
    trials: int  # of its own, that its values on the board's track rest on
    charged: float  # tokens of the trials that its values on the board's track rest on, the yardstick's where it lends
    lent: float  # of these, tokens of the yardstick's trials
    after_k: tuple[AfterK, ...]
    tolerance: Extent | None  # octaves of learning rate
    sensitivity: Extent | None  # nats


def best_after_k(trials: Sequence[Trial], rung: float) -> tuple[AfterK, ...]:
    """Return the best-after-k curve of the search at a rung, with its band over random orders.

    The band is exact: among n trials, the best of k drawn without replacement ranks r or better with probability
    1 - C(n - r, k) / C(n, k) (after Dodge et al. 2019, arXiv 1909.03004, who draw with replacement). A failed trial
    ranks last. The second stage looks where the first found its best, so the ledger's own order is another curve.
    """
    losses = [trial.loss for trial in trials if trial.stage in SEARCHES and trial.rung == rung]
    kept = sorted(loss for loss in losses if loss is not None)
    ranked = [*kept, *[None] * (len(losses) - len(kept))]
    found = []
    for k in range(1, len(losses) + 1):
        finished = [loss for loss in losses[:k] if loss is not None]
        band = [ranked[_rank(len(losses), k, share)] for share in BAND]
        found.append(AfterK(k, min(finished, default=None), *band))
    return tuple(found)


def _rank(n: int, k: int, share: float) -> int:
    """Return the lowest rank, from 0, that the best of k among n reaches with this probability."""
    draws = math.comb(n, k)
    return next(r for r in range(n) if 1 - math.comb(n - r - 1, k) / draws >= share - 1e-12)


def sweep_line(trials: Sequence[Trial]) -> list[tuple[float, float | None]]:
    """Return the sweep's losses by learning rate: everything else at its declared default."""
    line = {float(trial.values["lr"]): trial.loss for trial in trials if trial.stage == "sweep"}
    return sorted(line.items())


def tolerance(line: Line, slope: float, initial: float) -> Extent | None:
    """Return the octaves of learning rate within 5% of tokens of the best; None without two rates or with no loss.

    A loss is within 5% of tokens where it is at most -slope ln 1.05 above the best, slope = dL/dlnD of the reference's
    ladder. Between the sweep's rates the loss is read off a PCHIP on ln lr, as the ladder is: it makes no optimum that
    was not measured. A rate that failed has the loss before the first step.
    """
    best = _best(line)
    if best is None or len(line) < 2:
        return None
    x, y, curve = _curve(line, initial)
    limit = y[best] - slope * math.log1p(TOKENS_LOST)
    ends, is_open = [], False
    for outwards in (range(best, -1, -1), range(best, len(x))):
        place, end = best, x[best]
        for after in outwards:
            if y[after] > limit:
                end = _crossing(curve, limit, x[place], x[after])
                break
            place, end = after, x[after]
        else:
            is_open = True
        ends.append(end)
    return Extent(ends[1] - ends[0], is_open)


def sensitivity(line: Line, initial: float) -> Extent | None:
    """Return E_lr[min(L(lr), L_0) - L*] over a 32x window centred on the best (Wortsman et al. 2023, arXiv 2309.14322).

    lr is uniform in its logarithm, L_0 is the loss before the first step. Where the window goes beyond the sweep, the
    loss of the sweep's end is held, and the figure is a lower bound.
    """
    best = _best(line)
    if best is None or len(line) < 2:
        return None
    x, y, curve = _curve(line, initial)
    low, high = x[best] - WINDOW / 2, x[best] + WINDOW / 2
    inside = float(curve.integrate(max(low, x[0]), min(high, x[-1])))
    beyond = max(0.0, x[0] - low) * y[0] + max(0.0, high - x[-1]) * y[-1]
    return Extent((inside + beyond) / WINDOW - y[best], low < x[0] - 1e-9 or high > x[-1] + 1e-9)


def _best(line: Line) -> int | None:
    finished = [(loss, place) for place, (_, loss) in enumerate(line) if loss is not None]
    return min(finished)[1] if finished else None


def _curve(line: Line, initial: float) -> tuple[list[float], list[float], "PchipInterpolator"]:
    """Return octaves, losses capped at the initial one, and the curve through them."""
    from scipy.interpolate import PchipInterpolator  # late: it costs a tenth of a second

    x = [math.log2(lr) for lr, _ in line]
    y = [initial if loss is None else min(loss, initial) for _, loss in line]
    return x, y, PchipInterpolator(x, y)


def _crossing(curve: "PchipInterpolator", limit: float, inside: float, outside: float) -> float:
    """Return where the curve, monotone between two rates, passes the limit."""
    for _ in range(HALVINGS):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if float(curve(middle)) <= limit else (inside, middle)
    return inside


def spent(ledgers: Iterable[Sequence[Trial]]) -> Spent:
    """Return what the trials of several ledgers cost together; runs that two of them share count once."""
    trials = {frozenset(run.run_id for run in trial.runs): trial for ledger in ledgers for trial in ledger}
    runs: dict[str, TrialRun] = {run.run_id: run for trial in trials.values() for run in trial.runs}
    return Spent(
        trials=len(trials),
        failed=sum(trial.loss is None for trial in trials.values()),
        tokens=math.fsum(run.charged_tokens for run in runs.values()),
        seconds=math.fsum(run.train_seconds for run in runs.values()),
    )


def search_of(
    entry: str,
    ledgers: Sequence[Sequence[Trial]],
    rung: float,
    slope: float | None,
    initial: float,
    own: Sequence[Sequence[Trial]],
    lent: Sequence[Sequence[Trial]] = (),
) -> Search:
    """Return an entry's search: costs over all its plans, the figures from the first with trials.

    slope: dL/dlnD of the reference's ladder at the rung, None in a mode that rounds, where losses of trials, which are
    runs in float, say nothing and their costs alone stand; initial: the loss before the first step; own and lent: the
    trials that the track's values rest on, the entry's and the yardstick's.
    """
    first: Sequence[Trial] = next((ledger for ledger in ledgers if ledger), ()) if slope is not None else ()
    line = sweep_line(first)
    return Search(
        entry=entry,
        spent=spent(ledgers),
        trials=spent(own).trials,
        charged=spent([*own, *lent]).tokens,
        lent=spent(lent).tokens,
        after_k=best_after_k(first, rung),
        tolerance=None if slope is None else tolerance(line, slope, initial),
        sensitivity=sensitivity(line, initial),
    )
