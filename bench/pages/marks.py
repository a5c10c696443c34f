"""Small marks that stand in a line of text or a table's cell: an interval drawn about its figure."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from markupsafe import Markup

from bench.pages.words import interval, speedup
from bench.score.speedup import Speedup

SPAN = 3.0  # a bar is drawn from 1 / SPAN to SPAN, in log; what lies beyond ends in an arrow
SPANS = (1.1, 1.25, 1.5, 1.75, 2.0, 2.25, 2.5, SPAN)  # of a whole column, the least that holds it
WIDTH, HEIGHT = 150, 16  # of the drawing's own units


@dataclass(frozen=True)
class Bar:
    """Where an interval's ends, its figure and the reference lie, in units of WIDTH; None is an end without a figure.

    left, right: whether an end lies beyond the drawing, or is open.
    """

    low: float
    high: float
    figure: float | None
    one: float
    left: bool
    right: bool

    @property
    def numbers(self) -> list[float | None]:
        """The bar as a list, for a page's data."""
        return [self.low, self.high, self.figure, self.one, float(self.left), float(self.right)]


def place(ratio: float, span: float = SPAN) -> float:
    """Return where a ratio lies in the drawing, rounded to a tenth; what is beyond it lies at its edge."""
    share = 0.5 + math.log(ratio) / (2 * math.log(span))
    return round(4 + (WIDTH - 8) * min(1.0, max(0.0, share)), 1)


def span_of(found: Iterable[Speedup | None]) -> float:
    """Return the span that holds the intervals of a column, so that its bars compare; the widest if none does."""
    ends = [end for one in found if one for end in (one.low, one.high) if end]
    largest = max((max(end, 1 / end) for end in ends), default=1.0)
    return next((span for span in SPANS if largest <= span), SPAN)


def closed_ends(found: Speedup) -> list[float]:
    """Return what a chart's range must hold of a speedup: its figure, and those ends of its interval that it has."""
    return [found.figure, *(end for end in (found.low, found.high) if end is not None)]


def drawn_ends(found: Speedup, low: float, high: float) -> tuple[float, float]:
    """Return where an interval starts and ends in a chart from low to high: an open end is the chart's edge."""
    if found.no_interval is not None:
        return found.figure, found.figure
    return low if found.low is None else found.low, high if found.high is None else found.high


def open_ends(found: Speedup, low: float, high: float) -> list[tuple[float, str]]:
    """Return the edges of such a chart at which an interval ends in an arrow, each with its side: "low" or "high"."""
    if found.no_interval is not None:
        return []
    sides = ((found.low, low, "low"), (found.high, high, "high"))
    return [(edge, side) for end, edge, side in sides if end is None]


def bar_of(found: Speedup | None, span: float = SPAN) -> Bar | None:
    """Return the bar of a speedup; None where it has no interval."""
    if found is None or found.no_interval is not None:
        return None
    low, high = found.low, found.high
    return Bar(
        low=place(low, span) if low else 0.0,
        high=place(high, span) if high else float(WIDTH),
        figure=place(found.figure, span),
        one=place(1.0, span),
        left=not low or low < 1 / span,
        right=not high or high > span,
    )


def bar(found: Speedup | None, span: float = SPAN) -> Markup:
    """Return the interval as a drawing with its words; nothing where there is none."""
    drawn = bar_of(found, span)
    if drawn is None:
        return Markup("")
    return draw(drawn, f"{speedup(found)}, interval {interval(found)}")


def draw(drawn: Bar, words: str) -> Markup:
    """Return a bar: a line between the ends, an arrow where one is open, a dot at the figure, a tick at 1."""
    middle = HEIGHT // 2
    arrows = (f"M5 {middle - 4}L1 {middle}L5 {middle + 4}" if drawn.left else "") + (
        f"M{WIDTH - 5} {middle - 4}L{WIDTH - 1} {middle}L{WIDTH - 5} {middle + 4}" if drawn.right else ""
    )
    dot = "" if drawn.figure is None else f'<circle cx="{drawn.figure:g}" cy="{middle}" r="3"/>'
    return Markup(
        '<svg class="bar" viewBox="0 0 {w} {h}" role="img" aria-label="{words}"><path class="one" d="M{one:g} 0V{h}"/>'
        '<path d="M{low:g} {m}H{high:g}{arrows}"/>{dot}</svg>'
    ).format(w=WIDTH, h=HEIGHT, words=words, one=drawn.one, low=drawn.low, high=drawn.high, m=middle,
             arrows=arrows, dot=Markup(dot))  # fmt: skip
