"""Entry against entry at one budget: all pairs, tie groups, who is first (protocol D, lines 8 and 9)."""

import math
import string
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.score.bits import steady
from bench.score.statistics import LEVEL, Arm, holm

Floats = NDArray[np.float64]
REACH = 4.0  # contenders lie within this many standard errors of a difference from the leader
SPREAD = 8.0  # deviations beyond which a density is nothing
POINTS = 161  # of the integral for each contender, a tenth of a deviation apart


@dataclass(frozen=True)
class Contender:
    """One entry's mean loss at one budget."""

    entry: str
    loss: float
    arm: Arm
    look: int = 0  # of its plan: p-values are held against 0.05 / 2^look


def pair_errors(contenders: Sequence[Contender], board_df: int, tau_df: int) -> tuple[Floats, Floats]:
    """Return the standard error of every pair's difference, in nats, and its degrees of freedom, as matrices.

    The error is sqrt((v_A + v_B) / n + t2_A + t2_B); degrees of freedom by Welch and Satterthwaite, where the board's
    noise and tau enter both arms and count once each. The reference plays no part.
    """
    board, own, tuning = (
        np.array([getattr(one.arm, part) for one in contenders]) for part in ("board", "own", "tuning")
    )
    own_shares = own**2 / np.maximum([one.arm.own_df for one in contenders], 1)

    def both(parts: Floats) -> Floats:
        return np.add.outer(parts, parts)

    total = both(board + own + tuning)
    shares = both(board) ** 2 / board_df + both(own_shares) + both(tuning) ** 2 / tau_df
    return np.sqrt(total), total**2 / shares


def pair_levels(contenders: Sequence[Contender]) -> Floats:
    """Return the level that every pair is tested at as a matrix: 0.05 / 2^look, of the later look of the two."""
    looks = np.array([one.look for one in contenders])
    levels: Floats = LEVEL / 2.0 ** np.maximum.outer(looks, looks)
    return levels


def pair_p_values(contenders: Sequence[Contender], board_df: int, tau_df: int) -> Floats:
    """Return the two-sided p-value of every pair as a matrix, each times 2^look, so that all are held against 0.05.

    |L_A - L_B| against the standard error of the pair with Student's t.
    """
    from scipy.special import stdtr  # late: it costs a tenth of a second

    losses = np.array([one.loss for one in contenders])
    errors, df = pair_errors(contenders, board_df, tau_df)
    gaps = np.abs(np.subtract.outer(losses, losses))
    p_values: Floats = np.minimum(1.0, LEVEL / pair_levels(contenders) * 2 * stdtr(df, -gaps / errors))
    return p_values


def told_apart(p_values: Floats, level: float = LEVEL) -> NDArray[np.bool_]:
    """Return which pairs are separated, Holm's adjustment over all of them."""
    above = np.triu_indices(len(p_values), 1)
    apart = np.zeros(p_values.shape, dtype=np.bool_)
    apart[above] = np.array(holm(p_values[above].tolist())) < level
    either: NDArray[np.bool_] = apart | apart.T
    return either


def tie_groups(apart: NDArray[np.bool_]) -> list[tuple[int, ...]]:
    """Return the maximal sets with no separated pair, by their members: the compact letter display's columns.

    They are the maximal cliques of the graph of pairs not told apart (Bron and Kerbosch 1973, with a pivot).
    """
    count = len(apart)
    tied = [set(np.flatnonzero(~row).tolist()) - {i} for i, row in enumerate(apart)]
    found: list[tuple[int, ...]] = []

    def grow(group: set[int], candidates: set[int], done: set[int]) -> None:
        if not candidates and not done:
            found.append(tuple(sorted(group)))
            return
        pivot = max(sorted(candidates | done), key=lambda i: len(candidates & tied[i]))
        for i in sorted(candidates - tied[pivot]):
            grow(group | {i}, candidates & tied[i], done & tied[i])
            candidates, done = candidates - {i}, done | {i}

    if count:
        grow(set(), set(range(count)), set())
    return sorted(found)


def tie_letters(apart: NDArray[np.bool_]) -> list[tuple[str, ...]]:
    """Return each one's letters, entries given best first: 'a' is the leader's group; who share one are tied."""
    names = [*string.ascii_letters]
    letters: list[list[str]] = [[] for _ in range(len(apart))]
    for number, group in enumerate(tie_groups(apart)):
        for member in group:
            letters[member].append(names[number] if number < len(names) else f"({number + 1})")
    return [tuple(found) for found in letters]


def probability_of_first(losses: Sequence[float], variances: Sequence[float]) -> list[float]:
    """Return each one's probability of having the lowest true loss, from means and the variances of their errors.

    Contenders within 4 sqrt(2) s of the leader, s^2 the contenders' own variance on average (the board's s2 / n, where
    there is neither tuning noise nor noise of one's own), are shrunk to their mean: true losses have variance A about
    it, estimated as what the means vary beyond their errors, so that each is drawn from N(mu + B (L - mu), B s^2)
    with B = A / (A + s^2) (Efron and Morris 1975). The drawing is an integral, so equal arguments give equal bytes.
    Where the means vary no more than their errors, all contenders are equally likely.
    """
    means, errors = np.asarray(losses, dtype=np.float64), np.asarray(variances, dtype=np.float64)
    leader = int(np.argmin(means))
    near = np.flatnonzero(means - means[leader] <= REACH * np.sqrt(errors + errors[leader]))
    found = np.zeros(len(means))
    found[near] = _lowest(means[near], errors[near])
    return [float(share) for share in found]


def _lowest(means: Floats, errors: Floats) -> Floats:
    count = len(means)
    if count == 1:
        return np.ones(1)
    between = max(0.0, float(means.var(ddof=1) - errors.mean()))
    if between == 0:
        return np.full(count, 1 / count)
    kept = between / (between + errors)
    centres = means.mean() + kept * (means - means.mean())
    return _integrate(centres, np.sqrt(kept * errors))


def _integrate(centres: Floats, deviations: Floats) -> Floats:
    """Return P(i is lowest) = integral of density_i times the product of the others' upper tails, for normals.

    By trapezia on everybody's own points together, so that a sure one among unsure ones is not stepped over.
    """
    from scipy.special import log_ndtr

    x = np.sort(np.multiply.outer(np.linspace(-SPREAD, SPREAD, POINTS), deviations) + centres, axis=None)
    z = (x - centres[:, None]) / deviations[:, None]
    tails = log_ndtr(-z)
    heights = np.exp(-(z**2) / 2 + tails.sum(0) - tails) / deviations[:, None]
    shares = ((heights[:, 1:] + heights[:, :-1]) * np.diff(x)).sum(1)
    return steady(shares / shares.sum())


def text_error(
    one: Sequence[Sequence[float]], other: Sequence[Sequence[float]], documents: int | None = None
) -> float | None:
    """Return the standard error, from the validation text alone, of a difference of two entries' losses.

    Arguments are the losses of the scoring text's blocks, for each seed, the same seeds in both, and of how many
    documents it is. Blocks are stretches of the text, each of as many sequences: neighbours are put together until
    there are no more of them than documents, whose sequences are alike. They are resampled as pairs; the resampling's
    limit is the deviation of their differences over the root of their number.
    """
    counts = {len(blocks) for blocks in (*one, *other)}
    if len(one) != len(other) or not one or len(counts) != 1 or min(counts) < 2:
        return None
    differences = np.mean(np.asarray(one, dtype=np.float64) - np.asarray(other, dtype=np.float64), axis=0)
    parts = np.array_split(differences, min(documents or len(differences), len(differences)))
    means = np.array([part.mean() for part in parts])
    return float(means.std(ddof=1)) / math.sqrt(len(means)) if len(means) > 1 else None
