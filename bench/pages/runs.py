"""The page of a run: its facts, what happened on the way, what the record proves, and how to make it again."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from markupsafe import Markup

from bench.children import AfterTraining
from bench.pages.plot import Axis, Series, legend, plot
from bench.pages.shell import Page
from bench.pages.views import Material, RunView, run_view
from bench.pages.words import loss
from bench.record import Log, Record
from bench.score.measured import mean_of_known

DRAWN = 120  # points of a per-step curve, some three pixels apart; each is the mean of its neighbours
WINDOWS = 10  # rows of the table behind the curves, and points of the clip rate


@dataclass(frozen=True)
class Window:
    """A stretch of steps: means over those that the log holds; None where none is a number."""

    first: int  # step, from 1
    last: int
    tokens: int  # at its end
    loss: float | None
    gradient_norm: float | None  # before clipping
    clipped: float | None  # share of steps; None where nothing is clipped
    update_rms: dict[str, float]  # by role, mean over the milestones in it


@dataclass(frozen=True)
class Figure:
    """A chart with its caption and the names of what is drawn."""

    caption: str
    chart: Markup


@dataclass(frozen=True)
class Course:
    """What happened on the way."""

    figures: tuple[Figure, ...]
    windows: tuple[Window, ...]
    roles: tuple[str, ...]


@dataclass(frozen=True)
class Rounded:
    """One side of a mode that rounds, as the record proves it."""

    what: str
    bits: int
    levels: str
    clipped: float
    masked: float


def run_pages(material: Material) -> Iterator[Page]:
    for record in material.records:
        yield Page(f"runs/{record.run_id}.html", "run.html", make_facts=partial(_facts, record, material), quick=True)


def _facts(record: Record, material: Material) -> dict[str, Any]:
    view = run_view(record, material)
    course = course_of(record, view.log) if view.log else None
    return {
        "view": view, "course": course, "rounded": rounded(record), "after": after_training(view, material),
        "spoilt": spoilt_modes(view, material),
    }  # fmt: skip


def course_of(record: Record, log: Log) -> Course | None:
    """Return the curves and the table behind them; None where the log holds no step."""
    if not log.loss:
        return None
    windows = windows_of(record, log)
    roles = tuple(sorted({role for milestone in log.milestones for role in milestone.update_rms}))
    figures = (_loss(record, log), _norms(record, log), _updates(record, log, roles), _clipping(record, windows))
    return Course(tuple(figure for figure in figures if figure is not None), windows, roles)


def windows_of(record: Record, log: Log) -> tuple[Window, ...]:
    """Return the run in stretches of equal length, at most WINDOWS of them."""
    each = -(-len(log.loss) // WINDOWS)
    batch = record.tokens / max(1, record.steps)
    found = []
    for start in range(0, len(log.loss), each):
        first, last = start * log.stride, min((start + each) * log.stride, record.steps)
        inside = [m.update_rms for m in log.milestones if first < m.step <= last and m.update_rms]
        rms = {str(role): sum(one[role] for one in inside) / len(inside) for role in (inside[0] if inside else ())}
        norms = log.gradient_norm[start : start + each]
        found.append(
            Window(
                first=first + 1,
                last=last,
                tokens=round(last * batch),
                loss=mean_of_known(log.loss[start : start + each]),
                gradient_norm=mean_of_known(norms),
                clipped=_share_above(norms, record.facts.clip),
                update_rms=rms,
            )
        )
    return tuple(found)


def _share_above(norms: Sequence[float | None], clip: float | None) -> float | None:
    there = [norm for norm in norms if norm is not None]
    return None if clip is None or not there else sum(norm > clip for norm in there) / len(there)


def thinned(column: Sequence[float | None], tokens_each: float) -> list[tuple[float, float | None]]:
    """Return (tokens, mean) of at most DRAWN stretches of a column, each at its middle; a loss is before its step."""
    each = -(-len(column) // DRAWN)
    return [
        ((start + (min(each, len(column) - start) - 1) / 2) * tokens_each, mean_of_known(column[start : start + each]))
        for start in range(0, len(column), each)
    ]


def _each(record: Record, log: Log) -> float:
    return log.stride * record.tokens / max(1, record.steps)


def _loss(record: Record, log: Log) -> Figure:
    training = thinned(log.loss, _each(record, log))
    validation = [(point.tokens, point.loss) for point in log.curve]
    drawn = [Series("training", training, "thin"), Series("validation, selecting half", validation, "line", 0, True)]
    told = f"The scoring loss at the end is {loss(record.score_loss)} nats."
    chart = plot("Loss over training tokens", told, TOKENS, Axis("loss (nats per token)"), drawn, "loss")
    return Figure("Loss. Curves are for looking at; only the final scoring loss counts.", chart + legend(drawn))


TOKENS = Axis("training tokens", zero=True)


def _norms(record: Record, log: Log) -> Figure | None:
    norms = [(at, norm if norm else None) for at, norm in thinned(log.gradient_norm, _each(record, log))]
    if not any(norm for _, norm in norms):
        return None
    clip = record.facts.clip
    drawn = [Series("gradient norm", norms, "thin")]
    if clip is not None:
        drawn.append(Series(f"clipped above {clip:g}", [(0, clip), (record.tokens, clip)], "dashed", 1))
    top = max(norm for _, norm in norms if norm)
    chart = plot("Gradient norm over training tokens", f"Before clipping; at most {top:.3g} in a stretch.", TOKENS,
                 Axis("global norm", log=True), drawn, "norm")  # fmt: skip
    return Figure("Gradient norm before clipping, over all parameters.", chart + legend(drawn))


def _updates(record: Record, log: Log, roles: Sequence[str]) -> Figure | None:
    batch = record.tokens / max(1, record.steps)
    drawn = [
        Series(role, [(m.step * batch, m.update_rms[role] or None) for m in log.milestones if role in m.update_rms],
               "line", number)
        for number, role in enumerate(roles)
    ]  # fmt: skip
    if not any(value for series in drawn for _, value in series.points):
        return None
    chart = plot("Root mean square of a step’s change, by role", "One line for each role of parameters.", TOKENS,
                 Axis("update RMS", log=True), drawn, "update")  # fmt: skip
    return Figure("Update RMS: root mean square of one step’s change, by role.", chart + legend(drawn))


def _clipping(record: Record, windows: Sequence[Window]) -> Figure | None:
    points = [(window.tokens, window.clipped) for window in windows]
    if all(share is None for _, share in points):
        return None
    percent = [(at, None if share is None else 100 * share) for at, share in points]
    drawn = [Series("clipped steps", percent, "line", 1, dots=True)]
    told = f"{100 * (record.facts.clip_rate or 0.0):.1f}% over the whole run."
    chart = plot("Share of clipped steps", told, TOKENS, Axis("clipped steps (%)", zero=True), drawn, "clip")
    return Figure("Clip rate: share of steps whose gradient was scaled down.", chart + legend(drawn))


def rounded(record: Record) -> tuple[Rounded, ...]:
    """Return what a mode that rounds did to each side."""
    facts = record.facts.quantization
    if facts is None:
        return ()
    sides = {"weights": facts.weights, "activations": facts.activations}
    return tuple(
        Rounded(name, side.bits, " to ".join(sorted({str(level) for level in side.levels}, key=int)), side.clipped,
                side.masked)
        for name, side in sides.items()
        if side is not None
    )  # fmt: skip


def spoilt_modes(view: RunView, material: Material) -> list[str]:
    """Return the modes that failed on the run's finished weights, and those with layers that fell back, in words."""
    child = material.quantized.get(view.record.run_id)
    return child.spoilt([*child.failed, *child.modes]) if child else []


def after_training(view: RunView, material: Material) -> list[tuple[str, AfterTraining]]:
    """Return what rounding did to the run's finished weights, by mode."""
    child = material.quantized.get(view.record.run_id)
    return sorted(child.modes.items()) if child else []
