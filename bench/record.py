"""A record: the facts of one run, one JSON file and a compressed log. Facts only: what they mean is for score."""

import gzip
import json
import os
import zlib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from bench.digest import digest_of, digest_of_bytes
from bench.entry import Value
from bench.errors import BenchError
from bench.passes import Batches, CallCost, Probed
from bench.spec import Spec, parse_json, read_text, validate

AGAIN = "restore it from version control, or make it anew: bench run --again"
SCHEMA = 1
HEADER_BYTES = 4096  # the largest a record may be on disk
TOTAL_BYTES = 200_000  # with its log

Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Outcome = Literal["finished", "diverged", "out-of-memory", "crashed", "timeout", "inert"]
Track = Literal["tuned", "transfer", "declared"]
Role = Literal["hidden", "embedding", "head", "vectors"]
Loss = float | None  # nats per token; null where it was not finite


class Processor(Spec):
    """Which kernels compute, as far as it can be told from outside."""

    processor: str  # CPU or GPU model
    instructions: str  # widest instruction set used, or compute capability
    switches: dict[str, str]  # variables of the environment that choose kernels


class Machine(Processor):
    """What moves the bits of a run: two runs are compared only where these are equal."""

    threads: int
    compiler: str | None  # null when nothing was compiled
    compiled: bool
    lock: Digest  # versions of Python and of every library that can move a number
    ranks: int = 1
    micro_batch_sequences: int | None = None  # per forward pass of a rank, where it is not the task's
    stands_for: Processor | None = None  # that it was shown to give the bits of (bench.standin)

    @property
    def kind(self) -> str:
        other = vars(self.stands_for) if self.stands_for else {}
        said = self.model_copy(update={**other, "stands_for": None})
        return digest_of(said.model_dump(mode="json", exclude_defaults=True))  # as before a field was added


class Inputs(Spec):
    """Everything that decides a run; run_id is its digest."""

    task: str
    task_digest: Digest
    entry: str
    entry_digest: Digest
    values: dict[str, Value]
    mode: str
    mode_digest: Digest
    budget: float  # as a multiple of 1x
    track: Track
    seed: int
    harness: Digest
    machine_kind: Digest

    @property
    def run_id(self) -> str:
        return digest_of(self.model_dump(mode="json"))


class Count(Spec):
    """Parameters of one role, by who trains them."""

    entry: int
    harness: int


class Chains(Spec):
    """Ends of the running digests; the milestones on the way are in the log."""

    data: Digest | None  # over the batches
    loss: Digest | None  # over (step, loss bits, gradient-norm bits)


class Weights(Spec):
    initial: Digest
    final: Digest | None
    evaluated: Digest | None  # differs from final where an entry evaluates at other weights


class Layers(Spec):
    count: int
    digest: Digest  # of their sorted names


class Rounding(Spec):
    """Weights, or activations, of all layers at the end, on one batch."""

    bits: int
    levels: tuple[int, int]  # distinct values in a layer's richest row, least and most over layers
    clipped: float  # share of values beyond the largest level
    masked: float  # share of gradient entries that do not pass


class Quantization(Spec):
    """Proof that a mode that rounds did so."""

    expected: Layers  # by the model's roles
    actual: Layers
    parts: dict[str, int]  # layers of each name
    blocks: dict[str, int]  # Hadamard block of each width; 1 is no rotation
    forwards: float | None  # share of passes that rounded, least over layers
    float_score_loss: Loss  # of the same weights with the quantizers off
    weights: Rounding | None
    activations: Rounding | None


class Facts(Spec):
    """Proof that the protocol held, measured, not promised."""

    weight_dtypes: tuple[str, ...]
    state_dtypes: tuple[str, ...]
    state_bytes_per_parameter: float | None
    partition: dict[Role, Count]
    schedule: Literal["decay", "constant", "cosine", "wsd", "refined"]
    last_multiplier: float | None  # of the learning rate, at the last step
    clip: float | None  # largest gradient norm allowed; null when the entry asks for none
    clip_rate: float | None  # share of steps that were clipped
    update_rms: dict[Role, float]  # root mean square of a step's change, mean over milestones
    passes: float  # forward-backwards per token, mean
    epochs: float  # passes over the training text
    validation: Digest  # of the validation tokens
    quantization: Quantization | None = None  # of a mode that quantizes
    probe: Probed | None = None  # of an entry that has one
    batches: Batches | None = None  # of a batch-size controller


class Cost(Spec):
    train_seconds: float  # evaluation, compilation and checkpoints are outside the clock
    step_seconds: float | None  # median
    peak_memory_bytes: int | None
    probe: dict[str, CallCost] | None = None  # by kind of call, within the above


class Record(Spec):
    schema_version: int = Field(alias="schema")
    run_id: Digest
    inputs: Inputs
    plan: Digest | None  # the plan it belongs to
    machine: Machine
    who: str
    made: str  # UTC, ISO 8601
    outcome: Outcome
    cause: str | None  # of an outcome that is not finished
    steps: int
    tokens: int
    charged_tokens: float  # tokens x passes
    initial_loss: Loss  # first sequences of the selecting half, before the first step
    select_loss: Loss  # selecting half, at the end
    score_loss: Loss  # scoring half, at the end
    chains: Chains
    weights: Weights
    facts: Facts
    cost: Cost
    log: Digest  # of the log beside this file, uncompressed
    digest: Digest  # of all of the above

    @property
    def task(self) -> str:
        return self.inputs.task

    @property
    def entry(self) -> str:
        return self.inputs.entry


class Milestone(Spec):
    step: int  # steps done
    data: Digest
    loss: Digest
    update_rms: dict[Role, float]


class Point(Spec):
    tokens: int
    loss: Loss  # on the first sequences of the selecting half
    train_seconds: float


class Log(Spec):
    """What happened on the way."""

    stride: int  # of the two columns below: every so many steps
    loss: tuple[Loss, ...]
    gradient_norm: tuple[Loss, ...]  # before clipping
    curve: tuple[Point, ...]
    milestones: tuple[Milestone, ...]
    score_blocks: tuple[float, ...]  # mean scoring loss of consecutive blocks of sequences


def seal(facts: dict[str, Any]) -> dict[str, Any]:
    """Return the record's JSON with its own digest filled in."""
    bare = {key: value for key, value in facts.items() if key != "digest"}
    return {**bare, "digest": digest_of(bare)}


def log_path(record_path: Path) -> Path:
    return record_path.with_suffix(".log.gz")


def record_path(records: Path, task: str, plan: str | None, run_id: str) -> Path:
    return records / task / ("declared" if plan is None else plan[:16]) / f"{run_id}.json"


def write_record(path: Path, facts: dict[str, Any], log: Log) -> None:
    """Write log, then record, each in one move: a record that exists is whole."""
    text = json.dumps(log.model_dump(mode="json"), separators=(",", ":"), allow_nan=False).encode()
    facts = seal({**facts, "log": digest_of_bytes(text)})
    header = (json.dumps(facts, indent=1, allow_nan=False) + "\n").encode()
    if len(header) > HEADER_BYTES:  # the same content, less air
        header = (json.dumps(facts, separators=(",", ":"), allow_nan=False) + "\n").encode()
    packed = gzip.compress(text, mtime=0)
    assert len(header) <= HEADER_BYTES and len(header) + len(packed) <= TOTAL_BYTES, (len(header), len(packed))
    write_atomically(log_path(path), packed)
    write_atomically(path, header)


def remove_record(path: Path) -> None:
    """Remove a record and then its log, so that a kill in between leaves no record without one."""
    path.unlink(missing_ok=True)
    log_path(path).unlink(missing_ok=True)


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file in one move and have it on disk before returning; a kill leaves the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with draft.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except OSError as error:
        error.filename = str(path)  # of a full disk none is told
        raise
    finally:
        draft.unlink(missing_ok=True)


def read_record(path: Path) -> Record:
    """Return a record whose digests were checked; one edited by hand is refused."""
    table = parse_json(text, str(path), AGAIN) if (text := read_text(path)).startswith("{") else {}
    if table.get("schema") != SCHEMA or "run_id" not in table:
        raise BenchError(f"{path}: no record of schema {SCHEMA}", f"TASK/PLAN/RUN_ID.json are records; {AGAIN}")
    record = validate(table, Record, str(path))
    if seal(table)["digest"] != record.digest:
        raise BenchError(
            f"{path}: the record was changed after it was written (its digest does not fit)",
            AGAIN,
        )
    if record.inputs.run_id != record.run_id or path.stem != record.run_id:
        raise BenchError(f"{path}: run_id is not the digest of its inputs and the name of its file")
    if record.machine.kind != record.inputs.machine_kind:
        raise BenchError(f"{path}: the machine is not of the kind that its run_id was made with")
    return record


def read_log(path: Path, record: Record) -> Log:
    """Return the log of the record at path; one that is missing, cut short or changed is refused."""
    beside = log_path(path)
    try:
        text = gzip.decompress(beside.read_bytes())
    except FileNotFoundError:
        raise BenchError(f"{beside}: the record's log is missing") from None
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise BenchError(f"{beside}: the log is damaged: {error}") from None
    if digest_of_bytes(text) != record.log:
        raise BenchError(f"{beside}: the log is not the one that its record was written with")
    log = validate(parse_json(text.decode(), str(beside)), Log, str(beside))
    wanted = -(-record.steps // log.stride) if log.stride > 0 else -1
    if not len(log.loss) == len(log.gradient_norm) == wanted or any(m.step > record.steps for m in log.milestones):
        raise BenchError(f"{beside}: the log does not have the {record.steps} steps of its record")
    return log


def find_records(folders: list[Path]) -> list[Path]:
    """Return the paths of all records below the folders, in a fixed order; hidden files and child records are none."""
    return sorted(path for folder in folders for path in folder.rglob("*.json") if is_record_name(path.name))


def is_record_name(name: str) -> bool:
    """Return whether a file's name may be a record's: a child record's, or a hidden file's, has a dot more."""
    return name.endswith(".json") and name.count(".") == 1
