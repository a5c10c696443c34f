"""Numbers as the pages write them. What is missing is a dash, never a zero."""

import re

from bench.score.board import Rung
from bench.score.cost import Beside
from bench.score.search import Extent
from bench.score.speedup import Speedup
from bench.score.wording import bounded, levelled

MISSING = "–"
FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffe\uffff]")
ARXIV = re.compile(r"(?:arXiv[: ])?(\d{4}\.\d{4,5})(?:v\d+)?", re.IGNORECASE)
DOI = re.compile(r"\bdoi:(10\.\d{4,9}/\S+)$", re.IGNORECASE)


def legible(text: str) -> str:
    """Return a text with a replacement character for each that no feed (XML 1.0, 2.2) and no page (HTML) may hold.

    A record's texts are anybody's, a cause with a terminal's colour codes for one; halves of surrogate pairs, which no
    file can hold, are refused where records are read.
    """
    return FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)


def loss(nats: float | None) -> str:
    return MISSING if nats is None else f"{nats:.4f}"


def signed(value: float | None, digits: int = 4) -> str:
    """Return a difference or a correlation with its sign."""
    if value is None:
        return MISSING
    text = f"{abs(value):.{digits}f}"
    return text if not text.strip("0.") else ("−" if value < 0 else "+") + text


def count(number: float | None) -> str:
    """Return a whole number in full, so that a reader can divide it."""
    return MISSING if number is None else f"{number:,.0f}"


def short(number: float | None) -> str:
    if number is None:
        return MISSING
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"


def plain(value: object) -> str:
    """Return a hyperparameter or a fact as text."""
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def times(figure: float | None) -> str:
    return MISSING if figure is None else f"{figure:.2f}×"


def speedup(found: Speedup | None) -> str:
    """Return 1.35×, or the bound ≥ 2.00× where the loss lies off the reference's ladder."""
    return MISSING if found is None else beside(found.figure, found)


def beside(figure: float | None, found: Speedup | None) -> str:
    """Return a figure that was worked out from a speedup: a bound where that is one, and rounded so that it is true."""
    if figure is None or found is None:
        return MISSING
    return {"=": "", ">=": "≥ ", "<=": "≤ "}[found.bound] + f"{bounded(figure, found.bound)}×"


def indicative(said: str, found: Beside) -> str:
    """Return a figure of time, marked where entry and reference were not timed in turns."""
    return said if found.timed or said == MISSING else f"≈ {said}"


def interval(found: Speedup | None) -> str:
    """Return 1.28 to 1.43; an end off the ladder is open, and a level other than 95% is said."""
    return MISSING if found is None or found.no_interval is not None else levelled(found)


def seconds(number: float | None) -> str:
    if number is None:
        return MISSING
    if number < 1:
        return f"{1000 * number:.3g} ms"
    return f"{number:.1f} s" if number < 600 else f"{number / 60:.1f} min"


def size(number: int | None) -> str:
    return MISSING if number is None else f"{number / 2**20:,.1f} MiB"


def percent(share: float | None) -> str:
    return MISSING if share is None else f"{100 * share:.1f}%"


def failures(rungs: tuple[Rung, ...]) -> str:
    """Return '2 diverged, 1 timeout'; 'none' where every run finished."""
    outcomes = [outcome for rung in rungs for _, outcome, _ in rung.failures]
    return ", ".join(f"{outcomes.count(outcome)} {outcome}" for outcome in sorted(set(outcomes))) or "none"


def paper_link(paper: str) -> str | None:
    """Return where a paper is read, if the text is an arXiv id, ends in a DOI, or is a web address; None otherwise."""
    arxiv, doi = ARXIV.fullmatch(paper.strip()), DOI.search(paper.strip())
    if arxiv:
        return f"https://arxiv.org/abs/{arxiv.group(1)}"
    if doi:
        return f"https://doi.org/{doi.group(1)}"
    return paper if re.fullmatch(r"https?://[^\s\"'<>]+", paper) else None


def extent(found: Extent | None, unit: str, digits: int) -> str:
    """Return '2.5 octaves', or '≥ 2.5 octaves' where the sweep ends before it does."""
    return MISSING if found is None else f"{'≥ ' * found.open}{found.value:.{digits}f} {unit}"
