"""Child records: what is measured on a run's weights after it, in a file beside its record. Facts only, as there."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field

from bench.errors import BenchError
from bench.record import Digest, Loss, Quantization, read_record, seal, write_atomically
from bench.spec import Spec, parse_json, read_text, validate

SCHEMA = 1
MODE_BYTES = 4096  # the most that one mode's part may take
RESTORE = "restore it from version control, or remove it and measure again"
DOWNSTREAM, QUANTIZED = "downstream.json", "quantized.json"  # what follows the parent's run_id in the files' names


class Score(Spec):
    value: Loss  # null where it was not finite, as a perplexity can be
    stderr: Loss


class TaskScores(Spec):
    """One downstream task in one mode."""

    documents: int
    split: str
    source: Literal["hub", "mirror"]
    version: str  # lm-eval's, of the task
    hash: Digest  # lm-eval's: of every document, prompt and target, in order
    scores: dict[str, Score]  # by lm-eval's names: acc, acc_norm, perplexity
    chance: float | None  # accuracy of a guess; null where there is nothing to choose from
    bits_per_byte: Loss  # of the right continuations, given their contexts
    cut: int  # requests whose context was cut on the left to fit the model's
    pieced: int  # continuations longer than the model's context, read in pieces


class ModeScores(Spec):
    """All downstream tasks in one mode, and how they were put."""

    mode_digest: Digest
    lm_eval: str  # version
    batch: int  # requests per forward pass, sorted by length
    padding: Literal["right"]  # to the longest of the batch
    context: int  # tokens
    dtype: str  # of the weights
    autocast: str  # of the products
    machine: Digest  # kind
    quantized: int  # layers that rounded, each in all of its passes
    text_bits_per_byte: Loss  # of the scoring half; null where its text was not at hand
    made: str  # UTC, ISO 8601
    tasks: dict[str, TaskScores]


class Gptq(Spec):
    """How the layers' Hessians could be factored."""

    dampings: dict[str, int]  # layers by the damping they took, as a share of the mean diagonal
    fallbacks: int  # layers that no damping helped, rounded to nearest


class Hawq(Spec):
    """What HAWQ-V2 chose, and from what."""

    bits: dict[str, str]  # by a layer's name inside its block: a digit for each block
    average: float  # bits a weight
    draws: int  # of Hutchinson's estimate
    negative: int  # layers whose estimated trace was below 0 and taken as 0


class Tails(Spec):
    """How far the largest entries stand out (bench.diagnose.outliers), means over layers; null where none has it."""

    max_over_mean: float | None
    max_over_median: float | None
    kurtosis: float | None  # excess
    feature_kurtosis: float | None


class Summary(Spec):
    """The diagnosis in short; layer by layer it lies in the file beside (bench.diagnosis)."""

    digest: Digest  # of this mode's part of that file
    error: float | None  # R_L: squared error of the logits against the float network's, relative
    weights: Tails  # rotated where the mode rotates
    activations: Tails  # inputs of the layers in the float network, rotated likewise


class AfterTraining(Spec):
    """One mode of a finished checkpoint, measured on the scoring half."""

    mode_digest: Digest
    loss: Loss
    perplexity: Loss  # a token
    degradation: Loss  # nats above the float loss, both made here
    quantization: Quantization
    calibration: Digest | None  # of the tokens; null where none were looked at
    gptq: Gptq | None
    hawq: Hawq | None
    diagnosis: Summary
    machine: Digest  # kind
    seconds: float  # to round and to measure
    made: str  # UTC, ISO 8601

    @property
    def fallen_back(self) -> str | None:
        """How many layers GPTQ rounded to nearest instead, in words; None where there are none."""
        count = self.gptq.fallbacks if self.gptq else 0
        return f"{count} of {self.quantization.actual.count} layers fell back to rounding to nearest" if count else None


class Failed(Spec):
    """A mode that a finished checkpoint could not be put into: a row with a cause (protocol D)."""

    mode_digest: Digest
    cause: str
    machine: Digest  # kind
    made: str


class Rounded(Spec):
    """One mode of weights from the middle of a run."""

    mode_digest: Digest
    loss: Loss  # null too where the mode failed
    degradation: Loss  # nats above the float loss of the same weights
    layers: int  # that rounded, each in all of its passes; 0 where the mode failed


class Crossing(Spec):
    """Weights at the first point of the run's curve below one of the task's common losses.

    They come from the middle of a schedule, and degrade unlike those of its end: for the Common-Loss comparison of
    arXiv 2509.23500 alone.
    """

    threshold: float  # nats, of the curve
    tokens: int
    curve_loss: float  # there, on the curve's sequences
    weights: Digest
    float_loss: Loss  # on the scoring half
    modes: dict[str, Rounded]


class Child(Spec):
    schema_version: int = Field(alias="schema")
    run_id: Digest  # of the parent
    weights: Digest  # evaluated
    digest: Digest  # of all that the file says


class Downstream(Child):
    modes: dict[str, ModeScores]


class Quantized(Child):
    """All modes of one finished checkpoint, and of the checkpoints at common losses, the highest loss first."""

    modes: dict[str, AfterTraining]
    crossings: tuple[Crossing, ...] = ()
    failed: dict[str, Failed] = Field(default_factory=dict)

    @property
    def mode_digests(self) -> dict[str, str]:
        """The digest of every mode that was tried, by name."""
        tried = {name: one.mode_digest for name, one in self.modes.items()}
        return tried | {name: one.mode_digest for name, one in self.failed.items()}

    def spoilt(self, names: Sequence[str]) -> list[str]:
        """Return what went wrong in some modes, in words: those that failed, and layers that fell back."""
        failed = [f"{name} failed: {one.cause}" for name, one in self.failed.items() if name in names]
        fallen = {name: one.fallen_back for name, one in self.modes.items() if name in names}
        return failed + [f"{name}: {told}" for name, told in fallen.items() if told]


Some = TypeVar("Some", bound=Child)


def downstream_path(record: Path) -> Path:
    return record.with_suffix(f".{DOWNSTREAM}")


def quantized_path(record: Path) -> Path:
    return record.with_suffix(f".{QUANTIZED}")


def is_downstream(path: Path) -> bool:
    return path.name.endswith(f".{DOWNSTREAM}")


def is_quantized(path: Path) -> bool:
    return path.name.endswith(f".{QUANTIZED}")


def write_downstream(path: Path, run_id: str, weights: str, mode: str, scores: ModeScores) -> None:
    """Add a mode to the child record, in one move; tasks measured before stay if they were put in the same way."""
    old = read_downstream(path).modes if path.exists() else {}
    before = old.get(mode)
    if before is not None and put_alike(before, scores):
        scores = scores.model_copy(update={"tasks": {**before.tasks, **scores.tasks}})
    write_child(path, run_id, weights, {**old, mode: scores})


def write_quantized(path: Path, run_id: str, weights: str, mode: str, measured: AfterTraining | Failed) -> None:
    """Add a mode to the child record, or put it in the old one's place, in one move."""
    modes, failed, crossings = _quantized(path)
    modes.pop(mode, None)
    failed.pop(mode, None)
    if isinstance(measured, Failed):
        failed[mode] = measured
    else:
        modes[mode] = measured
    write_child(path, run_id, weights, modes, crossings, failed)


def write_crossing(path: Path, run_id: str, weights: str, crossing: Crossing) -> None:
    """Add what was measured at a common loss to the child record, beside what is there, in one move.

    Modes that were measured before on the same weights stay; those of other weights (made again elsewhere) go.
    """
    modes, failed, old = _quantized(path)
    there = {other.threshold: other for other in old}
    before = there.get(crossing.threshold)
    if before is not None and before.weights == crossing.weights:
        crossing = crossing.model_copy(update={"modes": {**before.modes, **crossing.modes}})
    crossings = sorted({**there, crossing.threshold: crossing}.values(), key=lambda one: -one.threshold)
    write_child(path, run_id, weights, modes, crossings, failed)


def _quantized(path: Path) -> tuple[dict[str, AfterTraining], dict[str, Failed], tuple[Crossing, ...]]:
    if not path.exists():
        return {}, {}, ()
    old = read_quantized(path)
    return dict(old.modes), dict(old.failed), old.crossings


def put_alike(one: ModeScores, other: ModeScores) -> bool:
    """Return whether the tasks of both were put in the same way, on the same kind of machine."""
    result = {"tasks", "made", "text_bits_per_byte"}
    return one.model_dump(exclude=result) == other.model_dump(exclude=result)


def write_child(
    path: Path,
    run_id: str,
    weights: str,
    found: Mapping[str, Spec],
    crossings: Sequence[Crossing] = (),
    failed: Mapping[str, Failed] | None = None,
) -> None:
    modes = {name: own.model_dump(mode="json") for name, own in sorted(found.items())}
    large = {name: len(_text(own)) for name, own in modes.items() if len(_text(own)) > MODE_BYTES}
    assert not large, large
    facts = {"schema": SCHEMA, "run_id": run_id, "weights": weights, "modes": modes}
    if crossings:
        facts["crossings"] = [crossing.model_dump(mode="json") for crossing in crossings]
    if failed:
        facts["failed"] = {name: own.model_dump(mode="json") for name, own in sorted(failed.items())}
    write_atomically(path, _text(seal(facts)))


def _text(facts: dict[str, Any]) -> bytes:
    return (json.dumps(facts, separators=(",", ":"), allow_nan=False) + "\n").encode()


def read_downstream(path: Path) -> Downstream:
    return check_child(path, read_text(path), DOWNSTREAM, Downstream)


def read_quantized(path: Path) -> Quantized:
    return check_child(path, read_text(path), QUANTIZED, Quantized)


def check_child(path: Path, text: str, kind: str, model: type[Some]) -> Some:
    """Return a child record whose digest was checked, and its parent's name; one edited by hand is refused."""
    try:
        table = parse_json(text, str(path))
    except BenchError as error:
        raise BenchError(error.what, RESTORE) from None
    if isinstance(table, dict) and table.get("schema") != SCHEMA:
        raise BenchError(f"{path}: schema {table.get('schema')!r} is not one this version reads ({SCHEMA})")
    found = validate(table, model, str(path))
    if seal(table)["digest"] != found.digest:
        raise BenchError(
            f"{path}: it was changed after it was written (its digest does not fit)",
            RESTORE,
        )
    if path.name != f"{found.run_id}.{kind}":
        raise BenchError(f"{path}: its name is not its parent's run_id followed by .{kind}")
    parent = path.with_name(f"{found.run_id}.json")
    if parent.exists() and read_record(parent).weights.evaluated != found.weights:
        raise BenchError(f"{path}: its weights are not those that its parent {parent.name} was evaluated at")
    return found
