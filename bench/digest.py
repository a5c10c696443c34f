"""Digests: of values, of files, and of source code. All are sha256 in lower-case hexadecimal."""

import ast
import hashlib
import io
import json
import tokenize
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


def code_without_prose(source: str) -> str:
    """Return Python source without comments, docstrings and blank lines: explaining code must not orphan its records.

    The text itself is kept, since what ast prints of a tree differs from one Python to the next.
    """
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            value = first.value if isinstance(first, ast.Expr) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                for row in range(first.lineno - 1, first.end_lineno or first.lineno):
                    lines[row] = ""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and lines[token.start[0] - 1]:
            lines[token.start[0] - 1] = token.line[: token.start[1]]
    return "\n".join(line.rstrip() for line in lines if line.strip())


def digest_of_sources(files: Mapping[str, Path] | Iterable[Path]) -> str:
    """Return the digest of Python files' code, by name; a blank line or an edited comment changes nothing."""
    named = files if isinstance(files, Mapping) else {path.name: path for path in files}
    code = {}
    for name, path in named.items():
        try:
            code[name] = code_without_prose(path.read_text())
        except (SyntaxError, ValueError, tokenize.TokenError) as error:
            raise BenchError(f"{path}: not readable as Python: {error}") from None
    return digest_of(code)
