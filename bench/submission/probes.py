"""What a record says of its probe against what the entry's source says."""

import ast
from collections.abc import Iterator

from bench.entry import Entry
from bench.record import Record


def of_probe(record: Record, entry: Entry) -> Iterator[tuple[str, str]]:
    """Yield (key, reason): passes beyond one are a probe's, and only an entry that wants one has it."""
    probe, passes = record.facts.probe, record.facts.passes
    if probe is None:
        if passes != 1:
            yield "facts.passes", f"{passes:g}, and no probe was asked: expected 1"
        if record.outcome == "finished" and any(own and all(own) for own in _wants(entry)):
            yield "facts.probe", "is missing: the entry wants a probe at every step"
        return
    if not may_probe(entry):
        yield "facts.probe", "is there, and the entry wants none"
    if any(probe.calls.values()) and not probe.fresh_tokens and passes <= 1:
        yield "facts.passes", f"{passes:g}, but the probe was asked {sum(probe.calls.values()):,} times"


def may_probe(entry: Entry) -> bool:
    """Return whether an optimizer of the entry, or of what it wraps, says that it wants a probe."""
    return any(any(own) for own in _wants(entry))


def _wants(entry: Entry) -> list[list[bool]]:
    """Return of each source, the entry's and the wrapped one's, which of its classes that inherit say so."""
    found = []
    for one in (entry, entry.wrapped):
        if one is not None:
            tree = ast.parse(one.source.read_text(encoding="utf-8"))
            classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.bases]
            found.append([any(_says_so(line) for line in node.body) for node in classes])
    return found


def _says_so(line: ast.stmt) -> bool:
    return isinstance(line, ast.Assign | ast.AnnAssign) and "wants_probe" in ast.unparse(line)
