"""Records read against their plans and ledgers: what is missing, what is too many, and what an entry's tuning cost."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bench.entry import MODE
from bench.errors import BenchError
from bench.index import IndexRow
from bench.ledger import SEARCHED, Study, Trial
from bench.memory import step_memory
from bench.mode import FLOAT, read_mode
from bench.plan import PLACEBO, Plan
from bench.record import Record
from bench.score.board import Board
from bench.score.cells import Selection
from bench.score.cost import Cost
from bench.score.placebo import twins_of
from bench.score.search import Search, search_of, spent
from bench.task import Task, rung_name
from bench.timings import Timing
from bench.trials import State, state_after

Wanted = tuple[str, str, float, int]  # track, mode, rung, seed
CELLS_SAID = 3  # of those with missing runs

INDICATIVE = (
    "step times are those of the runs themselves, not measured against each other: indicative only, and so is the "
    "speedup in time; who is dominated is not told from them"
)


@dataclass(frozen=True)
class Departures:
    """Where the records are not what a plan says."""

    missing: tuple[Wanted, ...]
    extra: tuple[str, ...]  # paths


def departures(plan: Plan, rows: Iterable[IndexRow]) -> Departures:
    """Return the plan's runs that have no record, and the records in its name that it does not ask for.

    A record of another version of one of its modes is neither: the run is to be made again.
    """
    wanted, mine = set(plan.runs()), [row for row in rows if row.plan == plan.digest]
    digests = {name: read_mode(name).digest for name in {row.mode for row in mine} & set(plan.modes)}
    mine = [row for row in mine if digests.get(row.mode, row.mode_digest) == row.mode_digest]
    theirs = plan.entry, plan.entry_digest, plan.task_digest, plan.machine_kind
    planned = {
        row: (row.track, row.mode, row.budget, row.seed)
        for row in mine
        if (row.entry, row.entry_digest, row.task_digest, row.machine_kind) == theirs
    }
    extra = [row.path for row in mine if planned.get(row) not in wanted]
    return Departures(tuple(sorted(wanted - set(planned.values()))), tuple(sorted(extra)))


def plan_notes(studies: Sequence[Study], rows: Sequence[IndexRow], board: Board) -> list[str]:
    """Say which runs of a board are missing, too many, or of no plan; nothing where values are declared by hand."""
    if board.track == "declared":
        return []
    notes = []
    for study in studies:
        plan, found = study.plan, departures(study.plan, rows)
        track = board.reference_track if plan.entry == board.reference.entry else board.track
        missing = [wanted for wanted in found.missing if wanted[:2] == (track, board.mode)]
        if missing:
            notes.append(f"the plan {plan.digest[:16]} of {plan.entry}: {_many(missing)} missing ({_cells(missing)})")
        if found.extra:
            notes.append(f"the plan {plan.digest[:16]} of {plan.entry} asks for no such run: {', '.join(found.extra)}")
    plans = {study.plan.digest for study in studies}
    shown = {run for row in (board.reference, *board.rows) for rung in row.rungs for run in rung.run_ids}
    lone = sorted({row.entry for row in rows if row.run_id in shown and row.plan not in plans})
    return notes + ([f"of no plan that is here: records of {', '.join(lone)}"] if lone else [])


def _many(missing: Sequence[Wanted]) -> str:
    return f"{len(missing)} run is" if len(missing) == 1 else f"{len(missing)} runs are"


def _cells(missing: Sequence[Wanted]) -> str:
    rungs: dict[float, list[int]] = {}
    for _, _, rung, seed in missing:
        rungs.setdefault(rung, []).append(seed)
    said = [f"{rung_name(rung)} seeds {', '.join(map(str, seeds))}" for rung, seeds in sorted(rungs.items())]
    return "; ".join(said[:CELLS_SAID] + ["and more"] * (len(said) > CELLS_SAID))


def value_notes(studies: Sequence[Study], records: Iterable[Record], task: Task) -> list[str]:
    """Say where a ledger is not its plan's, and where a tuned run has values that its ledger does not lead to."""
    steps = {rung: task.steps(rung) for rung in task.budget.rungs}
    by_plan: dict[str, list[Record]] = {}
    for record in records:
        if record.inputs.track == "tuned" and record.plan is not None:
            by_plan.setdefault(record.plan, []).append(record)
    notes, by_digest = [], {study.plan.digest: study for study in studies}
    for study in studies:
        plan, mine = study.plan, by_plan.get(study.plan.digest, [])
        try:
            state = state_after(study, by_digest, steps)
        except BenchError as error:
            notes.append(f"the tuned values of {plan.entry} do not stand: {error.what}")
            continue
        strange = {record.inputs.budget for record in mine if state.tuned is None or not _holds(record, state)}
        why = "its ledger is not finished" if state.tuned is None else "they are not what its ledger leads to"
        if strange:
            said = ", ".join(rung_name(rung) for rung in sorted(strange))
            notes.append(f"the values of {plan.entry} at {said} do not stand: {why}")
    return notes


def _holds(record: Record, state: State) -> bool:
    """Return whether a run's values, but for those that the harness adds under dotted names, are its mode's tuned."""
    own = {name: value for name, value in record.inputs.values.items() if "." not in name}
    tuned = {FLOAT: state.tuned or {}, **state.in_modes}.get(record.inputs.mode, {})
    return own == tuned.get(record.inputs.budget)


def looks_of(studies: Iterable[Study]) -> dict[str, int]:
    """Return the look that each entry's plans are at; 0 where one plan is all there is, and nothing was added."""
    looks: dict[str, int] = {}
    for study in studies:
        looks[study.plan.entry] = max(looks.get(study.plan.entry, 1), study.plan.look)
    return {entry: look if look > 1 else 0 for entry, look in looks.items()}


def placebos_of(studies: Iterable[Study], rows: Iterable[IndexRow]) -> dict[str, str]:
    """Return the twin of every placebo, by its plan, or by its name where it has none."""
    by_plan = {study.plan.entry: study.plan.twin for study in studies if study.plan.entry != study.plan.twin}
    return {**twins_of({row.entry for row in rows}), **by_plan}


def controls_of(studies: Iterable[Study]) -> set[str]:
    """Return the entries whose plans say that they are shown and never ranked."""
    return {study.plan.entry for study in studies if study.plan.control}


def hybrids_of(records: Iterable[Record]) -> set[str]:
    """Return the entries that leave a part of the weights to the harness."""
    return {record.entry for record in records if any(count.harness for count in record.facts.partition.values())}


def state_bytes_of(records: Iterable[Record]) -> dict[str, float]:
    """Return the bytes of optimizer state per parameter that runs were seen to hold, by entry."""
    held: dict[str, list[float]] = {}
    for record in records:
        if record.facts.state_bytes_per_parameter is not None:
            held.setdefault(record.entry, []).append(record.facts.state_bytes_per_parameter)
    return {entry: statistics.median(sizes) for entry, sizes in held.items()}


def costs_of(
    studies: Sequence[Study],
    chosen: Selection,
    task: Task,
    reference: str,
    hybrids: set[str],
    state_bytes: Mapping[str, float] | None = None,
    timings: Sequence[Timing] = (),
    track: str = "tuned",
) -> dict[str, Cost]:
    """Return what each entry costs beside its tokens: time, memory and trials.

    A step's time comes from timings against the reference, a placebo's from its twin's. Where nothing was timed it is
    the runs' own median step over their own tokens, since an entry may read other batches than the task's; that is
    indicative. Memory is a step's as forecast, with the state that was measured.
    """
    seconds: dict[str, list[float]] = {}
    for (entry, _), rows in chosen.cells.items():
        seconds.setdefault(entry, []).extend(row.token_seconds for row in rows if row.finished and row.token_seconds)
    if timings:
        base = statistics.median(timing.reference_seconds for timing in timings) / task.training.batch_tokens
        timed = {timing.entry: [timing.ratio * base] for timing in timings} | {reference: [base]}
        seconds = {entry: timed.get(entry.partition(PLACEBO)[0], []) for entry in seconds}
    plain = step_memory(task, task.training.micro_batch_sequences)
    memory = {name: plain.total - plain.state + size * task.parameters for name, size in (state_bytes or {}).items()}
    ledgers = _ledgers(studies)
    tuning = {}
    for entry in ledgers:
        own, lent = _charged(entry, ledgers, track, reference, hybrids)
        tuning[entry] = spent([*own, *lent]).tokens
    return {
        entry: Cost(
            seconds_per_token=statistics.median(laps) if laps else None,
            memory_bytes=memory.get(entry),
            tuning_tokens=tuning.get(entry),
            timed=bool(timings),
        )
        for entry, laps in seconds.items()
    }


def timings_of(
    timings: Iterable[Timing], mode: str, chosen: Selection, reference: str
) -> tuple[list[Timing], list[str]]:
    """Return the mode's timings of the code that the board's rows were made by, and what was left out, in words.

    They are of one kind of machine (protocol F): the board's where some are, else that of the most entries.
    """
    code = {entry: rows[0].entry_digest for (entry, _), rows in chosen.cells.items()}
    mine = [timing for timing in timings if timing.mode == mode and timing.reference == reference]
    held = [t for t in mine if (code.get(t.entry), code.get(reference)) == (t.entry_digest, t.reference_digest)]
    other = sorted({timing.entry for timing in mine if timing not in held and timing.entry in code})
    said = f"left out: timings of {', '.join(other)}, of other code than the records' or against other code"
    notes = [said] if other else []
    by_machine: dict[tuple[str, str], list[Timing]] = {}
    for timing in held:
        by_machine.setdefault((timing.machine.kind, timing.machine.processor), []).append(timing)
    ordered = sorted(by_machine, key=lambda one: (one[0] != chosen.machine_kinds[0], -len(by_machine[one]), one))
    for kind, processor in ordered[1:]:
        names = ", ".join(sorted(timing.entry for timing in by_machine[kind, processor]))
        notes.append(f"left out: timings of {names} on {processor}, another machine than the others'")
    return by_machine[ordered[0]] if ordered else [], notes


def time_notes(costs: Mapping[str, Cost], timings: Sequence[Timing]) -> list[str]:
    """Say where step times come from: timings on a machine, or the runs themselves."""
    if not timings:
        return [INDICATIVE] if any(cost.seconds_per_token for cost in costs.values()) else []
    lacking = sorted(entry for entry, cost in costs.items() if cost.seconds_per_token is None)
    first = timings[0]
    notes = [f"step times were measured against {first.reference}'s, interleaved, on {first.machine.processor}"]
    peaks = [(timing.entry, *timing.device_peak_bytes) for timing in timings if timing.device_peak_bytes]
    if peaks:
        said = ", ".join(f"{entry} {own / base:.2f}" for entry, base, own in peaks)
        notes.append(f"peak memory of the device over {first.reference}'s, measured with the step times: {said}")
    return notes + ([f"not timed: {', '.join(lacking)}"] if lacking else [])


def searches_of(studies: Sequence[Study], board: Board, initial: float, hybrids: set[str]) -> list[Search]:
    """Return the search of every entry on the board that has a ledger with trials, the reference's first."""
    ledgers, rungs = _ledgers(studies), {study.plan.entry: study.plan.tuning.rung for study in studies}
    assert board.curve is not None
    found, unit = [], board.reference.rungs[0].tokens / board.reference.rungs[0].budget
    for entry in [row.entry for row in (board.reference, *board.rows)]:
        mine = ledgers.get(entry, [])
        if mine:  # the ladder is of the scoring half, so its slope is read at the rung's tokens, not at a trial's loss
            slope = float(board.curve.slope_at([rungs[entry] * unit])[0]) if board.mode == FLOAT else None
            own, lent = _charged(entry, ledgers, board.track, board.reference.entry, hybrids)
            found.append(search_of(entry, mine, rungs[entry], slope, initial, own, lent))
    return found


def _charged(
    entry: str, ledgers: Mapping[str, list[Sequence[Trial]]], track: str, reference: str, hybrids: set[str]
) -> tuple[list[Sequence[Trial]], list[Sequence[Trial]]]:
    """Return the trials that an entry's values on a track rest on: its own, and those that the yardstick lends.

    A hybrid's rest has the yardstick's values too. Trials that only show something, at half and twice the batch, are
    nobody's price; the transfer track's two factors are shown there, and so charged there.
    """
    lends = track == "transfer" and entry != reference
    stages = {"transfer"} if lends else SEARCHED
    own: list[Sequence[Trial]] = [
        [trial for trial in trials if trial.stage in stages] for trials in ledgers.get(entry, [])
    ]
    if not lends and entry not in hybrids:
        return own, []
    return own, [[trial for trial in trials if trial.stage in SEARCHED] for trials in ledgers.get(reference, [])]


def _ledgers(studies: Iterable[Study]) -> dict[str, list[Sequence[Trial]]]:
    """Return each entry's ledgers that have trials, first look first; trials in modes that round are left out."""
    found: dict[str, list[Sequence[Trial]]] = {}
    for study in sorted(studies, key=lambda study: study.plan.look):
        trials = [trial for trial in study.trials if MODE not in trial.values]
        if trials:
            found.setdefault(study.plan.entry, []).append(trials)
    return found


def initial_loss(records: Iterable[Record], task: Task) -> float:
    """Return the mean loss before the first step, the same for all entries; without one, that of a uniform guess."""
    losses = [record.initial_loss for record in records if record.initial_loss is not None]
    return math.fsum(losses) / len(losses) if losses else math.log(task.model.vocabulary)
