"""The cells of a table that a reader sorts, filters and takes along: what is shown, and what it is sorted by."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

from bench.pages.marks import Bar, draw

Kind = Literal["text", "number", "interval", "name"]


@dataclass(frozen=True)
class Column:
    """What a column says; those that are not shown at first can be chosen."""

    key: str
    title: str
    kind: Kind
    says: str  # one sentence
    shown: bool = True


@dataclass(frozen=True)
class Cell:
    """One figure or word of a row."""

    text: str
    value: float | str | None = None  # in full precision, to sort by and to download; None is missing
    bar: Bar | None = None
    href: str | None = None
    tags: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """What a page's script sorts a cell by; empty where it is missing."""
        return "" if self.value is None else f"{self.value:.9g}" if isinstance(self.value, float) else str(self.value)

    @property
    def drawn(self) -> Markup:
        return Markup("") if self.bar is None else draw(self.bar, f"interval {self.text}")

    def packed(self) -> list[object]:
        """Return the cell for a page's data, without what is missing at its end."""
        more = self.bar.numbers if self.bar else [self.href, *self.tags] if self.href or self.tags else None
        value = self.value if not isinstance(self.value, float) else float(f"{self.value:.9g}")
        parts: list[object] = [self.text, value, more]
        while parts and parts[-1] is None:
            parts.pop()
        return parts


@dataclass(frozen=True)
class Line:
    """A row of the table; reference rows stand apart."""

    cells: tuple[Cell, ...]


def missing() -> Cell:
    return Cell("–")


def filled(columns: Sequence[Column], tables: Sequence[Sequence[Line]]) -> list[int]:
    """Return the places of the columns that hold something in some row; the first two always stay."""
    return [
        place
        for place in range(len(columns))
        if place < 2 or any(line.cells[place].value is not None for lines in tables for line in lines)
    ]
