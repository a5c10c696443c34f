"""What a board says in words: its heading, one sentence per entry in the protocol's wording, and its notes."""

import math

from bench.score.board import Board, Row, Rung
from bench.score.speedup import Speedup
from bench.task import Task, rung_name

MOST_TAU = 0.05  # of ln speedup (protocol B)


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


def sentences(board: Board, task: Task) -> list[str]:
    """Return one plain sentence per entry, about its largest budget with a speedup, in protocol H's wording."""
    return [sentence(board, row, task) for row in board.rows]


def sentence(board: Board, row: Row, task: Task) -> str:
    if not any(rung.losses for rung in row.rungs):
        return f"On {board.task}, {row.entry} finished no run."
    if not row.speedups:
        return f"On {board.task}, {row.entry} has no speedup: {board.no_speedup}."
    budget = max(row.speedups)
    rung = next(rung for rung in row.rungs if rung.budget == budget)
    epochs = (
        ", more than one pass over its text"
        if budget in board.multi_epoch
        else ", the reference read beyond one pass over the text"
        if read_beyond_one_pass(rung, row.speedups[budget], board)
        else ""
    )
    size = (
        f"{_short(task.matrix_parameters)} block parameters, {task.steps(budget):,} steps of "
        f"{task.training.batch_tokens:,} tokens{epochs}"
    )
    said = (
        f"On {board.task} ({size}), {row.entry} needed {_needed(row.speedups[budget])} charged tokens "
        f"{_than(row.speedups[budget])} {board.reference.entry} at {rung_name(budget)}"
    )
    track = {
        "declared": "its values were set by hand and not tuned; ",
        "transfer": "its values are the reference's, not tuned for it; ",
    }.get(board.track, "")
    blurred = "this rung is unstable and not ranked; " if budget in board.unstable else ""
    return f"{said}; {track}{blurred}nothing is claimed beyond these rungs."


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
        said = f"95% interval {interval(ends[0], ends[1])}"
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
    return f"{'open' if low is None else f'{low:.2f}'} to {'open' if high is None else f'{high:.2f}'}"


def read_beyond_one_pass(rung: Rung, speedup: Speedup, board: Board) -> bool:
    """Return whether the equal-loss point lies past the reference's last rung within one pass over the text."""
    measured = [step for step in board.reference.rungs if step.losses]
    once = max((step.charged_tokens for step in measured if step.budget not in board.multi_epoch), default=0.0)
    repeats = any(step.budget in board.multi_epoch for step in measured)
    return repeats and speedup.figure * rung.charged_tokens > once * (1 + 1e-9)


def notes(board: Board) -> list[str]:
    found = list(board.notes)
    if board.no_speedup is not None:
        found.append(f"no speedup is given: {board.no_speedup}")
    if board.no_interval is not None:
        found.append(f"no interval is given: {board.no_interval}")
    elif board.track == "tuned" and board.tau is None:
        found.append("tuning noise is not in these intervals: none was given for this task")
    if board.tau is not None and board.tau > MOST_TAU:
        found.append(f"tuning noise {board.tau:.3f} is above {MOST_TAU}: nothing on this board is ranked")
    return found


def _short(number: float) -> str:
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"
