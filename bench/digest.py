"""Digests: of values, of files, and of source code. All are sha256 in lower-case hexadecimal."""

import ast
import codecs
import hashlib
import io
import json
import tokenize
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from bench.errors import BenchError

BETWEEN = {tokenize.NEWLINE, tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}  # of lines


def canonical(value: Any) -> bytes:
    """Return the one JSON text of a value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def digest_of(value: Any) -> str:
    return hashlib.sha256(canonical(value)).hexdigest()


def digest_of_bytes(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def text_of_source(data: bytes) -> str:
    """Return Python source as text; raise SyntaxError where it is to be read by a codec that makes other code of it."""
    encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
    if codecs.lookup(encoding).name != "utf-8":
        raise SyntaxError(f"it declares the encoding {encoding}, expected UTF-8")
    return data.decode()


def code_without_prose(source: str) -> str:
    """Return Python source without comments, docstrings and blank lines: explaining code must not orphan its records.

    The text itself is kept, since what ast prints of a tree differs from one Python to the next.
    """
    source = source.replace("\r\n", "\n").replace("\r", "\n")  # str.splitlines counts more ends than Python does
    lines, inside = source.split("\n"), set()  # inside: lines that end within a string
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        start, end = token.start[0] - 1, token.end[0] - 1
        if token.type == tokenize.COMMENT:
            lines[start] = lines[start][: token.start[1]]
        elif token.type not in BETWEEN:
            inside |= set(range(start, end))
    for node in _docstrings(ast.parse(source)):
        start, end = node.lineno - 1, (node.end_lineno or node.lineno) - 1
        before, after = lines[start].encode()[: node.col_offset], lines[end].encode()[node.end_col_offset :]
        lines[start : end + 1] = [(before + after).decode(), *[""] * (end - start)]
        inside -= set(range(start, end))
    kept = ((line if row in inside else line.rstrip()) for row, line in enumerate(lines))
    return "\n".join(line for row, line in enumerate(kept) if line or row in inside)


def _docstrings(tree: ast.Module) -> Iterator[ast.Expr]:
    for owner in ast.walk(tree):
        if isinstance(owner, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and owner.body:
            first = owner.body[0]
            value = first.value if isinstance(first, ast.Expr) else None
            if isinstance(first, ast.Expr) and isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield first


def digest_of_sources(files: Mapping[str, Path] | Iterable[Path]) -> str:
    """Return the digest of Python files' code, by name; a blank line or an edited comment changes nothing."""
    named = files if isinstance(files, Mapping) else {path.name: path for path in files}
    code = {}
    for name, path in named.items():
        try:
            code[name] = code_without_prose(text_of_source(path.read_bytes()))
        except (SyntaxError, ValueError, tokenize.TokenError) as error:
            raise BenchError(f"{path}: not readable as Python: {error}") from None
    return digest_of(code)
