"""Child records: what is measured on a run's weights after it, in a file beside its record. Facts only, as there."""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from bench.errors import BenchError
from bench.record import Digest, Loss, read_record, seal, write_atomically
from bench.spec import Spec, parse_json, read_text, validate

SCHEMA = 1
MODE_BYTES = 4096  # the most that one mode's part may take
KIND = "downstream"


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


class Downstream(Spec):
    schema_version: int = Field(alias="schema")
    run_id: Digest  # of the parent
    weights: Digest  # evaluated
    modes: dict[str, ModeScores]
    digest: Digest  # of all of the above


def downstream_path(record: Path) -> Path:
    return record.with_suffix(f".{KIND}.json")


def is_downstream(path: Path) -> bool:
    return path.name.endswith(f".{KIND}.json")


def write_downstream(path: Path, run_id: str, weights: str, mode: str, scores: ModeScores) -> None:
    """Add a mode to the child record, in one move; tasks measured before stay if they were put in the same way."""
    old = read_downstream(path).modes if path.exists() else {}
    before = old.get(mode)
    if before is not None and put_alike(before, scores):
        scores = scores.model_copy(update={"tasks": {**before.tasks, **scores.tasks}})
    assert len(_text(scores.model_dump(mode="json"))) <= MODE_BYTES, mode
    modes = {name: found.model_dump(mode="json") for name, found in sorted({**old, mode: scores}.items())}
    write_atomically(path, _text(seal({"schema": SCHEMA, "run_id": run_id, "weights": weights, "modes": modes})))


def put_alike(one: ModeScores, other: ModeScores) -> bool:
    """Return whether the tasks of both were put in the same way, on the same kind of machine."""
    result = {"tasks", "made", "text_bits_per_byte"}
    return one.model_dump(exclude=result) == other.model_dump(exclude=result)


def _text(facts: dict[str, Any]) -> bytes:
    return (json.dumps(facts, separators=(",", ":"), allow_nan=False) + "\n").encode()


def read_downstream(path: Path) -> Downstream:
    """Return a child record whose digest was checked, and its parent's name; one edited by hand is refused."""
    table = parse_json(read_text(path), str(path))
    if isinstance(table, dict) and table.get("schema") != SCHEMA:
        raise BenchError(f"{path}: schema {table.get('schema')!r} is not one this version reads ({SCHEMA})")
    found = validate(table, Downstream, str(path))
    if seal(table)["digest"] != found.digest:
        raise BenchError(
            f"{path}: it was changed after it was written (its digest does not fit)",
            "restore it from version control, or measure again",
        )
    if path.name != f"{found.run_id}.{KIND}.json":
        raise BenchError(f"{path}: its name is not its parent's run_id followed by .{KIND}.json")
    parent = path.with_name(f"{found.run_id}.json")
    if parent.exists() and read_record(parent).weights.evaluated != found.weights:
        raise BenchError(f"{path}: its weights are not those that its parent {parent.name} was evaluated at")
    return found
