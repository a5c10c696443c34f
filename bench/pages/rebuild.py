"""Releases from the material of pages: made once, and made again to see that every byte is the same."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bench.errors import BenchError
from bench.pages.views import Material
from bench.release import Ground, Kept, at_release, read_release
from bench.releasing import differences, files_of, make_release
from bench.score.boards import make_boards, rounded_tracks
from bench.score.modes import ModeTable
from bench.score.told import told_modes


def kept_of(material: Material) -> Kept:
    """Return what a release of this material keeps: declared values are in none (protocol B)."""
    boards = {
        f"{board.task}-{board.mode}-{board.track}": (board, searches)
        for board in material.boards
        if board.track != "declared"
        for searches in [material.searches.get((board.task, board.mode, board.track), [])]
    }
    rounded = rounded_tracks(material.rows, material.quantized, material.tasks)
    tables = {f"{task}-{track}": table for task, track in rounded
              if track != "declared" and (table := _table(material, task, track)) is not None}  # fmt: skip
    return Kept(boards, tables)


def _table(material: Material, task: str, track: str) -> ModeTable | None:
    rows, studies = material.rows[task], material.studies.get(task, [])
    try:
        return told_modes(rows, material.quantized, material.tasks[task], track, studies)
    except BenchError:  # none yet, as the page of modes says
        return None


def release(version: str, why: Sequence[str], findings: str | None, material: Material, folder: Path) -> Path:
    """Write a release of all boards and tables of modes below the folder and return where; none where a placebo
    differs from its twin."""
    if material.failing:
        raise BenchError(
            f"no release {version}: {'; '.join(material.failing)}",
            "tuning moves a result by more than the intervals hold: make further placebos or look for what differs",
        )
    return make_release(version, why, findings, folder, ground_of(material), kept_of(material))


def ground_of(material: Material) -> Ground:
    return Ground(material.records, material.studies, material.timings, material.tasks, material.quantized)


def unlike(version: str, material: Material, folder: Path) -> list[str]:
    """Return how a release differs from what its records and ledgers give now; what came after it is left out."""
    known = read_release(folder / version)
    then = at_release(known, ground_of(material))
    boards, searches, _ = make_boards(then.records, material.logs, then.tasks, then.studies, then.timings)
    old = replace(material, records=then.records, studies=then.studies, quantized=then.quantized, boards=boards,
                  searches=searches)  # fmt: skip
    made = files_of(version, known.before, known.why, known.findings, folder, then, kept_of(old))
    return differences(known, folder / version, made)
