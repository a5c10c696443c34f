"""The tuned values of an entry on a task: what the ledgers of all its plans lead to, held against their file."""

import re
import statistics
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from bench.errors import BenchError
from bench.ledger import Study as Ledgered
from bench.mode import FLOAT
from bench.plan import Plan
from bench.record import Record
from bench.score.rows import EQUAL_SIZE
from bench.submission.desk import Values, short
from bench.task import rung_name
from bench.trials import state_after
from bench.tuned import Tuned, lent_values
from bench.tuning import DECAY

Odd = Iterator[tuple[str, str]]  # (key, reason)
SCALE = re.compile(r"transfer\.\d+x\d+")  # of the updates of one shape's matrices, measured


@dataclass(frozen=True)
class Led:
    """What ledgers lead to."""

    first: Ledgered  # the plan that was tuned
    values: Mapping[str, Mapping[float, Values]]  # by mode and rung
    added: Mapping[str, str]  # last line of the ledger, by plan that added modes or rungs
    transfer: Mapping[str, Mapping[str, object]] = field(
        default_factory=dict
    )  # by rung, with the scales that were measured


def led_to(plan: Plan, studies: Mapping[str, Ledgered], steps: dict[float, int]) -> Led:
    """Return what the ledger of a plan leads to, and those of the other plans that come after the same first one."""
    first = _first(plan, studies)
    values: dict[str, dict[float, Values]] = {}
    added: dict[str, str] = {}
    for study in studies.values():
        if study.plan.rerun is not None or _first(study.plan, studies) != first:
            continue
        state = state_after(study, studies, steps)
        if state.tuned is None:
            if study.plan in (plan, first):
                raise BenchError("ends before the plan's trials do")
            continue  # another plan of the author's, under way
        for mode, rungs in {FLOAT: state.tuned, **state.in_modes}.items():
            values.setdefault(mode, {}).update({rung: dict(own) for rung, own in rungs.items()})
        if study.plan.after is not None and study.trials:
            added[study.plan.digest] = study.trials[-1].digest
    return Led(studies[first.digest], values, added)


def _first(plan: Plan, studies: Mapping[str, Ledgered]) -> Plan:
    while plan.after is not None and plan.after in studies:
        plan = studies[plan.after].plan
    return plan


def departures_of(tuned: Tuned, led: Led, yardstick: Tuned | None) -> Odd:
    """Yield what of the file is not what the ledgers lead to."""
    wanted = {mode: {rung_name(rung): own for rung, own in rungs.items()} for mode, rungs in led.values.items()}
    for mode, tables in wanted.items():
        for rung, values in tables.items():
            if tuned.tuned.get(mode, {}).get(rung) != values:
                yield f"tuned.{mode}.{rung}", "is not what the ledger leads to"
    for mode, rungs in tuned.tuned.items():
        for rung in sorted(set(rungs) - set(wanted.get(mode, {}))):
            yield f"tuned.{mode}.{rung}", "no ledger leads to it"
    trials = led.first.trials
    runs = [run for trial in trials for run in trial.runs]
    facts: dict[str, tuple[object, object]] = {
        "plan": (tuned.plan, led.first.plan.digest),
        "ledger": (tuned.ledger, trials[-1].digest if trials else None),
        "cost.trials": (tuned.cost.trials, len(trials)),
        "cost.charged_tokens": (tuned.cost.charged_tokens, sum(run.charged_tokens for run in runs)),
        "cost.train_seconds": (tuned.cost.train_seconds, round(sum(run.train_seconds for run in runs), 1)),
        "added": (tuned.added, led.added),
    }
    for key, (mine, said) in facts.items():
        if mine != said:
            yield key, f"{short(mine)}, the ledger says {short(said)}"
    yield from _transfer(tuned, led.first.plan, sorted(led.values.get(FLOAT, {})), yardstick)


def _transfer(tuned: Tuned, plan: Plan, rungs: list[float], yardstick: Tuned | None) -> Odd:
    """The transfer track runs at the yardstick's learning rate, warm-up and decay; only the scales were measured.

    They are the author's word: what runs at them did to the weights is compared in sizes_apart.
    """
    wanted = rungs if "transfer" in plan.tracks else []
    table = tuned.transfer.get(FLOAT, {})
    if set(tuned.transfer) - {FLOAT} or sorted(table) != sorted(map(rung_name, wanted)):
        yield "transfer", f"expected {', '.join(map(rung_name, wanted)) or 'none'} in {FLOAT}, and no others"
        return
    for rung in wanted if yardstick else []:
        assert yardstick is not None
        theirs, mine = yardstick.at(rung), table[rung_name(rung)]
        lent = {**lent_values(plan, theirs), f"transfer.{DECAY}": theirs[DECAY]}
        scales = {name: value for name, value in mine.items() if SCALE.fullmatch(name)}
        for name in sorted(({*mine, *lent}) - set(scales)):
            if mine.get(name) != lent.get(name):
                said = f"{short(mine.get(name))}, the yardstick lends {short(lent.get(name))}"
                yield f"transfer.{FLOAT}.{rung_name(rung)}.{name}", said
        if any(not isinstance(value, float) or value <= 0 for value in scales.values()):
            yield f"transfer.{FLOAT}.{rung_name(rung)}", "has a scale that is no number above 0"


def sizes_apart(found: Mapping[str, Record], theirs: Iterable[Record]) -> Odd:
    """Yield (name, reason) of the first transfer run at each rung whose updates have not the yardstick's size."""
    sizes: dict[float, list[float]] = {}
    for record in theirs:
        if record.inputs.mode == FLOAT and record.inputs.track == "tuned" and "hidden" in record.facts.update_rms:
            sizes.setdefault(record.inputs.budget, []).append(record.facts.update_rms["hidden"])
    for name, record in found.items():
        mine, rung = record.facts.update_rms.get("hidden"), record.inputs.budget
        if record.inputs.track != "transfer" or record.outcome != "finished" or mine is None or rung not in sizes:
            continue
        wanted = statistics.median(sizes[rung])
        if not wanted / EQUAL_SIZE <= mine <= wanted * EQUAL_SIZE:
            del sizes[rung]
            said = f"a row whose steps are off by a factor above {EQUAL_SIZE:g} is not ranked"
            yield name, f"{mine:g} on the transfer track, the yardstick's at {rung_name(rung)} is {wanted:g}: {said}"
