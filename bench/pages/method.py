"""How every number is made: definitions read from the docstrings of the code that makes it, so they cannot part."""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Any

import bench
import bench.score
from bench import children, protocol, record, tuning
from bench.pages.shell import Page
from bench.score import (
    alarm,
    cost,
    curve,
    degradation,
    efficiency,
    ladder,
    modes,
    pairs,
    placebo,
    power,
    rows,
    search,
    speedup,
    statistics,
    versus,
)

ROOT = Path(bench.__file__).parents[1]
FIELD = re.compile(r"\s*(\w+): [^#]*#\s*(.+)")  # of a dataclass, with what it means behind it
TERM = re.compile(r"(\S+(?: \S+)*) {2,}(\S.*)")  # of a list, with its text behind a gap
LINE = re.compile(r"^\d+\. ", re.MULTILINE)

CHAPTERS: tuple[tuple[str, tuple[tuple[str, Any], ...]], ...] = (
    ("The protocol", (("Its rules", protocol),)),
    ("Speedup at equal loss", (
        ("Speedup", speedup.Speedup), ("The reference’s ladder", curve.Curve),
        ("Tokens the reference needs", curve.Curve.tokens_for), ("The fit shown beside", curve.Fit),
        ("Where a ladder gives no speedup", ladder.judge_ladder),
        ("Budgets that are not ranked", ladder.unstable_budgets),
    )),
    ("Noise and intervals", (
        ("Noise", statistics.pool), ("Variance of a mean", statistics.arm), ("Margin", statistics.margin),
        ("Beating the reference", speedup.beats), ("Many claims", statistics.holm),
        ("Looks", statistics.level_of_look), ("Tuning noise, tau", placebo.measure_tau),
        ("Placebos", placebo), ("Correlation of seeds", statistics.correlation),
        ("Smallest gap that is found", power.smallest_gap), ("Smallest speedup that is found", power.smallest_speedup),
    )),
    ("Entry against entry", (
        ("Standing", rows.Standing), ("Test of a pair", versus.Versus), ("p-values of pairs", pairs.pair_p_values),
        ("Tie letters", pairs.tie_letters), ("Probability of being first", pairs.probability_of_first),
        ("The validation text’s part", pairs.text_error),
    )),
    ("What it costs", (
        ("Beside the headline", cost.Beside), ("Time and tuning", cost.beside), ("On-curve speedup", cost.on_curve),
        ("Dominated", cost.dominators), ("Cost in a record", record.Cost),
    )),
    ("How hard it was to tune", (
        ("Trials", tuning.tune), ("Their cost", search.spent), ("Best after k trials", search.best_after_k),
        ("Learning-rate tolerance", search.tolerance), ("Learning-rate sensitivity", search.sensitivity),
        ("Undertuned baseline", alarm.undertuned),
    )),
    ("What a record holds", (
        ("Record", record.Record), ("Inputs", record.Inputs), ("Facts", record.Facts), ("Machine", record.Machine),
        ("Chains", record.Chains), ("Log", record.Log),
    )),
    ("Quantization", (
        ("What a mode costs beyond the reference", degradation), ("How it is computed", degradation.compare),
        ("Entries by modes", modes.ModeRow), ("Parameter efficiency", efficiency),
        ("Proof of rounding", record.Quantization), ("Rounding", record.Rounding),
        ("After training", children.AfterTraining),
    )),
)  # fmt: skip


@dataclass(frozen=True)
class Definition:
    """One number, or one idea, as its code explains it."""

    anchor: str
    title: str
    paragraphs: tuple[str | tuple[tuple[str, str], ...], ...]  # prose, or a list of terms and what they mean
    fields: tuple[tuple[str, str], ...]  # name and meaning
    where: str  # file and name


@dataclass(frozen=True)
class Chapter:
    title: str
    definitions: tuple[Definition, ...]

    @property
    def anchor(self) -> str:
        return _anchor(self.title)


def method_pages() -> list[Page]:
    chapters = tuple(Chapter(title, tuple(define(*one) for one in things)) for title, things in CHAPTERS)
    return [Page("method.html", "method.html", {"chapters": chapters, "lines": ten_lines()})]


def ten_lines() -> tuple[str, ...]:
    """Return how the interval is made, as the package that makes it says."""
    text = inspect.getdoc(bench.score) or ""
    return tuple(" ".join(line.split()) for line in LINE.split(text)[1:])


def define(title: str, thing: Any) -> Definition:
    """Return what the code says of a function, a class or a module; what says nothing is a fault of ours."""
    own = vars(thing).get("__doc__") if inspect.isclass(thing) else thing.__doc__  # not a base's
    written = inspect.cleandoc(own) if own and not own.startswith(f"{thing.__name__}(") else ""  # nor a dataclass'
    fields = tuple(_fields(thing)) if inspect.isclass(thing) else ()
    assert written or fields, f"{title}: no docstring"
    paragraphs = tuple(_paragraph(part) for part in written.split("\n\n") if part.strip())
    return Definition(_anchor(title), title, paragraphs, fields, _where(thing))


def _paragraph(part: str) -> str | tuple[tuple[str, str], ...]:
    """Return its words in a line; or, where its first line is a term, a gap and a text, every term with its text."""
    terms: list[tuple[str, str]] = []
    for line in part.splitlines():
        if found := TERM.match(line):
            terms.append((found[1], found[2]))
        elif terms and line.startswith("  "):
            terms[-1] = terms[-1][0], f"{terms[-1][1]} {line.strip()}"
        else:
            return " ".join(part.split())
    return tuple(terms)


def _fields(thing: type) -> Iterator[tuple[str, str]]:
    """Yield each field of a class with the comment behind it, which is its meaning."""
    lines = textwrap.dedent(inspect.getsource(thing)).splitlines()
    tree = ast.parse("\n".join(lines)).body[0]
    assert isinstance(tree, ast.ClassDef) and (is_dataclass(thing) or hasattr(thing, "model_fields"))
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and (found := FIELD.match(lines[node.lineno - 1])):
            yield found.group(1), found.group(2)


def _where(thing: Any) -> str:
    path = Path(inspect.getsourcefile(thing) or "").relative_to(ROOT).as_posix()
    return path if inspect.ismodule(thing) else f"{path}, {thing.__qualname__}"


def _anchor(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
