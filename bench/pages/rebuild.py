"""Releases from the material of pages: made once, and made again to see that every byte is the same."""

from collections.abc import Sequence
from pathlib import Path

from bench.errors import BenchError
from bench.pages.build import make_boards
from bench.pages.views import Material
from bench.release import Boards, Ground, at_release, differences, files_of, make_release, read_release


def release_boards(material: Material) -> Boards:
    return {
        f"{board.task}-{board.mode}-{board.track}": (board, searches)
        for board in material.boards
        for searches in [material.searches.get((board.task, board.mode, board.track), [])]
    }


def release(version: str, why: Sequence[str], material: Material, folder: Path) -> Path:
    """Write a release of all boards below the folder and return where; none where a placebo differs from its twin."""
    if material.failing:
        raise BenchError(
            f"no release {version}: {'; '.join(material.failing)}",
            "tuning moves a result by more than the intervals hold: make further placebos or look for what differs",
        )
    boards = release_boards(material)
    return make_release(version, why, folder, ground_of(material), boards)


def ground_of(material: Material) -> Ground:
    return Ground(material.records, material.studies, material.timings, material.tasks)


def unlike(version: str, material: Material, folder: Path) -> list[str]:
    """Return how a release differs from what its records and ledgers give now; what came after it is left out."""
    known = read_release(folder / version)
    then = at_release(known, ground_of(material))
    boards, searches, _ = make_boards(then.records, material.logs, then.tasks, then.studies, then.timings)
    named = {
        f"{board.task}-{board.mode}-{board.track}": (board, searches[board.task, board.mode, board.track])
        for board in boards
    }
    made = files_of(version, known.before, known.why, folder, then, named)
    return differences(known, folder / version, made)
