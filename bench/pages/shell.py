"""The frame that all pages share: which pages there are, what leads to them, and the words their templates may use."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined

from bench.errors import BenchError
from bench.pages import marks, words
from bench.pages.drawing import vega_begun
from bench.pages.spread import spread
from bench.pages.views import SCOPES, TRACKS, Material
from bench.task import rung_name

NAVIGATION = (
    ("Board", "index.html"),
    ("Tasks", "tasks/index.html"),
    ("Entries", "entries/index.html"),
    ("Compare", "compare.html"),
    ("Pareto", "pareto.html"),
    ("Quantization", "quantization.html"),
    ("Scale", "scale.html"),
    ("Failures", "failures.html"),
    ("Method", "method.html"),
    ("Releases", "releases/index.html"),
)  # a page that was not made has no link


@dataclass(frozen=True)
class Sources:
    """The texts that give the pages their form."""

    templates: Mapping[str, str]
    static: Mapping[str, str]


@dataclass(frozen=True)
class Page:
    """One page to be made: where it lies, its template, and what that is given beside the material.

    Pages are made on every core: what takes long is no fact that is held but comes of make_facts, where the page is.
    """

    path: str
    template: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    make_facts: Callable[[], Mapping[str, Any]] | None = None
    beside: Callable[[Mapping[str, Any]], Mapping[str, str]] | None = None  # other files of the same facts, by path
    quick: bool = False  # one of thousands, made in a millisecond or two


def render(
    wanted: Sequence[Page],
    material: Material,
    sources: Sources,
    functions: Mapping[str, Any],
    address: str = "",
    repository: str = "",
) -> dict[str, str]:
    """Return every page by its path; functions are what templates may call beside the shell's own.

    address, repository: where the site is published, and where a clone is had, with a slash at the end; empty where
    that is not known.
    """
    env = _environment(sources)
    env.globals |= functions
    there = {page.path for page in wanted}
    navigation = [(title, path) for title, path in NAVIGATION if path in there]
    if len(there) < len(wanted):
        twice = next(path for path, times in Counter(page.path for page in wanted).items() if times > 1)
        raise BenchError(f"two pages would lie at {twice}")

    def made(page: Page) -> dict[str, str]:
        facts = page.make_facts() if page.make_facts else page.facts
        text = env.get_template(page.template).render(
            root="../" * page.path.count("/"), here=_section(page.path), path=page.path, navigation=navigation,
            pages=there, address=address, repository=repository, material=material, **facts,
        )  # fmt: skip
        return {page.path: words.legible(text), **(page.beside(facts) if page.beside else {})}

    ordered = sorted(wanted, key=lambda page: page.quick)
    slow = sum(not page.quick for page in wanted)
    found = map(made, ordered) if vega_begun() else spread(made, ordered, slow)
    return dict(chain.from_iterable(files.items() for files in found))


def _section(path: str) -> str:
    """Return the page of the navigation that a page belongs to: runs are entries' runs."""
    folder = path.rpartition("/")[0].replace("runs", "entries")
    there = {target for _, target in NAVIGATION}
    return next((page for page in (f"{folder}/index.html", f"{folder}.html") if page in there), path)


def _environment(sources: Sources) -> Environment:
    env = Environment(loader=DictLoader(dict(sources.templates)), autoescape=True, undefined=StrictUndefined,
                      trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)  # fmt: skip
    env.filters |= {
        "loss": words.loss, "count": words.count, "short": words.short, "plain": words.plain, "speedup": words.speedup,
        "beside": words.beside, "indicative": words.indicative,
        "interval": words.interval, "seconds": words.seconds, "size": words.size, "percent": words.percent,
        "failures": words.failures, "times": words.times, "paper_link": words.paper_link, "rung": rung_name,
        "bar": marks.bar, "bar_of": marks.bar_of,
    }  # fmt: skip
    env.globals |= {"TRACKS": TRACKS, "SCOPES": SCOPES, "MISSING": words.MISSING}
    return env
