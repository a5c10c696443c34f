"""Where a clone keeps what it makes: runs/ is the user's own and never committed; leaderboard/ is published."""

import os
from pathlib import Path

RUNS = Path("runs")
PUBLISHED = Path("leaderboard")
SOURCES = Path(__file__).parents[1] / "leaderboard"  # templates and styles, from whichever folder bench is called


def data_folder() -> Path:
    """Return the folder of prepared token shards: BENCH_DATA, or runs/data."""
    return Path(os.environ.get("BENCH_DATA", RUNS / "data"))
