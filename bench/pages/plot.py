"""Small charts as SVG text, for pages that are made by the thousand: a millisecond each, where Vega takes a tenth of a
second. Lines, dots and bands on linear or logarithmic axes, the same bytes each time."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup, escape

from bench.pages.words import short

# The page's style sheet gives each number a colour; the shapes tell them apart without one.
WIDTH, LEFT, RIGHT, TOP, BOTTOM = 460, 52, 12, 14, 40
S = 3.4  # half a dot's width, in units of the drawing
D = 2 * S
OUTLINES = {
    "circle": (S, 0.0, f"a{S} {S} 0 1 0 {D} 0a{S} {S} 0 1 0 {-D} 0"),
    "square": (S, S, f"h{D}v{D}h{-D}z"),
    "triangle": (S, -S, f"h{D}l{-S} {-D}z"),
    "diamond": (0.0, S + 1, f"l{S + 1} {S + 1}l{-S - 1} {S + 1}l{-S - 1} {-S - 1}z"),
    "cross": (S, S, f"l{D} {D}m0 {-D}l{-D} {D}"),
}  # where one starts, left of its middle and above it, and its path from there
SHAPES = tuple(OUTLINES)
Points = Sequence[tuple[float, float | None]]


@dataclass(frozen=True)
class Axis:
    title: str
    log: bool = False
    ticks: tuple[tuple[float, str], ...] | None = None  # where they are not round numbers
    zero: bool = False  # the range includes 0


@dataclass(frozen=True)
class Series:
    """One thing drawn; a value of None is a gap."""

    name: str  # of the legend; an empty one is left out of it
    points: Points
    kind: Literal["line", "dashed", "thin", "dots"] = "line"
    colour: int | None = None  # None: the page's ink
    dots: bool = False  # at the points of a line


@dataclass(frozen=True)
class Band:
    """The room between two curves over the same places."""

    name: str
    low: Points
    high: Points
    colour: int | None = None


@dataclass(frozen=True)
class _Scale:
    low: float
    high: float
    log: bool
    start: float  # in units of the drawing
    end: float

    def __call__(self, values: Iterable[float]) -> list[float]:
        """Return the places of values in units of the drawing."""
        low, high = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        each, start = (self.end - self.start) / (high - low), self.start
        if self.log:
            return [start + (math.log(value) - low) * each for value in values]
        return [start + (value - low) * each for value in values]


def plot(
    title: str, description: str, x: Axis, y: Axis, drawn: Sequence[Series | Band], number: str, height: int = 250
) -> Markup:
    """Return the chart as an element of a page; number makes its ids unique there. Nothing to draw is an empty text."""
    points = [point for one in drawn for line in _lines(one) for point in line]
    if not points:
        return Markup()
    across = _scale([place for place, _ in points], x, LEFT, WIDTH - RIGHT, 0.0)
    up = _scale([value for _, value in points], y, height - BOTTOM, TOP, 0.05)
    parts = [_grid(x, y, across, up, height)]
    parts += [_band(one, across, up) if isinstance(one, Band) else _series(one, across, up) for one in drawn]
    n = escape(number)
    head = (f'<svg xmlns="http://www.w3.org/2000/svg" class="plot" role="img" viewBox="0 0 {WIDTH} {height}" '
            f'aria-labelledby="{n}-t {n}-d"><title id="{n}-t">{escape(title)}</title>'
            f'<desc id="{n}-d">{escape(description)}</desc>')  # fmt: skip
    return Markup("".join((head, *parts, "</svg>")))


def legend(drawn: Sequence[Series | Band]) -> Markup:
    """Return the names of what is drawn, each with its mark."""
    items = []
    for one in drawn:
        if one.name:
            mark = f'<svg class="plot key" viewBox="0 0 28 12" aria-hidden="true">{_key(one)}</svg>'
            items.append(f"<li>{mark}{escape(one.name)}</li>")
    return Markup(f'<ul class="legend">{"".join(items)}</ul>')


def _key(one: Series | Band) -> str:
    if isinstance(one, Band):
        return f'<rect class="band {_colour(one.colour)}" x="1" y="1" width="26" height="10"/>'
    line = f'<path class="{one.kind} {_colour(one.colour)}" d="M1 6H27"/>'
    dot = _dots([(14, 6)], one.colour)
    return dot if one.kind == "dots" else line + dot if one.dots else line


def _lines(one: Series | Band) -> list[list[tuple[float, float]]]:
    """Return the runs of points between gaps."""
    lines: list[list[tuple[float, float]]] = [[]]
    for points in (one.low, one.high) if isinstance(one, Band) else (one.points,):
        for place, value in points:
            if value is None:
                lines.append([])
            else:
                lines[-1].append((place, value))
        lines.append([])
    return [line for line in lines if line]


def _scale(values: Sequence[float], axis: Axis, start: float, end: float, room: float) -> _Scale:
    low, high = min(values), max(values)
    if axis.zero and not axis.log:
        low, high = min(low, 0.0), max(high, 0.0)
    if axis.log:
        ratio = max(high / low, 1.02) ** max(room, 0.02)
        return _Scale(low / ratio, high * ratio, True, start, end)
    span = (high - low) or abs(high) or 1.0
    bottom = low if axis.zero and low == 0 else low - room * span
    return _Scale(bottom, high + max(room, 0.005) * span, False, start, end)


def _ticks(scale: _Scale, axis: Axis, count: int) -> list[tuple[float, str]]:
    """Return the places and labels of an axis' ticks, those inside its range."""
    if axis.ticks is not None:
        found = list(axis.ticks)
    elif axis.log:
        found = [(value, short(value)) for value in _log_ticks(scale.low, scale.high, count)]
    else:
        step = _step((scale.high - scale.low) / count)
        first, last = math.ceil(scale.low / step), math.floor(scale.high / step)
        found = [(round(i * step, 12), short(round(i * step, 12))) for i in range(first, last + 1)]
    return [(value, said) for value, said in found if scale.low <= value <= scale.high]


def _log_ticks(low: float, high: float, count: int) -> list[float]:
    """Return decades, or 1, 2 and 5 of each where those are few."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1,), (1, 3), (1, 2, 5), tuple(range(1, 10))):
        found = [digit * 10.0**power for power in decades for digit in digits]
        inside = [value for value in found if low <= value <= high]
        if len(inside) >= min(count, 3):
            return inside[:: max(1, -(-len(inside) // (2 * count)))]
    return [low, high]


def _step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return power * next(digit for digit in (1, 2, 5, 10) if digit * power >= rough * 0.999)


def _grid(x: Axis, y: Axis, across: _Scale, up: _Scale, height: int) -> str:
    bottom, right = height - BOTTOM, WIDTH - RIGHT
    parts = []
    for value, said in _ticks(up, y, 4):
        (at,) = map(_number, up([value]))
        parts.append(f'<path class="grid" d="M{LEFT} {at}H{right}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{at}" dy=".32em" text-anchor="end">{escape(said)}</text>')
    for value, said in _ticks(across, x, 6):
        (at,) = map(_number, across([value]))
        parts.append(f'<path class="tick" d="M{at} {bottom}v4"/>')
        parts.append(f'<text x="{at}" y="{bottom + 16}" text-anchor="middle">{escape(said)}</text>')
    parts.append(f'<path class="axis" d="M{LEFT} {bottom}H{right}"/>')
    parts.append(f'<text class="name" x="{right}" y="{height - 6}" text-anchor="end">{escape(x.title)}</text>')
    parts.append(f'<text class="name" x="2" y="9">{escape(y.title)}</text>')
    return "".join(parts)


def _series(one: Series, across: _Scale, up: _Scale) -> str:
    parts, dots = [], []
    for line in _lines(one):
        places = _placed(line, across, up)
        if one.kind != "dots" and len(line) > 1:
            parts.append(f'<path class="{one.kind} {_colour(one.colour)}" d="M{_path(places)}"/>')
        if one.kind == "dots" or one.dots or len(line) == 1:
            dots += places
    return "".join(parts) + (_dots(dots, one.colour) if dots else "")


def _band(one: Band, across: _Scale, up: _Scale) -> str:
    edges = [(place, value) for place, value in (*one.low, *reversed(one.high)) if value is not None]
    return f'<path class="band {_colour(one.colour)}" d="M{_path(_placed(edges, across, up))}Z"/>'


def _placed(line: Sequence[tuple[float, float]], across: _Scale, up: _Scale) -> list[tuple[float, float]]:
    return list(zip(across(place for place, _ in line), up(value for _, value in line), strict=True))


def _path(places: Sequence[tuple[float, float]]) -> str:
    written = ("%.1f %.1fL" * len(places)) % tuple(number for place in places for number in place)
    return written.replace(".0 ", " ").replace(".0L", "L").removesuffix("L")


def _dots(places: Sequence[tuple[float, float]], colour: int | None) -> str:
    """Return a mark at every place, as one path, whose shape says which series it is."""
    shape = SHAPES[0 if colour is None else colour % len(SHAPES)]
    left, above, outline = OUTLINES[shape]
    drawn = "".join(f"M{_number(x - left)} {_number(y - above)}{outline}" for x, y in places)
    return f'<path class="dot {shape} {_colour(colour)}" d="{drawn}"/>'


def _colour(number: int | None) -> str:
    return "ink" if number is None else f"c{number % 6}"


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
