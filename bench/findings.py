"""Findings: what a release says in plain words. Figures are named, never typed: they are filled in from the release.

A text holds paragraphs, with an empty line between them, and headings, as "# How sure it is". A figure is named in
braces, by a measure, the file that it lies in, and where there; rungs are as boards write them. What heads a speedup on
its board (unstable, multi-epoch, steps not of equal size), and a level other than 95%, come with it:

    {speedup nano-bf16-tuned soap 2x}   1.84× (1.66 to 2.08; multi-epoch)
    {loss nano-bf16-tuned soap 1x}      1.7304
    {size nano-bf16-transfer muon 1x}   2.43×, its steps in hidden matrices over the reference's
    {trials nano-bf16-tuned soap}       20, in its own tuning
    {noise nano-bf16-tuned}             0.0097, of seeds, in nats
    {tau nano-bf16-tuned}               0.019, of tuning, in ln speedup
    {lost nano-tuned ptq-w3 soap 1x}    +0.0123 (+0.0101 to +0.0145)
    {excess nano-tuned ptq-w3 soap 1x}  the same beyond what the reference loses at equal loss, or at equal budget
    {left nano-tuned ptq-w3 soap 1x}    1.14× (1.02 to 1.28), the speedup against the reference in the mode
    {told nano-tuned network}           22 of 27 rank correlations with what is lost have an interval without 0
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.errors import BenchError
from bench.score.statistics import LEVEL
from bench.score.wording import MULTI_EPOCH, READ_MULTI_EPOCH, UNEQUAL, UNSTABLE, bounded, interval, percent
from bench.task import rung_name

NAMED = re.compile(r"\{([^{}]*)\}")
Facts = Mapping[str, Any]  # a board, or a table of modes, as its JSON file has it


@dataclass(frozen=True)
class Section:
    title: str  # empty where the text begins without a heading
    paragraphs: tuple[str, ...]


def sections(text: str) -> tuple[Section, ...]:
    """Return a text's paragraphs below their headings; lines of a paragraph are joined."""
    found: list[tuple[str, list[list[str]]]] = [("", [[]])]
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("# "):
            found.append((line[2:].strip(), [[]]))
        elif line.startswith("#"):
            raise BenchError(
                f"findings, line {number}: {line[:60]!r}: a heading is '# ' and words", "there is one level"
            )
        elif line.strip():
            found[-1][1][-1].append(line.strip())
        else:
            found[-1][1].append([])
    read = [Section(title, tuple(" ".join(lines) for lines in blocks if lines)) for title, blocks in found]
    return tuple(one for one in read if one.title or one.paragraphs)


def filled(text: str, tables: Mapping[str, Facts]) -> str:
    """Return the text with its figures; one that is not there, a brace that names none, or what is no heading is
    refused by its line."""

    def figure(found: re.Match[str]) -> str:
        try:
            return _figure(found[1].split(), tables)
        except _Missing as error:
            line = text.count("\n", 0, found.start()) + 1
            raise BenchError(f"findings, line {line}: {found[0]}: {error}", error.known or None) from None

    made = NAMED.sub(figure, text)
    if stray := re.search(r"[{}]", made):
        line = made.count("\n", 0, stray.start()) + 1
        raise BenchError(f"findings, line {line}: a brace stands alone", "figures are named as {noise nano-bf16-tuned}")
    sections(made)
    return made


class _Missing(Exception):
    def __init__(self, what: str, known: Sequence[str]) -> None:
        super().__init__(what)
        self.known = f"there are {', '.join(known)}" if known else ""


def _figure(words: Sequence[str], tables: Mapping[str, Facts]) -> str:
    measure, place = (words[0], words[1:]) if words else ("", [])
    if measure not in MEASURES:
        raise _Missing(f"no measure is called {measure!r}", sorted(MEASURES))
    parts, say = MEASURES[measure]
    if len(place) != len(parts):
        raise _Missing(f"{measure} needs {len(parts)} words", [" ".join((measure, *parts)).upper()])
    return say(_one("file", place[0], tables), *place[1:])


def _one(kind: str, name: str, among: Mapping[str, Any]) -> Any:
    if name not in among:
        raise _Missing(f"no {kind} is called {name!r}", sorted(among))
    return among[name]


def _rung(board: Facts, entry: str, rung: str) -> Any:
    rungs = {row["entry"]: row["rungs"] for row in _part(board, "rows")} | {board["reference"]: board["ladder"]}
    return _one("rung", rung, {rung_name(one["budget"]): one for one in _one("entry", entry, rungs)})


def _part(table: Facts, name: str) -> Any:
    if name not in table:
        raise _Missing(f"the file holds no {name}", sorted(table))
    return table[name]


def _present(value: Any) -> Any:
    if value is None:
        raise _Missing("it has no value", [])
    return value


def _speedup(board: Facts, entry: str, rung: str) -> str:
    one = _rung(board, entry, rung)
    found = _present(one.get("speedup"))
    unequal = any(row["entry"] == entry and not row["of_equal_size"] for row in board["rows"])
    heads = {MULTI_EPOCH: one["multi_epoch"], READ_MULTI_EPOCH: found["read_multi_epoch"], UNSTABLE: one["unstable"],
             UNEQUAL: unequal}  # fmt: skip
    return _in_words(found, [word for word, holds in heads.items() if holds])


def _left(table: Facts, mode: str, entry: str, rung: str) -> str:
    row = _row(table, mode, entry, rung)
    return _in_words(_present(row["speedup"]), row["caveats"])


def _in_words(found: Any, heads: Sequence[str]) -> str:
    sign = {"=": "", ">=": "at least ", "<=": "at most "}[found["bound"]]
    figure = bounded(found["limit"] if found["value"] is None else found["value"], found["bound"])
    ends = found["no_interval"] or interval(found["low"], found["high"])
    level = "" if found["level"] == LEVEL else f" at {percent(found['level'])}"
    said = [head for head in heads if head != READ_MULTI_EPOCH or MULTI_EPOCH not in heads]
    return f"{sign}{figure}× ({'; '.join((ends + level, *said))})"


def _loss(board: Facts, entry: str, rung: str) -> str:
    return f"{_present(_rung(board, entry, rung)['mean_loss']):.4f}"


def _size(board: Facts, entry: str, rung: str) -> str:
    return f"{_present(_rung(board, entry, rung).get('size')):.2f}×"


def _trials(board: Facts, entry: str) -> str:
    return str(_one("entry", entry, {one["entry"]: one["trials"] for one in _part(board, "tuning")}))


def _noise(board: Facts) -> str:
    return f"{_present(_part(board, 'noise')):.4f}"


def _tau(board: Facts) -> str:
    return f"{_present(_part(board, 'tau')):.3f}"


def _row(table: Facts, mode: str, entry: str, rung: str) -> Any:
    rows: dict[str, dict[str, Any]] = {}
    for row in _one("mode", mode, _part(table, "modes")):
        rows.setdefault(row["entry"], {})[rung_name(row["budget"])] = row
    return _one("rung", rung, _one("entry", entry, rows))


def _estimate(found: Any) -> str:
    if found["low"] is None or found["high"] is None:
        return f"{found['value']:+.4f}"
    return f"{found['value']:+.4f} ({found['low']:+.4f} to {found['high']:+.4f})"


def _lost(table: Facts, mode: str, entry: str, rung: str) -> str:
    return _estimate(_row(table, mode, entry, rung)["degradation"])


def _excess(table: Facts, mode: str, entry: str, rung: str) -> str:
    row = _row(table, mode, entry, rung)
    return _estimate(_present(row["at_equal_loss"] or row["at_equal_budget"]))


def _told(table: Facts, side: str) -> str:
    sides: dict[str, list[bool]] = {}
    for one in _part(table, "outliers"):
        sides.setdefault(one["side"], []).append(one["low"] is not None and not one["low"] <= 0 <= one["high"])
    told = _one("side", side, sides)
    return f"{sum(told)} of {len(told)}"


MEASURES: dict[str, tuple[tuple[str, ...], Callable[..., str]]] = {
    "speedup": (("board", "entry", "rung"), _speedup),
    "loss": (("board", "entry", "rung"), _loss),
    "size": (("board", "entry", "rung"), _size),
    "trials": (("board", "entry"), _trials),
    "noise": (("board",), _noise),
    "tau": (("board",), _tau),
    "lost": (("table", "mode", "entry", "rung"), _lost),
    "excess": (("table", "mode", "entry", "rung"), _excess),
    "left": (("table", "mode", "entry", "rung"), _left),
    "told": (("table", "side"), _told),
}
