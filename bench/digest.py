"""Digests: of values, of files, and of source code. All are sha256 in lower-case hexadecimal."""

import ast
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bench.errors import BenchError


def canonical(value: Any) -> bytes:
    """Return the one JSON text of a value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def digest_of(value: Any) -> str:
    return hashlib.sha256(canonical(value)).hexdigest()


def digest_of_bytes(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def digest_of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def code_without_prose(source: str) -> str:
    """Return Python source without comments, docstrings and layout: explaining code must not orphan its records."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            value = first.value if isinstance(first, ast.Expr) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def digest_of_sources(files: Mapping[str, Path] | Iterable[Path]) -> str:
    """Return the digest of Python files' code, by name; a moved line or an edited comment changes nothing."""
    named = files if isinstance(files, Mapping) else {path.name: path for path in files}
    code = {}
    for name, path in named.items():
        try:
            code[name] = code_without_prose(path.read_text())
        except (SyntaxError, ValueError) as error:
            raise BenchError(f"{path}: not readable as Python: {error}") from None
    return digest_of(code)
