"""Two entries side by side at one budget: the test of each pair, as the tie letters rest on it (protocol D, line 8)."""

from dataclasses import dataclass

import numpy as np

from bench.score.board import Board
from bench.score.pairs import pair_errors, pair_levels, pair_p_values
from bench.score.standings import contenders_of
from bench.score.statistics import LEVEL, holm


@dataclass(frozen=True)
class Versus:
    """One entry against another at equal charged tokens."""

    one: str
    other: str
    gap: float  # nats: the mean loss of one less that of the other; below 0, one is better
    margin: float  # nats: half of the interval of the gap, for this pair alone
    level: float  # of that interval: 0.05, or 0.05 / 2^look where seeds were looked at before
    p_value: float  # two-sided, of no difference, for this pair alone; times 2^look where seeds were looked at before
    p_holm: float  # the same, adjusted for all pairs of the board at this budget (Holm 1979)

    @property
    def apart(self) -> bool:
        """Whether the two are told apart, all pairs of the board taken together."""
        return self.p_holm < LEVEL


def versus_at(board: Board, budget: float) -> dict[tuple[str, str], Versus]:
    """Return every pair of ranked entries at a budget, names in order; none where the board ranks nothing there."""
    ranked = [row for row in board.rows if budget in row.standings]
    if board.scorer is None or len(ranked) < 2:
        return {}
    from scipy.special import stdtrit  # late: it costs a tenth of a second

    cells = [(row, rung) for row in ranked for rung in row.rungs if rung.budget == budget]
    contenders = sorted(contenders_of(cells, board.scorer), key=lambda one: one.entry)
    noise, tau_df = board.scorer.noise, board.scorer.tau_df
    errors, df = pair_errors(contenders, noise.df, tau_df)
    levels, p_values = pair_levels(contenders), pair_p_values(contenders, noise.df, tau_df)
    margins = stdtrit(df, 1 - levels / 2) * errors
    firsts, seconds = np.triu_indices(len(contenders), 1)
    adjusted = holm(p_values[firsts, seconds].tolist())
    return {
        (contenders[i].entry, contenders[j].entry): Versus(
            one=contenders[i].entry,
            other=contenders[j].entry,
            gap=contenders[i].loss - contenders[j].loss,
            margin=float(margins[i, j]),
            level=float(levels[i, j]),
            p_value=float(p_values[i, j]),
            p_holm=p,
        )
        for i, j, p in zip(firsts.tolist(), seconds.tolist(), adjusted, strict=True)
    }
