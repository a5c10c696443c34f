"""Entries as a table: what an entry is, what its optimizers hold and ask for, measured, and how it is proven."""

import csv
import io
import json
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import get_args

import torch
from tabulate import tabulate
from torch import Tensor

from bench.claims import build_entry, build_rest, claimed, entry_seed, wants_probe
from bench.clock import Clock
from bench.entry import Entry, Facts, find_entries
from bench.errors import BenchError
from bench.facts import extra_passes, state_tensors
from bench.machine import make_deterministic
from bench.model import build_model, sequence_losses
from bench.probe import Means
from bench.roles import Run, roles_of
from bench.task import Task
from bench.train import Course, Parts, Progress, train
from bench.workers import ALONE

STEPS, TOKENS = 2, 16  # of the measurement: state is made by the first step and kept by the second
PROBED_STEPS, PROBED_SEQUENCES = 10, 8  # where a probe is called: now and then, or on parts of a batch
FAMILIES = get_args(Facts.model_fields["family"].annotation)
HEADERS = ("entry", "family", "scope", "state", "with rest", "extra passes", "proof", "deviations")
WIDTH = 120  # columns of what stands below a plain table
NOTE = "state: bytes per parameter that the entry claims; with rest: over the model, what the harness trains included"


@dataclass(frozen=True)
class Line:
    """What the table tells of an entry; the names are those of its CSV and JSON."""

    entry: str
    family: str
    control: bool
    scope: str
    state_bytes_per_parameter: float  # of the entry's optimizers, over what they claim
    state_bytes_with_rest: float  # of all optimizers, over the model: a record's state_bytes_per_parameter
    extra_passes: float  # forward-backwards per step beyond the one of every entry
    proof: str
    compared_with: tuple[str, ...]
    deviations: tuple[str, ...]


def entries_at(path: Path) -> list[Entry]:
    """Return the entry of a TOML, those of an algorithm's folder, or all below a folder of algorithms."""
    if not path.is_dir():
        return [Entry(path)]
    if (path / "optimizer.py").exists():
        return [Entry(toml) for toml in sorted(path.glob("*.toml"))]
    found = find_entries(path)
    if not found:
        raise BenchError(f"{path}: no entries here", "an entry is <algorithm>/<entry>.toml, beside its optimizer.py")
    return found


def inventory(entries: Sequence[Entry], task: Task) -> list[Line]:
    """Return a line for each entry: by family, controls last."""
    ordered = sorted(entries, key=lambda e: (e.facts.control, FAMILIES.index(e.facts.family), e.name))
    return [_line(entry, task) for entry in ordered]


def _line(entry: Entry, task: Task) -> Line:
    """Measure an entry on a task's model: so many steps of the one loop, on random tokens."""
    make_deterministic(task.training.threads)
    model, device = build_model(task.model, task.training.context, seed=0), torch.device("cpu")
    roles, batch_tokens, steps = roles_of(model), task.training.batch_tokens, task.steps(1.0)
    generator = torch.Generator().manual_seed(entry_seed(0))
    run = Run(steps, steps * batch_tokens, batch_tokens, device, generator, task.training.batch_sequences)
    own = build_entry(entry, entry.values({}), roles, run)
    claims = claimed(own, roles)
    optimizers = [*own, *build_rest(roles, claims, task.rest)]
    probed, progress = wants_probe(own), Progress()
    steps, sequences = (PROBED_STEPS, PROBED_SEQUENCES) if probed else (STEPS, 1)
    losses_of, clip = partial(sequence_losses, model), task.training.clip if entry.facts.clip else None

    def batch_at(first: int, count: int) -> Tensor:
        rows = torch.arange(first + 1, first + count + 1)
        return torch.arange(TOKENS + 1).mul(rows[:, None]).remainder(task.model.vocabulary)

    means = Means(model, losses_of, roles.all, sequences, clip, device, ALONE, 0, batch_at, rounds=False)
    parts = Parts(
        parameters=roles.by_name,
        optimizers=optimizers,
        peaks=[[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers],
        losses_of=losses_of,
        batch_at=batch_at,
        curve_loss=lambda: 0.0,
        device=device,
        probe=means if probed else None,
    )
    course = Course(steps, sequences * TOKENS, TOKENS, sequences, clip, multiplier=lambda seen: 1.0, curve_every=steps)
    try:
        train(parts, course, progress, Clock(), lambda must: None, lambda now: None)
    except Exception as error:
        raise BenchError(f"{entry.path}: its first steps raised {type(error).__name__}: {error}") from error
    mine, everything = (sum(tensor.nbytes for tensor in state_tensors(some)) for some in (own, optimizers))
    facts = entry.facts
    return Line(
        entry=entry.name,
        family=facts.family,
        control=facts.control,
        scope=facts.scope,
        state_bytes_per_parameter=round(mine / max(1, sum(w.numel() for w in claims)), 4),
        state_bytes_with_rest=round(everything / sum(w.numel() for w in roles.all), 4),
        extra_passes=extra_passes(course, progress),
        proof=proof(facts),
        compared_with=facts.compared_with,
        deviations=facts.deviations,
    )


def proof(facts: Facts) -> str:
    """Return how the entry's test holds it to others: every entry has the battery and its invariants beside."""
    libraries = {name.split(".")[0] for name in facts.compared_with}
    status = f"compared with {len(libraries)} librar{'y' if len(libraries) == 1 else 'ies'}"
    rebuilt = any("reconstruction" in deviation for deviation in facts.deviations)
    return (status if libraries else "invariants") + (", reconstruction" if rebuilt else "")


def render(lines: Sequence[Line], format: str = "plain") -> str:
    """Return the table as plain, github or latex to read, or as csv or json in full."""
    if format == "json":
        return json.dumps([asdict(line) for line in lines], indent=1) + "\n"
    if format == "csv":
        return _csv(lines)
    cells = [
        [
            line.entry,
            f"{line.family}, control" if line.control and line.family != "control" else line.family,
            line.scope,
            f"{line.state_bytes_per_parameter:.2f}",
            f"{line.state_bytes_with_rest:.2f}",
            f"{line.extra_passes:g}",
            line.proof,
            str(len(line.deviations) or "") if format == "plain" else _one_line(line.deviations, format),
        ]
        for line in lines
    ]
    align = ["right" if name in ("state", "with rest", "extra passes") else "left" for name in HEADERS]
    table: str = tabulate(cells, HEADERS, tablefmt=format, disable_numparse=True, colalign=align)
    told = _deviations(lines) if format == "plain" else ""
    return f"{table}\n\n{'% ' if format == 'latex' else ''}{NOTE}\n{told}"


def _deviations(lines: Sequence[Line]) -> str:
    """Return each deviation once, with the entries that have it."""
    having: dict[str, list[str]] = {}
    for line in lines:
        for text in line.deviations:
            having.setdefault(text, []).append(line.entry)
    told = [f"{', '.join(names)}: {text}" for text, names in having.items()]
    return "".join("\n" + textwrap.fill(text, WIDTH, subsequent_indent="    ") for text in told) + "\n" * bool(told)


def _one_line(texts: Sequence[str], format: str) -> str:
    text = "; ".join(" ".join(text.split()) for text in texts)
    return text.replace("|", r"\|") if format == "github" else text


def _csv(lines: Sequence[Line]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(Line.__dataclass_fields__), lineterminator="\n")
    writer.writeheader()
    for line in lines:
        row = asdict(line)
        writer.writerow(row | {name: "; ".join(row[name]) for name in ("compared_with", "deviations")})
    return text.getvalue()
