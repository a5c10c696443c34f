"""What a plan will cost and can tell, before a run is made: tokens, hours here, the smallest speedup it detects."""

import math
import statistics
from collections.abc import Sequence

from bench.devices import device_named
from bench.errors import BenchError
from bench.forecast import MFU
from bench.index import IndexRow
from bench.ledger import Trial
from bench.mode import FLOAT
from bench.plan import Plan
from bench.score.board import make_board
from bench.score.placebo import TAU_DF
from bench.score.power import smallest_speedup
from bench.score.statistics import LEVEL, Noise, level_of_look
from bench.task import Task, rung_name
from bench.tuning import MODE_FACTORS

OTHER_MACHINE = "is not the yardstick's: a board keeps the records of one kind, and these will not be on it"
RATES = 3  # learning rates tried at each rung beside the tuning rung, if none of its ends is the best


def outlook(
    plan: Plan,
    task: Task,
    rows: Sequence[IndexRow],
    trials: Sequence[Trial] = (),
    before: Sequence[Plan] = (),
    reference_look: int = 1,
) -> list[str]:
    """Return the lines that `bench plan` prints; rows and trials are all there are of the task, before the plans that
    this one comes after, reference_look the look that the yardstick's plans are at."""
    search, ladder = searched_tokens(plan, task), ladder_tokens(plan, task)
    lines = [
        f"tuning: {search:,} tokens or more, {_hours(search, plan, rows, trials)}",
        f"ladder: {ladder:,} tokens on {' and '.join(plan.tracks)}, {_hours(ladder, plan, rows, trials)}",
    ]
    if levelling := levelling_tokens(plan, task):
        said = f"levelling: {levelling:,} tokens of unpublished runs, for the scales of the transfer track"
        lines.append(f"{said}, {_hours(levelling, plan, rows, trials)}")
    if plan.adds_modes:
        lines = [f"adds modes to the plan {(plan.after or '')[:16]}, at the values it was tuned to"]
    if plan.training_modes:
        tokens = mode_tokens(plan, task)
        factors = " or ".join(f"{factor:g}" for factor in MODE_FACTORS)
        said = f"{', '.join(plan.training_modes)}: at the float values, the learning rate x {factors}"
        lines.append(f"{said}: {tokens:,} tokens, {_hours(tokens, plan, rows, trials)}; rounding takes more")
    if plan.after_modes:
        runs = len(plan.tracks) * sum(len(seeds) for seeds in plan.ladder.values())
        lines.append(f"{', '.join(plan.after_modes)}: on the checkpoints of {runs} runs")
    kinds = {row.machine_kind for row in rows if (row.task, row.entry) == (plan.task, task.reference)}
    if plan.yardstick is not None and kinds and plan.machine_kind not in kinds:
        lines.append(f"the kind of machine {OTHER_MACHINE}")
    if plan.yardstick is None or plan.adds_modes:
        return lines
    return [*lines, *_detectable(plan, task, rows, before, max(plan.look, reference_look))]


def searched_tokens(plan: Plan, task: Task) -> int:
    """Return the least that tuning takes: the search at its rung, three rates at every other, the shown trials."""
    if plan.adds_rungs:
        return len(plan.tuning.seeds) * sum(RATES * task.tokens(rung) for rung in plan.ladder)
    if plan.after is not None:
        return 0
    at_rung = plan.tuning.sweep + plan.tuning.sobol + 2 * ("transfer" in plan.tracks)
    at_rung += 2 * RATES * (plan.yardstick is None)  # half and twice the batch
    others = sum(RATES * task.tokens(rung) for rung in plan.ladder if rung != plan.tuning.rung)
    return len(plan.tuning.seeds) * (at_rung * task.tokens(plan.tuning.rung) + others)


def levelling_tokens(plan: Plan, task: Task) -> int:
    """Return what levelling the transfer track's scales takes: a run of the entry and the yardstick's at each rung."""
    new = plan.adds_rungs or plan.after is None
    return 2 * sum(task.tokens(rung) for rung in plan.ladder) if new and "transfer" in plan.tracks else 0


def mode_tokens(plan: Plan, task: Task) -> int:
    """Return what modes that train rounded take: their learning rates at the tuning rung, and their runs."""
    trials = len(MODE_FACTORS) * len(plan.tuning.seeds) * task.tokens(plan.tuning.rung) * len(plan.training_modes)
    return trials + sum(task.tokens(rung) for _, mode, rung, _ in plan.runs() if mode != FLOAT)


def ladder_tokens(plan: Plan, task: Task) -> int:
    """Return what the runs in float take."""
    return sum(task.tokens(rung) for _, mode, rung, _ in plan.runs() if mode == FLOAT)


def _hours(tokens: int, plan: Plan, rows: Sequence[IndexRow], trials: Sequence[Trial]) -> str:
    """Say how long it takes by what runs took on this kind of machine; nothing is guessed where none was made."""
    seconds = [run.train_seconds / run.charged_tokens for trial in trials for run in trial.runs if run.charged_tokens]
    seconds += [
        row.train_seconds / row.tokens
        for row in rows
        if row.task == plan.task and row.machine_kind == plan.machine_kind and row.tokens and not row.stand_in
    ]
    if not seconds:
        return "hours unknown: no run of the task was made on this kind of machine yet"
    return f"about {tokens * statistics.median(seconds) / 3600:.1f} hours of one worker here, evaluation left out"


def hours_on(plan: Plan, task: Task, name: str | None, devices: int = 1, price: float | None = None) -> list[str]:
    """Say how long all of a plan takes on a named device, by its peak and an assumed share of it; nothing without."""
    if name is None:
        return []
    device = device_named(name)
    parts = (searched_tokens, levelling_tokens, ladder_tokens, mode_tokens)
    tokens = sum(part(plan, task) for part in parts)
    hours = tokens * task.flops_per_token / (device.peak_flops * MFU) / 3600
    cost = "" if price is None else f", {hours * price:,.2f} at {price:g} an hour"
    wall = "" if devices == 1 else f", {hours / devices:,.1f} by {devices} of them"
    return [f"all of it: {hours:,.1f} hours of {device.title} at {MFU:.0%} of its peak{wall}{cost}"]


def _detectable(plan: Plan, task: Task, rows: Sequence[IndexRow], before: Sequence[Plan], look: int) -> list[str]:
    """Say what the plan tells from 1, by the yardstick's ladder and the noise measured so far, at the level of
    the look and with the seeds of the plans before it, which its own are pooled with."""
    try:
        board = make_board(rows, task, task.reference)
    except BenchError as error:
        return [f"smallest speedup it detects: unknown yet ({error.what})"]
    if board.curve is None or board.noise is None:
        return ["smallest speedup it detects: unknown yet (no noise was measured)"]
    noise = Noise(board.noise**2, board.degrees_of_freedom)
    seeds_of = {rung.charged_tokens: len(rung.losses) for rung in board.reference.rungs}
    seeds = [seeds_of[tokens] for tokens in board.curve.tokens]
    lines, level = [], level_of_look(look if look > 1 else 0)
    tau_df = TAU_DF if board.tau_df is None else board.tau_df
    for rung, planned in sorted(plan.ladder.items()):
        pooled = {seed for held in (plan, *before) for seed in held.ladder.get(rung, ())}
        found = smallest_speedup(
            board.curve, task.tokens(rung), noise, len(pooled), seeds, board.tau, level, tau_df=tau_df
        )
        said = "none on this ladder" if found is None else f"{math.ceil(found * 1000) / 1000:.3f}x"
        earlier = len(pooled) - len(planned)
        more = f" with the {earlier} seeds before" if earlier else ""
        more += f", tested at {level:g}" if level < LEVEL else ""
        lines.append(f"smallest speedup it detects at {rung_name(rung)}, at 80% power{more}: {said}")
    tau = "no tuning noise yet: placebos measure it" if board.tau is None else f"tuning noise {board.tau:.3f}"
    return [*lines, f"  by seed noise {board.noise:.4f} nats ({board.degrees_of_freedom} df), {tau}"]
