"""Where a clone keeps what it makes: runs/ is the user's own and never committed; leaderboard/ is published."""

import os
from pathlib import Path

from bench.errors import BenchError

RUNS = Path("runs")
PUBLISHED = Path("leaderboard")
SOURCES = Path(__file__).parents[1] / "leaderboard"  # templates and styles, from whichever folder bench is called


def data_folder() -> Path:
    """Return the folder of prepared token shards: BENCH_DATA, or runs/data."""
    return Path(os.environ.get("BENCH_DATA", RUNS / "data"))


def check_folder(folder: Path) -> None:
    """Refuse a place for files, before anything is made for it, that is no folder or not to be written to."""
    here = folder.absolute()
    while not here.exists():
        here = here.parent
    where = folder if here == folder.absolute() else f"{folder}: {here}"
    if not here.is_dir():
        raise BenchError(f"{where}: is a file, expected a folder")
    if not os.access(here, os.W_OK):
        raise BenchError(f"{where}: cannot be written to", "name another folder, or have its rights changed")


def check_writable(record: Path) -> None:
    """Refuse to measure what could not be kept."""
    if not os.access(record.parent, os.W_OK):
        raise BenchError(
            f"{record.parent}: may not be written, and what is measured lies beside its record",
            "copy the record and its log into a folder that may be",
        )
