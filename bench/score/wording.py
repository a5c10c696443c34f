"""What a board says in words: its heading, one sentence per entry in the protocol's wording, and its notes."""

import math
from collections.abc import Sequence

from bench.score.board import Board, Row, Rung
from bench.score.rows import Standing
from bench.score.scorer import mean_correlation
from bench.score.search import Search
from bench.score.speedup import Speedup
from bench.score.statistics import LEVEL
from bench.task import HubText, Task, rung_name

UNSTABLE, MULTI_EPOCH, READ_MULTI_EPOCH = "unstable", "multi-epoch", "reference read multi-epoch"
UNEQUAL = "steps not of equal size"  # heads a row of the transfer track that is not ranked
LARGE = 1.4  # beside any figure above it stands what is known of scale (protocol H)
OF_SCALE = (
    "elsewhere a speedup of 1.4 at 0.1B parameters fell to 1.1 at 1.2B (arXiv 2509.02046; arXiv 2512.05620 disagrees)"
)


def heading(board: Board) -> str:
    noise = (
        "noise unknown (one seed)"
        if board.noise is None
        else f"seed noise {board.noise:.4f} nats ({board.degrees_of_freedom} degrees of freedom)"
    )
    return (
        f"{board.task}, mode {board.mode}, track {board.track}; reference {board.reference.entry} "
        f"({board.reference_track}); machine kind {board.machine_kinds[0][:12]}; {noise}"
    )


def about(board: Board, task: Task) -> str:
    """Return what a board's figures are of, and what is known of scale where one of them is large (protocol H)."""
    figures = [found.figure for row in board.rows for found in row.speedups.values()]
    said = f"{board.task}: {task.summary}"
    return f"{said}; {OF_SCALE}" if max(figures, default=0.0) > LARGE else said


def sentences(board: Board, task: Task, searches: Sequence[Search] = ()) -> list[str]:
    """Return one plain sentence per entry, in protocol H's wording: of its largest budget with a speedup, of those that
    are ranked where there is one."""
    return [sentence(board, row, task, searches) for row in board.rows]


def sentence(board: Board, row: Row, task: Task, searches: Sequence[Search] = ()) -> str:
    """Return what is said of one entry; searches are the board's, where ledgers tell how its values were found."""
    if not any(rung.losses for rung in row.rungs):
        return f"On {board.task}, {row.entry} finished no run."
    if not row.speedups:
        return f"On {board.task}, {row.entry} has no speedup: {board.no_speedup}."
    budget = max(set(row.speedups) - set(board.unstable) or row.speedups)
    rung = next(rung for rung in row.rungs if rung.budget == budget)
    beyond = budget not in board.multi_epoch and read_beyond_one_pass(rung, row.speedups[budget], board)
    size = (
        f"{_short(task.matrix_parameters)} block parameters, {_text(task, rung)}, {task.steps(budget):,} steps of "
        f"{task.training.batch_tokens:,} tokens{', the reference read beyond one pass over the text' * beyond}"
    )
    said = (
        f"On {board.task} ({size}), {row.entry} needed {_needed(row.speedups[budget])} charged tokens "
        f"{_than(row.speedups[budget])} {board.reference.entry} at {rung_name(budget)}"
    )
    large = f"{OF_SCALE}; " if max(found.figure for found in row.speedups.values()) > LARGE else ""
    blurred = "this rung is unstable and not ranked; " if budget in board.unstable else ""
    twin = f"it is {row.placebo_of} tuned again, a placebo; " if row.placebo_of else ""
    apart = "" if row.of_equal_size else f"{unequal(row)}, so it is not ranked; "
    return f"{said}; {twin}{_tuned(board, row, searches)}{apart}{blurred}{large}nothing is claimed beyond these rungs."


def unequal(row: Row) -> str:
    """Return how far a transfer row's steps are from the reference's size, which that track holds equal."""
    low, high = (f"{end(row.sizes.values()):.2g}" for end in (min, max))
    return f"its steps have {low if low == high else f'{low} to {high}'} times the reference's size"


def _text(task: Task, rung: Rung) -> str:
    text = f"text of {task.data.dataset}" if isinstance(task.data, HubText) else "a generated language"
    passes = f"{rung.epochs:.2g}"
    return f"{text}, {passes} {'pass' if passes == '1' else 'passes'} over it"


def _tuned(board: Board, row: Row, searches: Sequence[Search]) -> str:
    """Return how the entry's values were found, and the reference's, where that is known."""
    if board.track == "declared":
        return "its values were set by hand and not tuned; "
    trials, reference = {search.entry: search.trials for search in searches}, board.reference.entry
    if board.track == "transfer":
        known = f", which was tuned with {trials[reference]} trials" if reference in trials else ""
        return f"its values are those of {reference}{known}, not tuned for it; "
    if not {row.entry, reference} <= trials.keys():
        return ""
    return f"it was tuned with {trials[row.entry]} trials, {reference} with {trials[reference]}; "


def _than(speedup: Speedup) -> str:
    return "than" if speedup.figure >= 1 else "as"


def _needed(speedup: Speedup) -> str:
    """Return '1.41 (95% interval 1.30 to 1.52) times fewer'; below 1, the inverse with 'times as many'."""
    turned = speedup.figure < 1
    figure = 1 / speedup.figure if turned else speedup.figure
    low, high = (speedup.high, speedup.low) if turned else (speedup.low, speedup.high)
    ends = [None if end is None else 1 / end if turned else end for end in (low, high)]
    if speedup.no_interval is not None:
        said = f"no interval: {speedup.no_interval}"
    else:
        said = f"{percent(speedup.level)} interval {interval(ends[0], ends[1])}"
        if not speedup.beats_reference and (speedup.high is None or speedup.high >= 1):
            said += ", which includes 1"
    bound = {">=": "<=", "<=": ">=", "=": "="}[speedup.bound] if turned else speedup.bound
    words = {"=": "", ">=": "at least ", "<=": "at most "}[bound]
    return f"{words}{bounded(figure, bound)} ({said}) times {'as many' if turned else 'fewer'}"


def bounded(figure: float, bound: str) -> str:
    """Return two decimals, rounded so that a bound stays true."""
    if bound == "=":
        return f"{figure:.2f}"
    hundredths = math.floor(figure * 100 + 1e-9) if bound == ">=" else math.ceil(figure * 100 - 1e-9)
    return f"{hundredths / 100:.2f}"


def interval(low: float | None, high: float | None) -> str:
    if low is None and high is None:
        return "open on both sides"
    return f"{_end(low)} to {_end(high)}"


def _end(end: float | None) -> str:
    """Return two decimals, and as many more as it takes to tell which side of 1 the end lies on."""
    if end is None:
        return "open"
    return next((said for digits in (2, 3, 4) if float(said := f"{end:.{digits}f}") != 1), "1.00")


def levelled(found: Speedup) -> str:
    """Return the interval of a speedup that has one, with its level where a look has moved that from 95%."""
    said = interval(found.low, found.high)
    return said if found.level == LEVEL else f"{said} ({percent(found.level)})"


def read_beyond_one_pass(rung: Rung, speedup: Speedup, board: Board) -> bool:
    """Return whether the equal-loss point lies past the reference's last rung within one pass over the text."""
    measured = [step for step in board.reference.rungs if step.losses]
    once = max((step.charged_tokens for step in measured if step.budget not in board.multi_epoch), default=0.0)
    repeats = any(step.budget in board.multi_epoch for step in measured)
    return repeats and speedup.figure * rung.charged_tokens > once * (1 + 1e-9)


def caveats(board: Board, rung: Rung, speedup: Speedup | None) -> tuple[str, ...]:
    """Return what a figure at a rung is headed by: text that was repeated, a rung that is not ranked (protocol C)."""
    found = {
        MULTI_EPOCH: rung.budget in board.multi_epoch,
        READ_MULTI_EPOCH: speedup is not None and read_beyond_one_pass(rung, speedup, board),
        UNSTABLE: rung.budget in board.unstable,
    }
    return tuple(word for word, holds in found.items() if holds)


def notes(board: Board) -> list[str]:
    found = [*board.departs, *board.notes]
    if board.no_speedup is not None:
        found.append(f"no speedup is given: {board.no_speedup}")
    if board.no_interval is not None:
        found.append(f"no interval is given: {board.no_interval}")
    elif board.track == "tuned" and board.tau is None:
        found.append("tuning noise is not in these intervals: none was given for this task")
    elif board.tau is not None:
        df = f"{board.tau_df} degrees of freedom"
        found.append(f"tuning noise {board.tau:.3f} of ln speedup ({df}) is in these intervals")
    if board.not_ranked is not None and board.tau is not None:
        found.append(f"nothing on this board is ranked: {board.not_ranked}")
    found += [f"this build fails: {why}" for why in board.failing]
    return found + _of_looks(board) + _of_seeds_and_text(board)


def _of_looks(board: Board) -> list[str]:
    """Say which entries' seeds, or whether the reference's, were looked at before more were added (protocol D)."""
    levels = {row.entry: max(found.level for found in row.speedups.values()) for row in board.rows if row.speedups}
    own = {entry for entry, look in (board.scorer.looks if board.scorer else {}).items() if look}
    return [
        f"{entry}: {'the reference’s ' * (entry not in own)}seeds were looked at before, and it is tested at {level:g}"
        for entry, level in sorted(levels.items())
        if level < LEVEL
    ]


def _of_seeds_and_text(board: Board) -> list[str]:
    """Say what pairing by seed obtained, and what part of the error is the validation text's."""
    found = []
    paired = mean_correlation(board.rows)
    if paired is not None:
        found.append(
            f"paired by seed, losses correlate by {paired:.2f} with the reference's; the margin does not lean on it"
        )
    largest = max(
        (standing.text_error or 0.0 for row in board.rows for standing in row.standings.values()), default=0.0
    )
    if largest > 0:
        found.append(
            "from the validation text alone, a difference from the leader has a standard error of at most "
            f"{largest:.4f} nats; it is not in the intervals"
        )
    return found


def dominated(found: Standing | None) -> str | None:
    """Return who dominates an entry, in words; None where that is not told."""
    if found is None or found.dominated_by is None:
        return None
    return ", ".join(found.dominated_by) or "nobody"


def percent(level: float) -> str:
    """Return 95% for 0.05."""
    return f"{100 * (1 - level):g}%"


def _short(number: float) -> str:
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"
