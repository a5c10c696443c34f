"""Hyperparameters set by hand: a flat TOML table of names and values, for the declared track."""

import tomllib
from pathlib import Path

from bench.entry import Value
from bench.errors import BenchError
from bench.spec import read_text


def read_values(path: Path) -> dict[str, Value]:
    """Return the table; what is no number, true, false or text is refused."""
    try:
        table = tomllib.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise BenchError(f"{path}: not valid TOML: {error}") from None
    for name, value in table.items():
        if not isinstance(value, float | int | bool | str) or value != value or value in (float("inf"), -float("inf")):
            raise BenchError(f"{path}: {name} must be a finite number, true, false or text, got {value!r}")
    return table
