"""Entries by modes as text: tables to read; CSV and JSON in full precision."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from tabulate import tabulate

from bench.errors import BenchError, did_you_mean
from bench.score.degradation import Estimate
from bench.score.efficiency import Efficiency
from bench.score.measured import Measures
from bench.score.modes import Lost, ModeRow, ModeTable
from bench.score.table import FORMATS
from bench.score.wording import bounded, levelled
from bench.score.worth import Worth
from bench.task import rung_name

COLUMNS = (
    "entry", "rung", "seeds", "bf16", "in mode", "degradation", "beyond the reference, at equal loss",
    "at equal budget", "speedup in mode", "rank", "tie", "failed", "notes",
)  # fmt: skip
LINKS = ("mode", "rung", "side", "measure", "entries", "rank correlation with degradation")
CROSSED = (
    "loss", "mode", "entry", "rung", "at tokens", "bf16", "degradation", "beyond the reference", "seeds",
)  # fmt: skip
WORTH = ("entry", "mode", "of each size", "of all", "span")
LEGEND = (
    "nats per token; degradation is loss in the mode less loss in bf16; 95% intervals stand in brackets, of seeds and "
    "not of tuning, * marks one that leaves 0 out; ranks are in bf16 -> in the mode, and in it entries that share a "
    "letter are tied"
)


def render_modes(table: ModeTable, format: str = "plain", worth: Sequence[Worth] = ()) -> str:
    """Return the table in one of the formats of a board, with what parameters are worth where three sizes tell it."""
    if format not in FORMATS:
        raise BenchError(f"no table format {format}{did_you_mean(format, FORMATS)}", f"known: {', '.join(FORMATS)}")
    if format == "json":
        return json.dumps(mode_facts(table, worth), indent=1, allow_nan=False) + "\n"
    if format == "csv":
        return modes_csv(table)
    blocks = [
        _prose(f"{table.task}, track {table.track}: entries by modes, against {table.reference}. {LEGEND}.", format)
    ]
    for mode in table.modes:
        lines = [_line(row) for row in table.rows.get(mode, ())]
        lines += [_lost_line(one) for one in table.lost if one.mode == mode]
        blocks += [_prose(f"{mode}:", format), _grid(lines, COLUMNS, format)]
    if table.crossed:
        lines = [[f"{one.threshold:g}", one.mode, one.entry, rung_name(one.budget), f"{one.tokens:,.0f}",
                  f"{one.float_loss:.4f}", f"{one.degradation:.4f}", _estimate(one.beyond), str(one.seeds)]
                 for one in table.crossed]  # fmt: skip
        title = "at common losses, from the middle of schedules, which degrade unlike their ends:"
        blocks += [_prose(title, format), _grid(lines, CROSSED, format)]
    if table.links:
        told = [one for one in table.links if one.sure]
        lines = [[one.mode, rung_name(one.budget), one.side, one.measure.replace("_", " "), str(one.entries),
                  _estimate(Estimate(one.value, one.low, one.high), 2)] for one in told]  # fmt: skip
        title = (
            f"the logits' error and outliers against degradation, across entries: of {len(table.links)} rank "
            f"correlations {len(told)} are told from 0, where chance alone tells one in twenty; --format json has all"
        )
        blocks += [_prose(title + (":" if told else ""), format)] + [_grid(lines, LINKS, format)] * bool(told)
    if worth:
        lines = [[one.entry, one.mode, _shares(one), *_joint(one.efficiency)] for one in worth]
        title = "the share of its parameters that a rounded model is worth, of each size, and fitted to all:"
        blocks += [_prose(title, format), _grid(lines, WORTH, format)]
    blocks += [_prose(f"note: {note}", format) for note in table.notes]
    return "\n\n".join(blocks) + "\n"


def _line(row: ModeRow) -> list[str]:
    cell, compared, speedup = row.cell, row.compared, row.speedup
    shown = ""
    if speedup is not None:
        sign = "" if speedup.bound == "=" else f"{speedup.bound} "
        shown = f"{sign}{bounded(speedup.figure, speedup.bound)}x"
        shown += "" if speedup.no_interval else f" {levelled(speedup)}"
    return [
        cell.entry, rung_name(cell.budget), str(len(cell.seeds)), f"{cell.float_loss:.4f}", f"{cell.loss:.4f}",
        _estimate(compared.degradation), _estimate(compared.at_equal_loss), _estimate(compared.at_equal_budget),
        shown, "" if row.rank is None else f"{row.float_rank} -> {row.rank}", "".join(row.letters),
        str(cell.failed or ""), ", ".join(row.caveats),
    ]  # fmt: skip


def _lost_line(one: Lost) -> list[str]:
    return [one.entry, rung_name(one.budget), "0", *[""] * (len(COLUMNS) - 5), one.why, ""]


def _shares(worth: Worth) -> str:
    pairs = zip(worth.sizes, worth.efficiency.pairs, strict=True)
    return ", ".join(f"{task} {'none' if share is None else f'{share:.3f}'}" for task, share in pairs)


def _joint(found: Efficiency) -> tuple[str, str]:
    if found.rho is None:
        return "", ""
    return f"{found.rho:.3f}", "" if found.low is None else f"[{found.low:.3f}, {found.high:.3f}]"


def _estimate(found: Estimate | None, digits: int = 4) -> str:
    if found is None:
        return ""
    value = f"{found.value:+.{digits}f}"
    if found.low is None or found.high is None:
        return value
    return f"{value} [{found.low:+.{digits}f}, {found.high:+.{digits}f}]{'*' * found.sure}"


def mode_facts(table: ModeTable, worth: Sequence[Worth] = ()) -> dict[str, Any]:
    """Return the table as JSON values: full precision, missing is null."""
    return {
        "task": table.task,
        "track": table.track,
        "reference": table.reference,
        "modes": {mode: [_facts(row) for row in rows] for mode, rows in table.rows.items()},
        "failed": [asdict(one) for one in table.lost],
        "common_losses": [asdict(one) for one in table.crossed],
        "outliers": [asdict(one) for one in table.links],
        "measures": [_measured(one) for one in table.measures],
        "efficiencies": [asdict(one) for one in worth],
        "notes": list(table.notes),
    }


def _measured(one: Measures) -> dict[str, Any]:
    sides: dict[str, dict[str, float]] = {}
    for (side, measure), value in one.values.items():
        sides.setdefault(side, {})[measure] = value
    return {"entry": one.entry, "mode": one.mode, "budget": one.budget, "degradation": one.degradation, **sides}


def _facts(row: ModeRow) -> dict[str, Any]:
    cell, compared = row.cell, row.compared
    return {
        "entry": cell.entry,
        "budget": cell.budget,
        "seeds": list(cell.seeds),
        "bf16_losses": list(cell.floats),
        "losses": list(cell.losses),
        "failed": cell.failed,
        "degradation": asdict(compared.degradation),
        "at_equal_loss": compared.at_equal_loss and asdict(compared.at_equal_loss),
        "at_equal_budget": compared.at_equal_budget and asdict(compared.at_equal_budget),
        "speedup": row.speedup and asdict(row.speedup),
        "rank": row.rank,
        "bf16_rank": row.float_rank,
        "letters": list(row.letters),
        "caveats": list(row.caveats),
    }


def modes_csv(table: ModeTable) -> str:
    """Return one line per mode, entry and rung."""
    estimates = ("degradation", "at_equal_loss", "at_equal_budget")
    names = ["task", "track", "mode", "entry", "budget", "seeds", "bf16_loss", "loss", "failed"]
    names += [f"{name}{end}" for name in estimates for end in ("", "_low", "_high")]
    of_speedup = ("value", "bound", "limit", "low", "high")  # with no value, the limit is a bound
    names += ["speedup", *(f"speedup_{name}" for name in of_speedup[1:]), "bf16_rank", "rank", "letters", "caveats"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for mode, rows in table.rows.items():
        for row in rows:
            cell, compared, speedup = row.cell, row.compared, row.speedup
            line: list[Any] = [table.task, table.track, mode, cell.entry, cell.budget, len(cell.seeds), cell.float_loss,
                               cell.loss, cell.failed]  # fmt: skip
            for name in estimates:
                found: Estimate | None = getattr(compared, name)
                line += [None] * 3 if found is None else [found.value, found.low, found.high]
            line += [speedup and getattr(speedup, name) for name in of_speedup]
            writer.writerow([*line, row.float_rank, row.rank, " ".join(row.letters), ", ".join(row.caveats)])
    for one in table.lost:
        line = [table.task, table.track, one.mode, one.entry, one.budget, 0, None, None, one.failed]
        writer.writerow([*line, *[None] * (len(names) - len(line))])
    return text.getvalue()


def _grid(lines: Sequence[list[str]], names: tuple[str, ...], format: str) -> str:
    """Return the table without the columns that are empty throughout."""
    kept = [i for i in range(len(names)) if any(line[i] for line in lines)]
    left = ("entry", "mode", "side", "measure", "notes")
    align = ["left" if names[i] in left else "right" for i in kept]
    rows = [[line[i] for i in kept] for line in lines]
    return str(tabulate(rows, [names[i] for i in kept], tablefmt=format, disable_numparse=True, colalign=align))


def _prose(line: str, format: str) -> str:
    return f"% {line}" if format == "latex" else line
