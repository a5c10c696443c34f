"""Stand-ins: a processor that was shown to give another's bits goes on with plans that were written for the other.

A kind of machine is what moves bits, and a processor's name is in it, since nobody can tell from outside which kernels
two processors choose. But it can be shown: a run of the one is made again on the other, whole, and every loss, gradient
norm, weight and score is the same to the bit. What was shown lies in leaderboard/standins/<task>/, one sealed file for
each pair of processors; BENCH_STAND_IN names the file on the machine that stands in, and a record says which processor
made it.

It holds, with the same versions of the libraries, for an algorithm and a mode of which a run was shown. It holds too
for an algorithm that the other never ran in a mode, once all that it did run there was shown: what the newcomer is
compared with then has the same bits here. When the other runs it after all, a run of it has to be shown as well.
"""

import json
import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from pydantic import Field

from bench.digest import digest_of
from bench.entry import MODE
from bench.errors import BenchError
from bench.index import IndexRow
from bench.ledger import Trial
from bench.mode import FLOAT
from bench.plan import Plan, read_plan
from bench.record import Digest, Machine, Processor, Record, find_records, read_record, seal, write_atomically
from bench.spec import Spec, parse_json, read_text, validate
from bench.task import Task

SCHEMA = 1
VARIABLE = "BENCH_STAND_IN"
FOLDER = "standins"  # of the leaderboard


class Shown(Spec):
    """A run that was made again, whole: every loss, gradient norm, weight and score came back to the bit."""

    run_id: Digest
    algorithm: str
    mode: str
    steps: int
    loss_chain: Digest
    apart: tuple[str, ...] = ()  # what else the record has and did not come back: facts, as shares that are counted


class StandIn(Spec):
    """What was shown of one processor for another, on one task."""

    schema_version: int = Field(alias="schema")
    task: str
    task_digest: Digest
    here: Processor  # which stands in
    there: Processor
    lock: Digest  # of the environment that both have
    shown: tuple[Shown, ...] = Field(min_length=1)
    who: str
    digest: Digest  # of all of the above

    @property
    def covered(self) -> set[tuple[str, str]]:
        """Algorithms and modes of which a run was shown."""
        return {(one.algorithm, one.mode) for one in self.shown}


def processor_of(machine: Machine) -> Processor:
    """Return what a machine itself computes with, whatever it counts as."""
    return Processor(processor=machine.processor, instructions=machine.instructions, switches=machine.switches)


def stand_in_path(leaderboard: Path, task: str, here: Processor, there: Processor, lock: str) -> Path:
    pair = digest_of({"here": here.model_dump(mode="json"), "there": there.model_dump(mode="json"), "lock": lock})
    return leaderboard / FOLDER / task / f"{pair[:16]}.json"


def read_stand_in(path: Path) -> StandIn:
    """Return what was shown; a file edited by hand is refused."""
    table = parse_json(read_text(path), str(path))
    found = validate(table, StandIn, str(path))
    if seal(table)["digest"] != found.digest:
        raise BenchError(
            f"{path}: was changed after it was written (its digest does not fit)",
            "restore it from version control, or show it again: bench stand-in",
        )
    return found


def standing_in(machine: Machine, task_digest: str, algorithm: str, mode: str) -> Machine:
    """Return the machine as it counts: as the one that BENCH_STAND_IN shows it to equal, where that is of this task."""
    named = os.environ.get(VARIABLE)
    if not named:
        return machine
    proof = read_stand_in(Path(named))
    if proof.task_digest != task_digest:  # of another task, or of another version of it
        return machine
    if proof.here != processor_of(machine):
        raise BenchError(
            f"{VARIABLE}: {named} is of {_said(proof.here)}; this machine is {_said(processor_of(machine))}",
            "set the switches that it names, or show what this one gives: bench stand-in",
        )
    if proof.lock != machine.lock:
        raise BenchError(
            f"{VARIABLE}: {named} was shown with other versions of the libraries (lock {proof.lock[:12]}, here "
            f"{machine.lock[:12]})",
            "install those of constraints.txt, or show it again: bench stand-in",
        )
    if why := _why_not(proof, Path(named).absolute().parent.parent.parent, algorithm, mode):
        raise BenchError(f"{VARIABLE}: {named}: {why}", f"bench stand-in tasks/{proof.task}.toml --mode {mode}")
    return machine.model_copy(update={"stands_for": proof.there})


def _why_not(proof: StandIn, leaderboard: Path, algorithm: str | None, mode: str) -> str | None:
    """Return what is lacking for runs of an algorithm in a mode; None as an algorithm is one that nobody planned."""
    if (algorithm, mode) in proof.covered:
        return None
    theirs = {name for name, in_mode in _run_by(proof.there, leaderboard, proof.task) if in_mode == mode}
    wanted = {algorithm} if algorithm in theirs else theirs - {name for name, there in proof.covered if there == mode}
    lacking = ", ".join(sorted(name for name in wanted if name))
    return f"{proof.here.processor} is not shown to give the bits of {lacking} in {mode}" if lacking else None


def _run_by(processor: Processor, leaderboard: Path, task: str) -> set[tuple[str, str]]:
    """Return the algorithms, with modes, of which a processor made planned records, as itself."""
    found = set()
    for path in (leaderboard / "plans" / task).glob("*.json"):
        plan = read_plan(path)
        for record in map(read_record, find_records([leaderboard / "records" / task / plan.digest[:16]])):
            if record.machine.stands_for is None and processor_of(record.machine) == processor:
                found.add((plan.algorithm, record.inputs.mode))
    return found


def runs_to_show(
    rows: Iterable[IndexRow], task: Task, algorithms: Mapping[str, str], modes: Collection[str], here: Machine,
    leaderboard: Path,
) -> list[tuple[Path, Path]]:  # fmt: skip
    """Return (record, file) where this processor has something to show: a run of each algorithm and mode of another.

    It is the first by run_id of those at 1x with the same libraries, so no one chooses. Records of stand-ins count
    where they stand for this processor, which then shows the same from its side.
    """
    own = processor_of(here)
    found: dict[tuple[str, str, str], tuple[Path, Path]] = {}
    for row in sorted(rows, key=lambda row: row.run_id):
        fits = row.task_digest == task.digest and row.budget == 1.0 and row.track == "tuned" and row.plan
        if not fits or not row.finished or row.entry not in algorithms or (modes and row.mode not in modes):
            continue
        machine = read_record(Path(row.path)).machine
        maker = processor_of(machine)
        if own == maker or machine.lock != here.lock or machine.stands_for not in (None, own):
            continue
        pair = (own, maker) if machine.stands_for is None else (maker, own)
        path, key = stand_in_path(leaderboard, row.task, *pair, here.lock), (algorithms[row.entry], row.mode)
        if not path.exists() or key not in read_stand_in(path).covered:
            found.setdefault((path.name, *key), (Path(row.path), path))
    return [found[key] for key in sorted(found)]


def add_shown(
    path: Path, record: Record, algorithm: str, machine: Machine, who: str, apart: Collection[str] = ()
) -> None:
    """Write down that the machine gave the record's run again, beside what was shown of the two before."""
    pair = processor_of(machine), processor_of(record.machine)
    here, there = reversed(pair) if record.machine.stands_for else pair
    shown = {}
    if path.exists():
        before = read_stand_in(path)
        if before.task_digest == record.inputs.task_digest:
            shown = {one.run_id: one.model_dump() for one in before.shown}
    shown[record.run_id] = {"run_id": record.run_id, "algorithm": algorithm, "mode": record.inputs.mode,
                            "steps": record.steps, "loss_chain": record.chains.loss, "apart": list(apart)}  # fmt: skip
    facts = {
        "schema": SCHEMA,
        "task": record.task,
        "task_digest": record.inputs.task_digest,
        "here": here.model_dump(),
        "there": there.model_dump(),
        "lock": machine.lock,
        "shown": [shown[run_id] for run_id in sorted(shown)],
        "who": who,
    }
    write_atomically(path, (json.dumps(seal(facts), indent=1) + "\n").encode())


def read_stand_ins(leaderboard: Path, task: str) -> list[StandIn]:
    """Return what is shown on a task, by file name."""
    return [read_stand_in(path) for path in sorted((leaderboard / FOLDER / task).glob("*.json"))]


def check_stand_in(path: Path) -> StandIn:
    """Return what a published file shows; raise BenchError unless each run has its record, made by one of the two."""
    proof, leaderboard = read_stand_in(path), path.absolute().parents[2]
    records = leaderboard / "records" / proof.task
    for one in proof.shown:
        record = next(map(read_record, records.glob(f"*/{one.run_id}.json")), None)
        if record is None or (
            one.algorithm, one.mode, one.steps, one.loss_chain, proof.lock, proof.task_digest,
        ) != (
            _algorithm(record, leaderboard), record.inputs.mode, record.steps, record.chains.loss, record.machine.lock,
            record.inputs.task_digest,
        ) or (processor_of(record.machine), record.machine.stands_for) not in (
            (proof.there, None), (proof.here, proof.there),
        ):  # fmt: skip
            raise BenchError(f"{path}: the run {one.run_id[:12]} that it shows has no such record", "show it again")
    return proof


def why_not_stood_in(record: Record, leaderboard: Path) -> str | None:
    """Return why a record may not count as another processor's, or None where it does not or is shown to."""
    machine, inputs = record.machine, record.inputs
    if machine.stands_for is None:
        return None
    wanted = processor_of(machine), machine.stands_for, machine.lock, inputs.task_digest
    for proof in read_stand_ins(leaderboard, record.task):
        if wanted == (proof.here, proof.there, proof.lock, proof.task_digest):
            return _why_not(proof, leaderboard, _algorithm(record, leaderboard), inputs.mode)
    return f"{machine.processor} is not shown to give the bits of {machine.stands_for.processor}"


def _algorithm(record: Record, leaderboard: Path) -> str | None:
    """Return the algorithm that a record's plan names; None where it has no plan there."""
    plan = next((leaderboard / "plans" / record.task).glob(f"*-{(record.plan or 'none')[:16]}.json"), None)
    return read_plan(plan).algorithm if plan else None


def why_not_tried(plan: Plan, trials: Iterable[Trial], leaderboard: Path) -> str | None:
    """Return why trials may not count as another processor's, or None where they do not or are shown to."""
    proofs = [proof for proof in read_stand_ins(leaderboard, plan.task) if proof.task_digest == plan.task_digest]
    made = {
        (run.stand_in, str(trial.values.get(MODE, FLOAT))) for trial in trials for run in trial.runs if run.stand_in
    }
    for processor, mode in sorted(made):
        whys = [_why_not(one, leaderboard, plan.algorithm, mode) for one in proofs if one.here.processor == processor]
        if all(whys):
            return next(filter(None, whys), f"{processor} is not shown to give another processor's bits")
    return None


def switches_to_repeat(record: Record, processor: str, proofs: Iterable[StandIn]) -> dict[str, str]:
    """Return the switches under which a processor gives the record's bits, as far as it is known to."""
    maker = processor_of(record.machine)
    if maker.processor == processor:
        return maker.switches
    for proof in proofs:
        for mine, other in ((proof.here, proof.there), (proof.there, proof.here)):
            if (mine.processor, other, proof.lock) == (processor, maker, record.machine.lock):
                return mine.switches
    return {}


def settings_of(machine: Machine, leaderboard: Path, task: str) -> str | None:
    """Return what to set, as it is typed, where it is published that this processor stands in for another."""
    for proof in read_stand_ins(leaderboard, task):
        if (proof.here.processor, proof.lock) == (machine.processor, machine.lock):
            path = stand_in_path(leaderboard, task, proof.here, proof.there, proof.lock)
            return " ".join(filter(None, (as_typed(proof.here.switches), f"{VARIABLE}={path}")))
    return None


def _said(one: Processor) -> str:
    return f"{one.processor}, {one.instructions}, switches {as_typed(one.switches) or 'none'}"


def as_typed(switches: Mapping[str, str]) -> str:
    """Return switches as they stand before a command."""
    return " ".join(f"{name}={value}" for name, value in sorted(switches.items()))
