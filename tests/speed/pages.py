"""Times the pages of 10,000 synthetic records of six tasks, in memory: python tests/speed/pages.py [count]

Boards are what scoring takes, pages what `bench site` adds to it; reading records and writing files is left out.
The limit is for an idle machine of two cores, of wall time, since pages are made on every core; beside it stands the
processors' time, which says more on a busy machine.
"""

import os
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from synthetic import many  # noqa: E402

from bench.pages.build import pages, read_sources  # noqa: E402
from bench.pages.drawing import unchecked  # noqa: E402
from bench.score.boards import make_boards  # noqa: E402

BUDGETS = (0.25, 0.5, 1.0, 2.0, 4.0)
SEEDS, TASKS = 3, 6
LIMIT = 10.0  # seconds a 10,000 records


def main(count: int) -> bool:
    entries = -(-count // (TASKS * len(BUDGETS) * SEEDS)) - 1  # and the reference
    material = many(count, entries, BUDGETS, SEEDS)
    records, tasks = len(material.records), len(material.tasks)
    nothing: dict[str, list] = {name: [] for name in material.tasks}
    start = time.perf_counter()
    make_boards(material.records, material.logs, material.tasks, nothing, nothing)
    scored, before = time.perf_counter(), os.times()
    with unchecked():
        site = pages(material, read_sources(ROOT / "leaderboard"))
    done, after = time.perf_counter(), os.times()
    spent = sum(after[:4]) - sum(before[:4])  # of this process and of those that it forked
    size = sum(len(text) for text in site.values()) / 2**20
    print(f"{records:,} records of {tasks} tasks, {entries + 1} entries each: boards {scored - start:.1f} s,")
    print(f"{len(site):,} files of {size:.0f} MiB in {done - scored:.1f} s (limit {LIMIT:g} s for 10,000 records),")
    print(f"{spent:.1f} s of processors' time")
    return done - scored <= LIMIT


if __name__ == "__main__":
    sys.exit(not main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000))
