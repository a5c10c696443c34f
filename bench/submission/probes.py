"""What a record says of its probe against what the entry's source says."""

import ast
from collections.abc import Iterator

from bench.entry import Entry
from bench.passes import Probed
from bench.record import Record
from bench.submission.desk import short

THIRDS = {"gradient": 3, "sampled_gradient": 3, "sequence_jacobian": 3, "logits_along": 1}  # of a pass (bench.probe)
BURSTS = 0.9  # share of the calls that fall on batches of the full size
NEAR = 1e-6  # relative


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
    if bool(probe.fresh_tokens) != bool(probe.calls.get("fresh_gradient")):
        yield "facts.probe.fresh_tokens", f"{probe.fresh_tokens:,}, and its calls are {short(probe.calls)}"
    least, asked = _least(record, probe), any(calls for kind, calls in probe.calls.items() if kind != "fresh_gradient")
    if record.outcome == "finished" and (passes < least * (1 - NEAR) or (asked and passes <= 1)):
        yield "facts.passes", f"{passes:g}, but the probe's calls cost {least:g} or more: {short(probe.calls)}"


def _least(record: Record, probe: Probed) -> float:
    """Return the least that the calls can have cost, in passes a token; but for groups, which are of any size.

    A call costs what its batch has. Where all batches are of one size that is exact. A last batch that fresh draws cut
    short may have more than its share of calls, and a controller's batches are of sizes that no record has.
    """
    share = 0.0 if record.facts.batches else BURSTS if probe.fresh_tokens else 1.0
    thirds = sum(THIRDS.get(kind, 0) * calls for kind, calls in probe.calls.items())
    spent = (record.tokens - probe.fresh_tokens) / max(1, record.tokens)
    return 1 + share * thirds * spent / (3 * max(1, record.steps))


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
