"""The frame that all pages share: which pages there are, what leads to them, and the words their templates may use."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined

from bench.errors import BenchError
from bench.pages import marks, words
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

    Of pages that come by the thousand the facts are not held but made by a function, and they are rendered on every
    core; what they hold is drawn without Vega.
    """

    path: str
    template: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    make_facts: Callable[[], Mapping[str, Any]] | None = None


def render(
    wanted: Sequence[Page], material: Material, sources: Sources, functions: Mapping[str, Any], address: str = ""
) -> dict[str, str]:
    """Return every page by its path; functions are what templates may call beside the shell's own.

    address: where the site is published, with a slash at its end; empty where that is not known.
    """
    env = _environment(sources)
    env.globals |= functions
    there = {page.path for page in wanted}
    navigation = [(title, path) for title, path in NAVIGATION if path in there]
    if len(there) < len(wanted):
        twice = next(path for path, times in Counter(page.path for page in wanted).items() if times > 1)
        raise BenchError(f"two pages would lie at {twice}")

    def text_of(page: Page) -> str:
        facts = page.make_facts() if page.make_facts else page.facts
        return words.legible(env.get_template(page.template).render(
            root="../" * page.path.count("/"), here=_section(page.path), path=page.path, navigation=navigation,
            pages=there, address=address, material=material, **facts,
        ))  # fmt: skip

    many = [page for page in wanted if page.make_facts]
    texts = spread(text_of, many)
    found = {page.path: text_of(page) for page in wanted if not page.make_facts}
    return found | dict(zip((page.path for page in many), texts, strict=True))


def _section(path: str) -> str:
    """Return the page of the navigation that a page belongs to: runs are entries' runs."""
    folder = path.rpartition("/")[0].replace("runs", "entries")
    return f"{folder}/index.html" if folder else path


def _environment(sources: Sources) -> Environment:
    env = Environment(loader=DictLoader(dict(sources.templates)), autoescape=True, undefined=StrictUndefined,
                      trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)  # fmt: skip
    env.filters |= {
        "loss": words.loss, "count": words.count, "short": words.short, "plain": words.plain, "speedup": words.speedup,
        "beside": words.beside,
        "interval": words.interval, "seconds": words.seconds, "size": words.size, "percent": words.percent,
        "failures": words.failures, "times": words.times, "paper_link": words.paper_link, "rung": rung_name,
        "bar": marks.bar, "bar_of": marks.bar_of,
    }  # fmt: skip
    env.globals |= {"TRACKS": TRACKS, "SCOPES": SCOPES, "MISSING": words.MISSING}
    return env
