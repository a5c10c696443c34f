"""Strict reading of TOML and JSON into frozen models: a wrong key, type or value is one clear error."""

import json
import math
import tomllib
from collections.abc import Iterable, Iterator
from glob import escape
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from bench.errors import BenchError, did_you_mean


class Spec(BaseModel):
    """A frozen, strict model: no unknown keys, no coercion, no NaN."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True)


SpecType = TypeVar("SpecType", bound=Spec)
SHOWN = 3  # files of a folder that was named instead of one of them


def read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise BenchError(f"{path}: no such file{_near(path)}") from None
    except IsADirectoryError:
        inside = ", ".join(str(one) for one in sorted(path.glob("*.toml"))[:SHOWN])
        raise BenchError(f"{path}: is a folder, expected a file", f"as {inside}" if inside else None) from None
    except UnicodeDecodeError as error:
        raise BenchError(f"{path}: not UTF-8 text: {error}") from None
    except OSError as error:
        raise BenchError(f"{path}: cannot be read: {error.strerror or error}") from None


def _near(path: Path) -> str:
    """Return what may have been meant by a path that leads nowhere: a name of a file in the folders here, or a typo."""
    if not path.suffix and path.parent == Path():
        name = escape(f"{path}.toml")
        named = sorted([*Path().glob(f"*/{name}"), *Path().glob(f"*/*/{name}")])
        return f"; did you mean {named[0]}?" if named else ""
    here = path
    while not here.parent.is_dir() and here != here.parent:
        here = here.parent
    return did_you_mean(here.name, (one.name for one in here.parent.glob("*")))


def read_toml(path: Path, model: type[SpecType]) -> SpecType:
    """Return the file as a model; raise BenchError with the key, what was expected, and the nearest known name."""
    try:
        table = tomllib.loads(read_text(path))
    except (ValueError, RecursionError) as error:  # ValueError: also an integer of thousands of digits
        raise BenchError(f"{path}: not valid TOML: {error}") from None
    return validate(table, model, str(path))


def read_json(path: Path, model: type[SpecType]) -> SpecType:
    return validate(parse_json(read_text(path), str(path)), model, str(path))


def parse_json(text: str, where: str, hint: str | None = None) -> Any:
    """Return parsed JSON; NaN and Infinity, which Python would take, are refused. hint: what mends a damaged file."""

    def refuse(token: str) -> None:
        raise BenchError(f"{where}: {token} is not JSON; a missing number is null")

    try:
        return json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError) as error:  # ValueError: also an integer of thousands of digits
        raise BenchError(f"{where}: not valid JSON: {error}", hint) from None


def validate(table: Any, model: type[SpecType], where: str) -> SpecType:
    try:
        text = json.dumps(table, allow_nan=False)  # through JSON, whose strict mode takes arrays for tuples
    except (TypeError, ValueError) as error:
        keys = ", ".join(_endless(table))
        raise BenchError(f"{where}: {keys} is no finite number" if keys else f"{where}: {error}") from None
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        raise BenchError(*_explain(error, model, where)) from None


def _endless(table: Any, key: str = "") -> Iterator[str]:
    """Yield the dotted keys of numbers that are not finite."""
    if isinstance(table, float) and not math.isfinite(table):
        yield key
    elif isinstance(table, dict):
        for name, value in table.items():
            yield from _endless(value, f"{key}.{name}" if key else str(name))
    elif isinstance(table, list):
        for place, value in enumerate(table):
            yield from _endless(value, f"{key}.{place}")


def _explain(error: ValidationError, model: type[BaseModel], where: str) -> tuple[str, str | None]:
    """Return the first mistake as (what, hint)."""
    details = error.errors()
    first = next((d for d in details if d["type"] == "extra_forbidden"), details[0])
    path = list(first["loc"])
    key = ".".join(str(part) for part in path) or "the whole"
    more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
    if first["type"] == "extra_forbidden":
        known = sorted(_known_keys(model, path[:-1]))
        return f"{where}: unknown key {key}{did_you_mean(str(path[-1]), known)}{more}", f"known: {', '.join(known)}"
    if first["type"] == "missing":
        return f"{where}: missing key {key}{more}", None
    message = first["msg"].removeprefix("Value error, ")
    got = "" if isinstance(first["input"], dict | list) else f", got {first['input']!r}"
    return f"{where}: {key}: {message[:1].lower()}{message[1:]}{got}{more}", None


def _known_keys(model: type[BaseModel], path: Iterable[int | str]) -> set[str]:
    """Return the keys of the models that a location leads to; list places and union tags lead nowhere new."""
    models = [model]
    for part in path:
        fields = [m.model_fields[part] for m in models if isinstance(part, str) and part in m.model_fields]
        models = [deeper for field in fields for deeper in _models_in(field.annotation)] or models
    return {field.alias or name for m in models for name, field in m.model_fields.items()}


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]
