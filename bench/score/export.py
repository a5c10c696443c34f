"""A board for machines: JSON values and CSV, in full precision; what is missing is null or an empty field."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from bench.score.board import Board, Row, Rung
from bench.score.cost import Beside
from bench.score.rows import Standing
from bench.score.search import Search
from bench.score.wording import notes, read_beyond_one_pass, sentence
from bench.task import Task


def board_facts(board: Board, task: Task, searches: Sequence[Search] = ()) -> dict[str, Any]:
    """Return the board as JSON values: full precision, missing is null."""
    fit = board.fit and {"a": board.fit.a, "B": board.fit.B, "b": board.fit.b, "unit_tokens": board.fit.unit}
    return {
        "task": board.task,
        "task_digest": task.digest,
        "mode": board.mode,
        "track": board.track,
        "reference": board.reference.entry,
        "reference_track": board.reference_track,
        "machine_kinds": list(board.machine_kinds),
        "noise": board.noise,
        "degrees_of_freedom": board.degrees_of_freedom,
        "tau": board.tau,
        "tau_degrees_of_freedom": board.tau_df,
        "not_ranked": board.not_ranked,
        "headline_budget": board.headline_budget,
        "failing": list(board.failing),
        "fit": fit,
        "no_interval": board.no_interval,
        "no_speedup": board.no_speedup,
        "notes": notes(board),
        "tuning": [asdict(search) for search in searches],
        "ladder": [_rung_facts(rung, board) for rung in board.reference.rungs],
        "rows": [
            {
                "entry": row.entry,
                "sentence": sentence(board, row, task, searches),
                "placebo_of": row.placebo_of,
                "control": row.control,
                "of_equal_size": row.of_equal_size,
                "seed_correlation": row.correlation and asdict(row.correlation),
                "rungs": [
                    {
                        **_rung_facts(rung, board),
                        **_speedup_facts(row, rung, board),
                        "size": row.sizes.get(rung.budget),
                        "standing": _facts_at(row.standings, rung.budget),
                        "beside": _facts_at(row.beside, rung.budget),
                    }
                    for rung in row.rungs
                ],
            }
            for row in board.rows
        ],
    }


def _rung_facts(rung: Rung, board: Board) -> dict[str, Any]:
    return {
        "budget": rung.budget,
        "tokens": rung.tokens,
        "charged_tokens": rung.charged_tokens if rung.losses else None,
        "mean_loss": rung.mean,
        "deviation": rung.deviation,
        "seeds": list(rung.seeds),
        "losses": list(rung.losses),
        "run_ids": list(rung.run_ids),
        "failures": [
            {"seed": seed, "outcome": outcome, "run_id": run_id, "cause": cause}
            for (seed, outcome, run_id), cause in zip(rung.failures, rung.causes, strict=True)
        ],
        "multi_epoch": rung.budget in board.multi_epoch,
        "unstable": rung.budget in board.unstable,
    }


def _speedup_facts(row: Row, rung: Rung, board: Board) -> dict[str, Any]:
    found = row.speedups.get(rung.budget)
    if found is None:
        return {"speedup": None}
    names = (
        "value",
        "bound",
        "limit",
        "low",
        "high",
        "level",
        "fit",
        "interpolation_error",
        "reference_tokens",
        "margin",
        "p_value",
        "p_holm",
        "no_interval",
        "beats_reference",
        "beats_reference_on_the_whole_board",
    )
    read = {"read_multi_epoch": read_beyond_one_pass(rung, found, board)}
    return {"speedup": {name: getattr(found, name) for name in names} | read}


def csv_text(board: Board) -> str:
    """Return one line per entry and rung, the reference's first; an empty field is a missing value."""
    lines = []
    for row in (board.reference, *board.rows):
        for rung in row.rungs:
            facts = {
                **_rung_facts(rung, board),
                **(_speedup_facts(row, rung, board)["speedup"] or {}),
            }
            lines.append(
                {
                    "task": board.task,
                    "mode": board.mode,
                    "track": board.track,
                    "entry": row.entry,
                    "is_reference": row is board.reference,
                    "placebo_of": row.placebo_of,
                    "control": row.control,
                    "size": row.sizes.get(rung.budget),
                    **(_facts_at(row.standings, rung.budget) or {}),
                    **(_facts_at(row.beside, rung.budget) or {}),
                    **facts,
                    "speedup": facts.get("value"),
                    "seeds": len(rung.seeds),
                    "failures": len(rung.failures),
                }
            )
    names = (
        "task",
        "mode",
        "track",
        "entry",
        "is_reference",
        "budget",
        "tokens",
        "charged_tokens",
        "seeds",
        "failures",
        "mean_loss",
        "deviation",
        "speedup",
        "bound",
        "limit",
        "low",
        "high",
        "fit",
        "reference_tokens",
        "margin",
        "p_value",
        "p_holm",
        "beats_reference",
        "multi_epoch",
        "read_multi_epoch",
        "unstable",
        "level",
        "placebo_of",
        "control",
        "size",
        "letters",
        "first",
        "text_error",
        "dominated_by",
        "on_curve",
        "time",
        "step",
        "memory",
        "tuning_inclusive",
    )
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _plain(line.get(name)) for name in names} for line in lines)
    return text.getvalue()


def _facts_at(found: Mapping[float, Standing] | Mapping[float, Beside], budget: float) -> dict[str, Any] | None:
    there = found.get(budget)
    return None if there is None else asdict(there)


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return " ".join(value)
    return str(value).lower() if isinstance(value, bool) else value
