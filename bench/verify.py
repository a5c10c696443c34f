"""The protocol lint: what a record proves, rule by rule (protocol A, E). A promise in prose is not a rule."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache

from bench.entry import WARMUP
from bench.errors import BenchError
from bench.mode import Mode, mode_names, read_mode
from bench.passes import own_order
from bench.record import Log, Quantization, Record, Rounding
from bench.task import Task, rung_name

FULL_PRECISION = ("float32", "int32", "int64", "bool")  # counts, indices and masks may stand beside fp32
CHARGE_ERROR = 1e-6  # relative; the record holds passes and charged tokens as doubles
LAST_STEPS = 2.0  # the last multiplier is one step's share of the decay; two leave room for rounding
SHOWN = 12  # hexadecimal digits of a digest, enough to compare by eye


@dataclass(frozen=True)
class Tick:
    rule: str  # "A1"; "task" and "mode" for the files themselves
    title: str
    ok: bool | None  # None: not applicable, or not known
    detail: str


def lint_record(record: Record, task: Task, log: Log | None = None) -> list[Tick]:
    """Return one tick per rule; rules that read the task say nothing once the task has changed."""
    same_task = record.inputs.task_digest == task.digest
    ticks = [_task_is_the_same(same_task), _precision(record), _start_and_data(record, log)]
    rules: list[tuple[str, str, Callable[[Record, Task], tuple[bool | None, str]]]] = [
        ("A3", "same tokens, own decayed schedule", _schedule),
        ("A4", "every parameter is trained by exactly one side", _partition),
        ("A5", "the task's gradient clipping", _clipping),
        ("A6", "validated by the harness, no early stop", _no_early_stop),
    ]
    for rule, title, check in rules:
        ok, detail = check(record, task) if same_task else (None, "the task changed after this run")
        ticks.append(Tick(rule, title, ok, detail))
    return [*ticks, _charge(record), *_quantization(record)]


def _task_is_the_same(same: bool) -> Tick:
    detail = "its digest is the task file's" if same else "the task changed after this run"
    return Tick("task", "the task file is the one that was run", same, detail)


def _precision(record: Record) -> Tick:
    weights, states = record.facts.weight_dtypes, record.facts.state_dtypes
    low = sorted({dtype for dtype in (*weights, *states) if dtype not in FULL_PRECISION})
    ok = not low if weights else False if record.outcome == "finished" else None
    detail = f"weights {', '.join(weights) or 'not recorded'}; state {', '.join(states) or 'none'}"
    return Tick("A1", "fp32 weights and optimizer state", ok, detail)


def _start_and_data(record: Record, log: Log | None) -> Tick:
    title, chain = "initial weights and token order recorded", record.chains.data
    if chain is None:
        ok = False if record.outcome == "finished" else None
        return Tick("A2", title, ok, f"no data chain: the run is {record.outcome}")
    last = log.milestones[-1] if log and log.milestones else None
    if last is not None and last.step == record.steps and last.data != chain:
        return Tick("A2", title, False, "the log's last milestone does not carry the record's data chain")
    return Tick("A2", title, True, f"weights {record.weights.initial[:SHOWN]}, data {chain[:SHOWN]}")


def _schedule(record: Record, task: Task) -> tuple[bool | None, str]:
    """The last multiplier must be above zero and no larger than one step's share of the decay."""
    planned, facts = task.tokens(record.inputs.budget), record.facts
    counted = f"{record.tokens:,} of {planned:,} tokens"
    if record.tokens != planned:
        return (False if record.outcome == "finished" else None), f"{counted}; {record.outcome}"
    if facts.schedule in ("cosine", "wsd", "refined"):
        return None, f"{counted}; a {facts.schedule} schedule, as a study of schedules may have: a deviation"
    if facts.schedule == "constant":
        return None, f"{counted}; a constant schedule, which only schedule-free methods may declare: a deviation"
    if facts.last_multiplier is None:
        return False, f"{counted}; the last multiplier was not recorded"
    steps = record.tokens / facts.batches.last if facts.batches else max(1, record.steps)
    decay_steps = max(1.0, (1 - float(record.inputs.values.get(WARMUP, 0.0))) * steps)
    ok = 0 < facts.last_multiplier <= LAST_STEPS / decay_steps
    return ok, f"{counted}; decay, last multiplier {facts.last_multiplier:.3g}"


def _partition(record: Record, task: Task) -> tuple[bool | None, str]:
    counts = record.facts.partition
    own, rest = sum(c.entry for c in counts.values()), sum(c.harness for c in counts.values())
    if not counts and record.outcome != "finished":
        return None, "no partition was recorded"
    hidden = counts["hidden"].entry + counts["hidden"].harness if "hidden" in counts else 0
    ok = own + rest == task.parameters and hidden == task.matrix_parameters
    wanted = "" if ok else f"; the model has {task.parameters:,}, {task.matrix_parameters:,} of them hidden"
    return ok, f"{own:,} by the entry, {rest:,} by the harness{wanted}"


def _clipping(record: Record, task: Task) -> tuple[bool | None, str]:
    clip, rate = record.facts.clip, record.facts.clip_rate
    if clip is None:
        return None, "the entry declares no clipping: a deviation"
    said = f"clipped at {clip:g}"
    if clip != task.training.clip:
        return False, f"{said}; the task clips at {task.training.clip:g}"
    if rate is None:
        return (False if record.outcome == "finished" else None), f"{said}; the clip rate was not recorded"
    return True, f"{said}, in {100 * rate:.1f}% of the steps"


def _no_early_stop(record: Record, task: Task) -> tuple[bool | None, str]:
    planned = task.steps(record.inputs.budget)
    if _own_order(record):  # a plan in tokens, which rule A3 holds it to
        planned = record.steps
    steps = f"{record.steps:,} of {planned:,} steps, validation {record.facts.validation[:SHOWN]}"
    if record.outcome != "finished":
        return None, f"{steps}; {record.outcome}"
    if record.score_loss is None:
        return False, f"{steps}; no scoring loss"
    return record.steps == planned, steps


def _charge(record: Record) -> Tick:
    """Each step costs one forward-backward or more, whatever the entry does with it."""
    passes, charged = record.facts.passes, record.charged_tokens
    ok = passes >= 1 and abs(charged - record.tokens * passes) <= CHARGE_ERROR * max(1.0, charged)
    detail = f"{charged:,.0f} charged; {record.tokens:,} tokens x {passes:.6g} passes"
    return Tick("A7", "charged tokens are tokens times passes", ok, detail)


def _quantization(record: Record) -> list[Tick]:
    """Return the ticks of a mode that quantizes; none of one that does not."""
    facts, mode = record.facts.quantization, _mode_of(record.inputs.mode)
    if facts is None and not (mode and mode.quantizes):
        return []
    same = mode is not None and mode.digest == record.inputs.mode_digest
    said = "its digest is the mode file's and its code's" if same else "the mode changed after this run"
    return [
        Tick("mode", "the mode is the one that was run", same, said),
        *lint_quantization(facts, record.outcome == "finished"),
    ]


def lint_quantization(facts: Quantization | None, finished: bool = True) -> list[Tick]:
    """Return the ticks of what a run, or a finished checkpoint, proves of its rounding."""
    ticks = []
    rules: list[tuple[str, str, Callable[[Quantization], tuple[bool | None, str]]]] = [
        ("E1", "every layer inside the blocks is quantized", _layers),
        ("E2", "in every forward pass", _passes),
        ("E3", "onto no more levels than the bits give", _levels),
    ]
    for rule, title, check in rules:
        missing = (False if finished else None), "no facts of quantization were recorded"
        ok, detail = check(facts) if facts else missing
        ticks.append(Tick(rule, title, None if ok is None and not finished else bool(ok), detail))
    return ticks


@cache
def _mode_of(name: str) -> Mode | None:
    """Return the mode of that name as it is now, or None where there is none that can be read."""
    try:
        return read_mode(name) if name in mode_names() else None
    except BenchError:
        return None


def _layers(facts: Quantization) -> tuple[bool | None, str]:
    kinds = ", ".join(f"{count} {part}" for part, count in facts.parts.items())
    ok = facts.actual == facts.expected and facts.actual.count == sum(facts.parts.values()) > 0
    return ok, f"{facts.actual.count} of {facts.expected.count} layers{': ' if kinds else ''}{kinds}"


def _passes(facts: Quantization) -> tuple[bool | None, str]:
    if facts.forwards is None:
        return None, "no forward pass was counted in some layer"
    return facts.forwards == 1, f"{100 * facts.forwards:.4g}% of the passes of the layer with least"


def _levels(facts: Quantization) -> tuple[bool | None, str]:
    sides = {"weights": facts.weights, "activations": facts.activations}
    found = {name: side for name, side in sides.items() if side}
    ok = all(1 < side.levels[0] <= side.levels[1] <= 2**side.bits for side in found.values()) if found else None
    return ok, "; ".join(f"{name} {_spread(side)}" for name, side in found.items()) or "levels were not measured"


def _spread(side: Rounding) -> str:
    low, high = side.levels
    levels = f"{low}" if low == high else f"{low} to {high}"
    return f"{levels} at {side.bits} bits, {100 * side.clipped:.3g}% clipped, {100 * side.masked:.3g}% masked"


def lint_siblings(records: Iterable[Record]) -> dict[str, list[Tick]]:
    """Return, by run_id, whether runs that must share inputs do; needs all records of a task at once.

    Initial weights: every run of a task, seed and machine kind. Token order: those of one budget that finished.
    Validation tokens: every run of a task.
    """
    everything = list(records)
    finished = [record for record in everything if record.outcome == "finished" and not _own_order(record)]
    weights = _agree("A2", "same initial weights as other entries", everything,
                     lambda r: (r.inputs.task_digest, r.inputs.seed, r.inputs.machine_kind),
                     lambda r: r.weights.initial)  # fmt: skip
    data = _agree("A2", "same token order as other entries", finished,
                  lambda r: (r.inputs.task_digest, r.inputs.seed, r.inputs.machine_kind, r.inputs.budget),
                  lambda r: r.chains.data)  # fmt: skip
    validation = _agree("A6", "same validation tokens as other entries", everything,
                        lambda r: (r.inputs.task_digest,), lambda r: r.facts.validation)  # fmt: skip
    for record in everything:
        if own := _own_order(record):
            data[record.run_id] = Tick("A2", "same token order as other entries", None, own)
    return {
        r.run_id: [found[r.run_id] for found in (weights, data, validation) if r.run_id in found] for r in everything
    }


def _own_order(record: Record) -> str | None:
    return own_order(record.facts.probe, record.facts.batches)


def _agree(rule: str, title: str, records: list[Record], group_of: Callable[[Record], tuple[object, ...]],
           value_of: Callable[[Record], str | None]) -> dict[str, Tick]:  # fmt: skip
    """Return a tick per record: it holds the group's most common value; where two are as common, none does."""
    groups: dict[tuple[object, ...], list[Record]] = defaultdict(list)
    for record in records:
        if value_of(record) is not None:
            groups[group_of(record)].append(record)
    ticks: dict[str, Tick] = {}
    for group in groups.values():
        votes: Counter[str | None] = Counter()
        for _, value in {(r.entry, value_of(r)) for r in group}:  # an entry's many runs are one voice
            votes[value] += 1
        top = max(votes.values())
        common = {value for value, count in votes.items() if count == top}
        holders: dict[str | None, set[tuple[str, float]]] = defaultdict(set)
        for record in group:
            holders[value_of(record)].add((record.entry, record.inputs.budget))
        entries = sorted({record.entry for record in group})
        told = {(entry, value): _sibling_tick(rule, title, entry, value, entries, holders, common)
                for value, cells in holders.items() for entry in {entry for entry, _ in cells}}  # fmt: skip
        ticks |= {record.run_id: told[record.entry, value_of(record)] for record in group}
    return ticks


def _sibling_tick(rule: str, title: str, entry: str, mine: str | None, entries: list[str],
                  holders: Mapping[str | None, set[tuple[str, float]]], common: set[str | None]) -> Tick:  # fmt: skip
    """Return the tick of an entry's runs that hold one value of a group; holders: entries and budgets by value."""
    others = [other for other in entries if other != entry]
    if not others:
        return Tick(rule, title, None, "no other entry has such a run yet")
    elsewhere = set[tuple[str, float]]().union(*(cells for value, cells in holders.items() if value != mine))
    odd = sorted(f"{other} at {rung_name(budget)}" for other, budget in elsewhere)
    if not odd:
        return Tick(rule, title, True, f"equal to {', '.join(others)}")
    return Tick(rule, title, common == {mine}, f"{mine[:SHOWN] if mine else 'none'} differs from {', '.join(odd)}")
