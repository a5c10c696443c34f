"""Where the error of a rounded model comes from: what each module passes on and adds, as bench.diagnose has it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from bench.diagnosis import Diagnosed, check_diagnosis, diagnosis_path
from bench.mode import FLOAT, mode_names, read_mode
from bench.pages.plot import Axis, Series, legend, plot
from bench.pages.views import Material
from bench.record import Record
from bench.score.measured import mean_of_known

QUANTITIES = ("R", "A", "B", "C", "gain", "spectral", "alignment")  # columns of the table behind
BLOCK_TICKS = 8  # at most


@dataclass(frozen=True)
class PartLine:
    """Means over the blocks of one kind of module; None where it has no such figure."""

    part: str
    means: tuple[float | None, ...]  # in the order of QUANTITIES


@dataclass(frozen=True)
class ModeError:
    mode: str
    errors: Markup  # R, A and B over modules
    gains: Markup
    lines: tuple[PartLine, ...]


@dataclass(frozen=True)
class ErrorView:
    """One run's finished weights in every mode that they were measured in."""

    task: str
    run: Record
    tokens: int  # looked at
    modes: tuple[ModeError, ...]


def error_views(material: Material, runs: Sequence[Record]) -> list[ErrorView]:
    """Return for each task what was diagnosed of one run: at the lowest ranked rung, a tuned one where there is one.

    runs are an entry's. Modes that were measured by other code than there is now are left out.
    """
    chosen: dict[str, Record] = {}
    for run in sorted(runs, key=lambda run: (run.inputs.track != "tuned", run.inputs.track, run.inputs.seed)):
        task, path = material.tasks.get(run.task), material.paths.get(run.run_id)
        if (
            task and path and run.inputs.task_digest == task.digest and run.inputs.mode == FLOAT
            and run.inputs.budget == task.budget.compared[0] and run.run_id in material.quantized
            and diagnosis_path(path).exists()
        ):  # fmt: skip
            chosen.setdefault(run.task, run)
    current = {name: read_mode(name).digest for name in mode_names()} if chosen else {}
    found = []
    for task_name, run in sorted(chosen.items()):
        child = material.quantized[run.run_id]
        diagnosed = check_diagnosis(child, diagnosis_path(material.paths[run.run_id])).modes
        kept = {name: diagnosed[name] for name, one in child.modes.items() if one.mode_digest == current.get(name)}
        if kept:
            modes = tuple(_mode_error(task_name, name, one) for name, one in sorted(kept.items()))
            found.append(ErrorView(task_name, run, max(one.tokens for one in kept.values()), modes))
    return found


def _mode_error(task: str, mode: str, diagnosed: Diagnosed) -> ModeError:
    modules = [str(name) for name in diagnosed.propagation["module"]]
    columns = {name: [_number(value) for value in diagnosed.propagation[name]] for name in QUANTITIES}
    last = columns["R"][-1]
    said = f"The network's is {last:.3g}." if last is not None else "The network's is no number."
    x = Axis("modules, in order of execution", ticks=_blocks(modules))
    errors = [
        Series("R, all of it", _above_zero(columns["R"])),
        Series("A, of the changed input", _above_zero(columns["A"]), "dashed", 1),
        Series("B, of the changed function", _above_zero(columns["B"]), "line", 2),
    ]
    gains = [
        Series("gain", _above_zero(columns["gain"])),
        Series("its spectral factor", _above_zero(columns["spectral"]), "dashed", 1),
        Series("its alignment factor", _above_zero(columns["alignment"]), "line", 2),
    ]
    drawn = []
    for title, lines in (("Relative squared error", errors), ("Gain of the error", gains)):
        number = f"{title.split()[0].lower()}-{task}-{mode}"
        chart = plot(f"{title} by module in {mode} on {task}", said, x, Axis(title.lower(), log=True), lines, number)
        drawn.append(chart + legend(lines) if chart else Markup())
    return ModeError(mode, drawn[0], drawn[1], _parts(modules, columns))


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _above_zero(values: Sequence[float | None]) -> list[tuple[float, float | None]]:
    return [(float(i), value if value is not None and value > 0 else None) for i, value in enumerate(values)]


def _blocks(modules: Sequence[str]) -> tuple[tuple[float, str], ...]:
    """Return where blocks begin, every so many of them, and the head."""
    first: dict[str, int] = {}
    for i, name in enumerate(modules):
        block = name.partition(".")[0]
        if block.isdigit():
            first.setdefault(block, i)
    every = max(1, -(-len(first) // BLOCK_TICKS))
    ticks = [(float(i), f"block {block}") for block, i in first.items() if int(block) % every == 0]
    return (*ticks, (float(len(modules) - 1), "head"))


def _parts(modules: Sequence[str], columns: Mapping[str, Sequence[float | None]]) -> tuple[PartLine, ...]:
    """Return means by the module's name inside its block, in order of execution."""
    places: dict[str, list[int]] = {}
    for i, name in enumerate(modules):
        block, _, part = name.partition(".")
        places.setdefault(part if block.isdigit() else name, []).append(i)
    return tuple(
        PartLine(part, tuple(mean_of_known([columns[name][i] for i in here]) for name in QUANTITIES))
        for part, here in places.items()
    )
