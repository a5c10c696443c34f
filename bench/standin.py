"""Stand-ins: a processor that was shown to give another's bits goes on with plans that were written for the other.

A kind of machine is what moves bits, and a processor's name is in it, since nobody can tell from outside which kernels
two processors choose. But it can be shown: runs of the one are made again on the other, whole, and every loss, gradient
norm, weight and score is the same to the bit. What was shown lies in leaderboard/standins/<task>/, one sealed file for
each pair of processors; BENCH_STAND_IN names the file on the machine that stands in. It holds for the algorithms and
modes of which runs were shown, with the same versions of the libraries; a record says which processor made it.
"""

import json
import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from pydantic import Field

from bench.digest import digest_of
from bench.errors import BenchError
from bench.index import IndexRow
from bench.record import Digest, Machine, Processor, Record, read_record, seal, write_atomically
from bench.spec import Spec, parse_json, read_text, validate
from bench.task import Task

SCHEMA = 1
VARIABLE = "BENCH_STAND_IN"
FOLDER = "standins"  # of the leaderboard


class Shown(Spec):
    """A run that was made again, whole, and was identical."""

    run_id: Digest
    algorithm: str
    mode: str
    steps: int
    loss_chain: Digest


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

    def covers(self, algorithm: str, mode: str) -> bool:
        return any((one.algorithm, one.mode) == (algorithm, mode) for one in self.shown)


def processor_of(machine: Machine) -> Processor:
    """Return what a machine itself computes with, whatever it counts as."""
    return Processor(processor=machine.processor, instructions=machine.instructions, switches=machine.switches)


def stand_in_path(leaderboard: Path, task: str, here: Processor, there: Processor) -> Path:
    pair = digest_of({"here": here.model_dump(mode="json"), "there": there.model_dump(mode="json")})
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


def standing_in(machine: Machine, task: str, algorithm: str, mode: str) -> Machine:
    """Return the machine as it counts: as the one that BENCH_STAND_IN shows it to equal, where that is of the task."""
    named = os.environ.get(VARIABLE)
    if not named:
        return machine
    proof = read_stand_in(Path(named))
    if proof.task != task:
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
    if not proof.covers(algorithm, mode):
        covered = ", ".join(sorted({f"{one.algorithm} in {one.mode}" for one in proof.shown}))
        raise BenchError(
            f"{VARIABLE}: {named} shows no run of {algorithm} in {mode}",
            f"it shows {covered}; more by bench stand-in, where {proof.there.processor} has a record",
        )
    return machine.model_copy(update={"stands_for": proof.there})


def runs_to_show(
    rows: Iterable[IndexRow], task: Task, algorithms: Mapping[str, str], modes: Collection[str]
) -> list[Path]:
    """Return the record to be made again for each algorithm and mode: at 1x, the first by run_id, so no one chooses.

    They are of the kind of machine that has most records of the reference, placebos and stand-ins' records apart.
    """
    mine = [row for row in rows if row.task_digest == task.digest and row.plan and row.finished]
    kinds = Counter(row.machine_kind for row in mine if row.entry == task.reference).most_common(1)
    first: dict[tuple[str, str], Path] = {}
    for row in sorted(mine, key=lambda row: row.run_id):
        key = algorithms.get(row.entry, ""), row.mode
        of_kind = kinds and row.machine_kind == kinds[0][0] and row.budget == 1.0 and row.track == "tuned"
        if not of_kind or not key[0] or key in first or (modes and row.mode not in modes):
            continue
        if read_record(Path(row.path)).machine.stands_for is None:
            first[key] = Path(row.path)
    return [first[key] for key in sorted(first)]


def add_shown(leaderboard: Path, record: Record, algorithm: str, machine: Machine, who: str) -> Path:
    """Write down that the machine gave the record's run again, beside what it was shown before to give."""
    path = stand_in_path(leaderboard, record.task, processor_of(machine), processor_of(record.machine))
    shown = {}
    if path.exists():
        before = read_stand_in(path)
        if (before.lock, before.task_digest) == (machine.lock, record.inputs.task_digest):
            shown = {one.run_id: one.model_dump() for one in before.shown}
    shown[record.run_id] = {"run_id": record.run_id, "algorithm": algorithm, "mode": record.inputs.mode,
                            "steps": record.steps, "loss_chain": record.chains.loss}  # fmt: skip
    facts = {
        "schema": SCHEMA,
        "task": record.task,
        "task_digest": record.inputs.task_digest,
        "here": processor_of(machine).model_dump(),
        "there": processor_of(record.machine).model_dump(),
        "lock": machine.lock,
        "shown": [shown[run_id] for run_id in sorted(shown)],
        "who": who,
    }
    write_atomically(path, (json.dumps(seal(facts), indent=1) + "\n").encode())
    return path


def read_stand_ins(leaderboard: Path, task: str) -> list[StandIn]:
    """Return what is shown on a task, by file name."""
    return [read_stand_in(path) for path in sorted((leaderboard / FOLDER / task).glob("*.json"))]


def check_stand_in(path: Path) -> StandIn:
    """Return what a published file shows; raise BenchError unless each run has its record, of the other processor."""
    proof, records = read_stand_in(path), path.parents[2] / "records" / path.parent.name
    for one in proof.shown:
        found = next(records.glob(f"*/{one.run_id}.json"), None)
        record = read_record(found) if found else None
        shown = proof.there, None, proof.lock, proof.task_digest, one.mode, one.steps, one.loss_chain
        if record is None or shown != (
            processor_of(record.machine), record.machine.stands_for, record.machine.lock, record.inputs.task_digest,
            record.inputs.mode, record.steps, record.chains.loss,
        ):  # fmt: skip
            raise BenchError(f"{path}: the run {one.run_id[:12]} that it shows has no such record", "show it again")
    return proof


def why_not_stood_in(record: Record, proofs: Iterable[StandIn]) -> str | None:
    """Return why a record may not count as another processor's, or None where it does not or is shown to."""
    machine, inputs = record.machine, record.inputs
    if machine.stands_for is None:
        return None
    wanted = processor_of(machine), machine.stands_for, machine.lock, inputs.task_digest
    for proof in proofs:
        fits = wanted == (proof.here, proof.there, proof.lock, proof.task_digest)
        if fits and any(one.mode == inputs.mode for one in proof.shown):
            return None
    return f"{machine.processor} is not shown to give the bits of {machine.stands_for.processor} in {inputs.mode}"


def switches_for(machine: Machine, record: Record, proofs: Iterable[StandIn]) -> str | None:
    """Return the switches under which this processor was shown to give the record's bits, unless they are set."""
    for proof in proofs:
        like = proof.here.processor == machine.processor and proof.there == processor_of(record.machine)
        if like and proof.here != processor_of(machine) and proof.here.switches:
            return switches_of(proof.here)
    return None


def _said(one: Processor) -> str:
    return f"{one.processor}, {one.instructions}, switches {switches_of(one) or 'none'}"


def switches_of(one: Processor) -> str:
    """Return the switches as they stand before a command."""
    return " ".join(f"{name}={value}" for name, value in sorted(one.switches.items()))
