"""The records of a plan: the runs it asks for, each once, at the tuned values, and each as its log says."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.entry import Entry
from bench.index import index_row
from bench.mode import FLOAT, read_mode
from bench.plan import Plan
from bench.record import Log, Record, find_records, read_log, read_record
from bench.score.evidence import departures
from bench.standin import why_not_stood_in
from bench.submission.desk import Desk, short
from bench.submission.files import parts_of_name
from bench.submission.harness import own_harness
from bench.submission.logs import Sizes, inconsistencies, sizes_of_blocks
from bench.submission.probes import of_probe
from bench.submission.values import Led, sizes_apart
from bench.task import Task, rung_name
from bench.tuned import Tuned, rest_of
from bench.verify import lint_record, lint_siblings


@dataclass
class Runs:
    desk: Desk
    plan: Plan
    task: Task
    entry: Entry
    led: Led | None  # None: not known
    yardstick: Tuned | None
    name: str  # of the plan's file

    def all(self, names: list[str]) -> dict[str, Record]:
        """Look at the records of these names, and return those that could be read."""
        found: dict[str, Record] = {}
        sizes: dict[str, Sizes] = {}
        for name in names:
            record = self.desk.read(name, read_record)
            if record is None:
                continue
            path = name.removesuffix(".json") + ".log.gz"
            read = partial(read_log, record=record)
            log = None if path in self.desk.damaged else self.desk.read(name, read)
            with self.desk.judging(name):
                self._record(name, record, log)
                found[name] = record
                if log and record.score_loss is not None and log.score_blocks:
                    sizes[name] = sizes_of_blocks(record.score_loss, log.score_blocks)
        self._together(found, sizes)
        return found

    def _record(self, name: str, record: Record, log: Log | None) -> None:
        plan, inputs = self.plan, record.inputs
        if parts_of_name(name)[1] != plan.digest[:16] or record.plan != plan.digest:
            self.desk.add(name, "plan", "is not the plan of its folder")
        for key in ("task", "task_digest", "entry", "entry_digest", "machine_kind"):
            if getattr(inputs, key) != getattr(plan, key):
                self.desk.add(
                    name, f"inputs.{key}", f"{short(getattr(inputs, key))}, planned {short(getattr(plan, key))}"
                )
        if why := why_not_stood_in(record, self.desk.base / "leaderboard"):
            self.desk.add(name, "machine.stands_for", why)
        if inputs.task_digest != self.task.digest:
            return
        if inputs.budget not in self.task.budget.rungs:
            self.desk.add(name, "inputs.budget", f"{inputs.budget:g} is no rung of {plan.task}")
            return
        if inputs.mode == FLOAT and inputs.mode_digest != read_mode(FLOAT).digest:
            self.desk.add(name, "inputs.mode_digest", f"is not that of {FLOAT}")
        for key, reason in self._values(record):
            self.desk.add(name, key, reason)
        for tick in lint_record(record, self.task, log):
            if tick.ok is False:
                self.desk.add(name, f"protocol {tick.rule}", tick.detail)
        for key, reason in (*_of_entry(record, self.entry), *(inconsistencies(record, log, self.task) if log else ())):
            self.desk.add(name, key, reason)

    def _values(self, record: Record) -> Iterator[tuple[str, str]]:
        inputs, rung = record.inputs, record.inputs.budget
        led = self.led
        if led is None or inputs.track == "declared":
            return
        own = {key: value for key, value in inputs.values.items() if "." not in key}
        wanted = led.values.get(inputs.mode, {}).get(rung)
        if inputs.track == "transfer":
            own = {key: value for key, value in inputs.values.items() if not key.startswith("rest.")}
            wanted = dict(led.transfer.get(rung_name(rung), {}))
        if own != wanted:
            yield "inputs.values", f"{short(own)}, tuned {short(wanted)}"
        rest = {key.removeprefix("rest."): v for key, v in inputs.values.items() if key.startswith("rest.")}
        theirs = rest_of(self.yardstick.at(rung)) if self.yardstick else {}
        if (self.entry.facts.scope != "full" or rest) and rest != theirs:
            yield "inputs.values.rest", f"{short(rest)}, the yardstick's {short(theirs)}"

    def _together(self, found: dict[str, Record], sizes: dict[str, Sizes]) -> None:
        """What only shows over all records: the plan's runs, each once, and the same data as everybody's."""
        seen: dict[tuple[object, ...], str] = {}
        chains: dict[str, str] = {}
        for name, record in found.items():
            key = (record.inputs.track, record.inputs.mode, record.inputs.budget, record.inputs.seed)
            if seen.setdefault(key, name) != name:
                self.desk.add(name, "inputs.seed", f"duplicate: seed {key[3]} at {rung_name(key[2])} again")
            if record.chains.loss and chains.setdefault(record.chains.loss, name) != name:
                self.desk.add(name, "chains.loss", f"is that of {Path(chains[record.chains.loss]).name}, another run")
        told = departures(self.plan, [index_row(record, name) for name, record in found.items()])
        for track, mode, rung, seed in told.missing:
            self.desk.add(self.name, "rungs", f"no record of {track} {mode} at {rung_name(rung)} with seed {seed}")
        for name in told.extra:
            self.desk.add(name, "inputs", "the plan asks for no such run")
        yardstick = (self.plan.yardstick or "")[:16]
        theirs = (
            find_records([self.desk.base / "leaderboard" / "records" / self.plan.task / yardstick]) if yardstick else []
        )
        base = [read_record(path) for path in theirs]
        self._harness(found, {record.inputs.harness for record in base})
        for name, reason in sizes_apart(found, base):
            self.desk.remark(name, "facts.update_rms.hidden", reason)
        common = self._sizes(theirs)
        for name, mine in sizes.items():
            common = mine if common is None else common & mine
            if mine and not common:
                self.desk.add(name, "score_loss", "its blocks have not the sizes that those of other runs have")
                break
        names = {record.run_id: name for name, record in found.items()}
        for run_id, ticks in lint_siblings([*found.values(), *base]).items():
            for tick in ticks:
                if tick.ok is False and run_id in names:
                    self.desk.add(names[run_id], f"protocol {tick.rule}", f"{tick.title}: {tick.detail}")

    def _harness(self, found: dict[str, Record], known: set[str]) -> None:
        """Name versions of the harness that are neither the clone's own nor of the yardstick's records, each once."""
        for name, record in found.items():
            harness = record.inputs.harness
            if harness in known or harness == own_harness() or (self.desk.base / name).is_file():
                continue
            known = {*known, harness}
            said = f"{harness[:12]} is neither this clone's nor that of a record of the yardstick: replay this one"
            self.desk.remark(name, "inputs.harness", said)

    def _sizes(self, published: list[Path]) -> Sizes | None:
        """Return what the scoring text's blocks may be like by one of the yardstick's runs."""
        for path in published:
            record = read_record(path)
            if record.score_loss is not None and record.inputs.task_digest == self.task.digest:
                return sizes_of_blocks(record.score_loss, read_log(path, record).score_blocks) or None
        return None


def _of_entry(record: Record, entry: Entry) -> Iterator[tuple[str, str]]:
    """What a record says of its entry must be what the entry says of itself."""
    facts, said = entry.facts, record.facts
    if said.schedule != facts.schedule.kind:
        yield "facts.schedule", f"{said.schedule}, the entry says {facts.schedule.kind}"
    if (said.clip is not None) != facts.clip:
        yield "facts.clip", f"{said.clip}, the entry says clip = {str(facts.clip).lower()}"
    if said.batches is not None and not facts.controls_batch:
        yield "facts.batches", "of the run's own choice, the entry says controls_batch = false"
    sides = {role: (count.entry, count.harness) for role, count in said.partition.items()}
    left = {role for role, (_, harness) in sides.items() if harness}
    if sides and facts.scope == "full" and left:
        yield f"facts.partition.{min(left)}", "is left to the harness by an entry of scope full"
    if sides and facts.scope == "hidden" and (left != set(sides) - {"hidden"}):
        yield "facts.partition", "is not that of an entry of scope hidden"
    yield from of_probe(record, entry)
    same = record.weights.evaluated in (None, record.weights.final)
    if not same and not entry.swaps_weights:
        yield "weights.evaluated", "differs from weights.final, and the entry has no evaluation_weights"
