"""From a chart's specification to what a page holds: an SVG drawn when the site is built, and the specification.

The SVG is the chart, readable and printable without script, the same bytes each time. The specification beside it is
what a script draws once a reader points at it: tooltips, zoom, legend. Nothing is loaded from elsewhere.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.metadata import version
from types import ModuleType
from typing import Any, ClassVar

import altair as alt
import vl_convert
from markupsafe import Markup, escape

BUNDLE = "static/vega.js"  # where a site keeps the script that draws; written by the build, about 0.9 MB
INK = "#010203"  # becomes the colour of the page's text
FONT = "Liberation Sans"  # carried by vl-convert, so that widths do not hang on the machine's fonts
CONFIG = {
    "aria": False, "background": None, "font": FONT, "view": {"stroke": None},
    "axis": {"labelColor": "currentColor", "titleColor": "currentColor", "domainColor": "#8a8a8a",
             "tickColor": "#8a8a8a", "gridColor": "#8a8a8a", "gridOpacity": 0.25,
             "labelFontSize": 12, "titleFontSize": 13, "titleFontWeight": "normal", "titlePadding": 10},
    "legend": {"labelColor": "currentColor", "titleColor": "currentColor", "labelFontSize": 12, "titleFontSize": 12,
               "titleFontWeight": "normal", "symbolStrokeWidth": 2},
    "header": {"labelColor": "currentColor", "titleColor": "currentColor"},
    "title": {"color": "currentColor"},
}  # fmt: skip
ZOOM = {  # wheel with Shift, so that a page scrolls under the pointer; drag moves, a double click puts it back
    "name": "zoom",
    "select": {"type": "interval", "zoom": "wheel![event.shiftKey]"},
    "bind": "scales",
}
DIGITS = 9  # of a drawn number; more than any pixel shows

_begun: int | None = None  # the process in which Vega was first used


@dataclass(frozen=True)
class Drawn:
    """A chart as a page holds it."""

    svg: Markup
    spec: Markup  # JSON that is safe inside a script element

    def __html__(self) -> str:
        return self.svg


class Points:
    """What a chart draws, as altair hands it on untouched; a list of points it copies at every turn."""

    _schema: ClassVar[dict[str, str]] = {"type": "array"}

    def __init__(self, points: Sequence[Mapping[str, Any]]) -> None:
        self.points = points

    def __repr__(self) -> str:
        return repr(self.points)  # altair names a view by the digest of what its chart is written as

    def to_dict(self, *_: Any, **__: Any) -> Sequence[Mapping[str, Any]]:
        return self.points


def chart_of(points: Sequence[Mapping[str, Any]]) -> alt.Chart:
    return alt.Chart(alt.Data(values=Points(points)))


def unchecked() -> AbstractContextManager[None]:
    """Return a context in which altair holds no chart to its schema, a tenth of a build; tests work outside it."""
    unchecked: AbstractContextManager[None] = alt.utils.schemapi.debug_mode(False)
    return unchecked


def draw(chart: Any, title: str, description: str, number: str, *, zoom: bool = False) -> Drawn:
    """Return the chart with a name and a description for who cannot see it; number makes the ids unique in a page.

    zoom asks for moving and zooming with both scales, which needs continuous ones.
    """
    spec = _plain(chart.to_dict(validate=False) if isinstance(chart, alt.TopLevelMixin) else chart)
    spec["config"] = CONFIG | spec.get("config", {})
    spec.pop("$schema", None)  # an address that nothing reads
    drawn = _svg(spec, title, description, number)  # without the zoom, which would clip labels at the frame
    if zoom:
        (spec["layer"][0] if "layer" in spec else spec).setdefault("params", []).append(ZOOM)
    return Drawn(drawn, inline_json(spec))


def _plain(value: Any) -> Any:
    """Return a specification with numbers of few digits, so that no last bit of a machine shows."""
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return rounded(value) if isinstance(value, float) else value


def rounded(number: float) -> float:
    """Return a number as charts hold it."""
    return float(f"{number:.{DIGITS}g}")


def inline_json(value: Any) -> Markup:
    """Return JSON that is safe inside a script element of a page."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False).replace(INK, "currentColor")
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _svg(spec: dict[str, Any], title: str, description: str, number: str) -> Markup:
    drawn: str = _vega().vegalite_to_svg(spec)
    body = re.sub(r"<[^>]*>", _tidy, drawn.partition(">")[2])
    box = re.search(r'viewBox="([^"]*)"', drawn)
    assert box is not None
    body = _renamed(body, number)
    head = Markup('<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="{0}" aria-labelledby="{1}-t {1}-d">'
                  '<title id="{1}-t">{2}</title><desc id="{1}-d">{3}</desc>')  # fmt: skip
    return head.format(box.group(1), number, escape(title), escape(description)) + Markup(body)


def _renamed(body: str, number: str) -> str:
    """Return a drawing whose clips and gradients have ids of its own: the renderer counts on from chart to chart."""
    for place, old in enumerate(dict.fromkeys(re.findall(r'\bid="([^"]*)"', body))):
        body = re.sub(rf'(\bid="|url\(#){re.escape(old)}(?=["\)])', rf"\g<1>{number}-{place}", body)
    return body


def _tidy(tag: re.Match[str]) -> str:
    """Return a tag without the renderer's bookkeeping, numbers to a hundredth of a pixel, ink as the page's text."""
    text = re.sub(
        r' (?:aria-[a-z]+|role|class|pointer-events|stroke-miterlimit|style|xmlns:\w+)="[^"]*"', "", tag.group()
    )
    text = re.sub(r"-?\d+\.\d{3,}", lambda number: f"{float(number.group()):.2f}".rstrip("0").rstrip("."), text)
    return text.replace(INK, "currentColor")


def vega_begun() -> bool:
    """Return whether Vega was used in this process, or in one that it was forked from: its threads do not live on."""
    return _begun is not None


def _vega() -> ModuleType:
    global _begun
    _begun = _begun or os.getpid()
    assert _begun == os.getpid(), "Vega waits for ever in a process that was forked from one where it began"
    return vl_convert


def picture(svg: str) -> bytes:
    """Return a drawing as PNG."""
    drawn: bytes = _vega().svg_to_png(svg)
    return drawn


def bundle() -> str:
    """Return the script that draws specifications, as vl-convert carries it: Vega and Vega-Lite (BSD-3-Clause)."""
    body: str = _vega().javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return f"{bundle_head()}\n(() => {{{body}}})();\n"


def bundle_head() -> str:
    """Return the first line of the bundle, which tells one version from another."""
    vega, embed, by = vl_convert.get_vega_version(), vl_convert.get_vega_embed_version(), version("vl-convert-python")
    licence = "BSD-3-Clause, University of Washington Interactive Data Lab"
    return f"/* Vega {vega}, Vega-Embed {embed} and Vega-Lite, {licence}; bundled by vl-convert {by} */"
