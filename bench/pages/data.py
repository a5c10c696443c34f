"""The boards for machines: data/v1, one JSON file each, with an index and the JSON Schema that they keep.

A field may be added in v1; one that changes its meaning or goes away makes v2.
"""

import json
from collections.abc import Sequence
from typing import Any

from pydantic import TypeAdapter

from bench.pages.boards import Sheet
from bench.score.cost import Beside
from bench.score.rows import Standing
from bench.score.search import Search
from bench.score.statistics import Correlation

FOLDER = "data/v1"
SCHEMA = f"{FOLDER}/board.schema.json"
Json = dict[str, Any]

TEXT: Json = {"type": "string"}
NUMBER: Json = {"type": "number"}
WHOLE: Json = {"type": "integer", "minimum": 0}
TRUTH: Json = {"type": "boolean"}
DIGEST: Json = {"type": "string", "pattern": "^[0-9a-f]{64}$"}


def data_files(sheets: Sequence[Sheet]) -> dict[str, str]:
    """Return the files of data/v1 by their paths."""
    found = {f"{FOLDER}/boards/{_name(sheet)}.json": _text(sheet.facts) for sheet in sheets}
    listed = [
        {
            **{name: sheet.facts[name] for name in ("task", "task_digest", "mode", "track", "reference")},
            "digest": sheet.digest,
            "newest_record": sheet.date or None,
            "entries": [row["entry"] for row in sheet.facts["rows"]],
            "file": f"boards/{_name(sheet)}.json",
        }
        for sheet in sheets
    ]
    index = {"version": 1, "schema": SCHEMA.removeprefix(f"{FOLDER}/"), "boards": listed}
    return {**found, f"{FOLDER}/index.json": _text(index), SCHEMA: _text(board_schema())}


def _name(sheet: Sheet) -> str:
    board = sheet.view.board
    return f"{board.task}.{board.mode}.{board.track}"


def _text(value: Json) -> str:
    return json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def board_schema() -> Json:
    """Return the JSON Schema (2020-12) of a board's file; what is missing is null, never absent."""
    shared: Json = {}

    def of(model: Any) -> Json:
        schema = TypeAdapter(model).json_schema()
        shared.update(schema.pop("$defs", {}))
        shared[model.__name__] = schema
        return {"$ref": f"#/$defs/{model.__name__}"}

    correlation, standing, beside, search = of(Correlation), of(Standing), of(Beside), of(Search)
    rung = {
        "budget": _says(NUMBER, "as a multiple of 1x"), "tokens": WHOLE, "charged_tokens": _or_null(NUMBER),
        "mean_loss": _or_null(_says(NUMBER, "nats per token")), "deviation": _or_null(NUMBER), "seeds": _list(WHOLE),
        "losses": _list(NUMBER), "run_ids": _list(DIGEST),
        "failures": _list(_object({"seed": WHOLE, "outcome": TEXT, "run_id": DIGEST, "cause": _or_null(TEXT)})),
        "multi_epoch": TRUTH, "unstable": TRUTH,
    }  # fmt: skip
    speedup = {
        "value": _or_null(_says(NUMBER, "reference tokens over charged tokens; null: limit is a bound")),
        "bound": {"enum": [">=", "<=", "="]}, "limit": _or_null(NUMBER), "low": _or_null(NUMBER),
        "high": _or_null(NUMBER), "level": NUMBER, "fit": _or_null(NUMBER), "interpolation_error": _or_null(NUMBER),
        "reference_tokens": _or_null(NUMBER), "margin": _or_null(_says(NUMBER, "nats")), "p_value": _or_null(NUMBER),
        "p_holm": _or_null(NUMBER), "no_interval": _or_null(TEXT), "beats_reference": TRUTH,
        "beats_reference_on_the_whole_board": TRUTH, "read_multi_epoch": TRUTH,
    }  # fmt: skip
    row = {
        "entry": TEXT, "sentence": TEXT, "placebo_of": _or_null(TEXT),
        "control": _says(TRUTH, "measured and shown, and never ranked"), "of_equal_size": TRUTH,
        "seed_correlation": _or_null(correlation),
        "rungs": _list(_object({**rung, "speedup": _or_null(_object(speedup)),
                                "size": _or_null(_says(NUMBER, "of its steps over the reference's")),
                                "standing": _or_null(standing), "beside": _or_null(beside)})),
    }  # fmt: skip
    board = {
        "task": TEXT, "task_digest": DIGEST, "mode": TEXT, "track": {"enum": ["tuned", "transfer", "declared"]},
        "reference": TEXT, "reference_track": TEXT, "machine_kinds": _list(DIGEST),
        "noise": _or_null(_says(NUMBER, "pooled seed standard deviation, nats")), "degrees_of_freedom": WHOLE,
        "tau": _or_null(_says(NUMBER, "tuning noise of ln speedup")), "tau_degrees_of_freedom": _or_null(WHOLE),
        "not_ranked": _or_null(TEXT), "headline_budget": _or_null(NUMBER), "failing": _list(TEXT),
        "fit": _or_null(_object({"a": NUMBER, "B": NUMBER, "b": NUMBER, "unit_tokens": NUMBER})),
        "no_interval": _or_null(TEXT), "no_speedup": _or_null(TEXT), "notes": _list(TEXT), "tuning": _list(search),
        "ladder": _list(_object(rung)), "rows": _list(_object(row)),
    }  # fmt: skip
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "A board of Isoloss, data version 1"}
    return {**head, **_object(board), "$defs": shared}


def _or_null(schema: Json) -> Json:
    return {"anyOf": [schema, {"type": "null"}]}


def _list(items: Json) -> Json:
    return {"type": "array", "items": items}


def _object(properties: Json) -> Json:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _says(schema: Json, words: str) -> Json:
    return {**schema, "description": words}
