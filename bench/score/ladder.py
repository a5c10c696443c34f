"""What the reference's own runs allow: whether its ladder gives speedups, and at which budgets entries are ranked."""

from bench.score.curve import Curve
from bench.score.rows import Row, Rung, mean_of
from bench.score.statistics import Noise, margin
from bench.task import rung_name

UNSTABLE = 0.05  # largest seed deviation of the reference, in ln tokens, of a rung that is ranked (protocol C)


def judge_ladder(measured: list[Rung], noise: Noise) -> tuple[str | None, tuple[str, ...]]:
    """Return why the ladder gives no speedup, or None; and the places where its means rise beyond noise."""
    ladder = sorted(measured, key=lambda rung: rung.charged_tokens)
    rises, lowest = [], ladder[0]
    for rung in ladder[1:]:
        if mean_of(rung) - mean_of(lowest) > _told_apart(rung, lowest, noise):
            rises.append(
                f"the reference's loss rises from {rung_name(lowest.budget)} to {rung_name(rung.budget)}; "
                "the running minimum is read"
            )
        lowest = min(lowest, rung, key=mean_of)
    fall = mean_of(ladder[0]) - mean_of(lowest)
    flat = fall <= 0 or fall <= _told_apart(ladder[0], lowest, noise)
    return "the reference's ladder does not fall beyond noise" if flat else None, tuple(rises)


def _told_apart(a: Rung, b: Rung, noise: Noise) -> float:
    found = margin(noise, Noise(None, 0), len(a.losses), len(b.losses))
    return 0.0 if found is None else found.nats


def unstable_budgets(curve: Curve, ladder: Row, rows: list[Row], noise: Noise) -> tuple[float, ...]:
    """Return the budgets where the reference's seed deviation over |dL/dlnD| exceeds what is ranked.

    The deviation is the reference's own at that budget, or the board's where it has none there.
    """
    own = {rung.budget: rung for rung in ladder.rungs if rung.losses}
    found = []
    for rung in {rung.budget: rung for row in (*rows, ladder) for rung in row.rungs}.values():
        cell = own.get(rung.budget)
        tokens = cell.charged_tokens if cell else float(rung.tokens)
        deviation = (cell.deviation if cell else None) or noise.deviation
        if (
            deviation is not None
            and curve.tokens[0] <= tokens <= curve.tokens[-1]
            and deviation > UNSTABLE * -float(curve.slope_at(tokens))
        ):
            found.append(rung.budget)
    return tuple(sorted(found))
