"""Times the index and the board over 10,000 synthetic records, cold and warm: python tests/speed/scoring.py [count]

Then a full board in memory, in a process of its own: 45 entries and 6 placebos on 5 rungs of 3 seeds, with all pairs,
tie groups and probabilities of being first; imports of scipy included, the making of the rows not.

Each time is of a whole process, imports included, as `bench score` would take. The limit is held against
processor seconds, which a busy machine does not stretch; on an idle one they are the wall's.
"""

import os
import runpy
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
WARM_LIMIT = 2.0  # seconds
SEEDS = 10
BUDGETS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
SCORE = """
import sys
from pathlib import Path
from bench.index import load_index
from bench.score.board import make_board
from bench.score.table import render
from bench.task import read_task
task = read_task(Path(sys.argv[1]))
rows = load_index([Path(sys.argv[2])], Path(sys.argv[3]))
text = render(make_board(rows, task, "adamw-ref"), task)
print(len(rows), "records,", text.count("nothing is claimed"), "entries scored")
"""
BOARD = """
import runpy, sys, time
import numpy as np
from bench.score.board import make_board
from bench.score.table import render
made = runpy.run_path(sys.argv[1])
runs, task, rng = made["runs"], made["TASK"], np.random.default_rng(0)
loss = lambda tokens: 0.417 * tokens**-0.493 + 3.112
cells = lambda speedup, budgets, seeds: {
    budget: (loss(budget * speedup) + 0.002 * rng.standard_normal(n)).tolist() for budget, n in zip(budgets, seeds)}
rows = runs("adamw-ref", cells(1, (0.25, 0.5, 1, 1.5, 2, 4, 8, 16), (5, 5, 10, 5, 5, 5, 5, 5)))
names = [f"entry-{number:02}" for number in range(45)] + [f"entry-{k}@{i}" for k in (10, 30) for i in (1, 2, 3)]
for name in names:
    speedup = (0.8 + int(name[6:8]) / 60) * np.exp(0.02 * rng.standard_normal())
    rows += runs(name, cells(speedup, (0.25, 0.5, 1, 2, 4), (3,) * 5))
start, wall = time.process_time(), time.perf_counter()
board = make_board(rows, task, "adamw-ref")
made = time.process_time()
text = render(board, task)
done = time.process_time()
assert all(len(row.standings) == 5 for row in board.rows[:45]), board.not_ranked
print(f"a board of {len(board.rows)} entries: {made - start:.2f} s, its tables {done - made:.2f} s of processor,",
      f"{time.perf_counter() - wall:.2f} s of wall (limit 2.0 s)")
sys.exit(done - start > 2.0)
"""


def make(folder: Path, count: int) -> None:
    write = runpy.run_path(str(ROOT / "tests/score/conftest.py"))["write"]
    os.fsync = lambda handle: None  # the disk's patience is not what is timed
    made = 0
    for number in range(count):
        entry = "adamw-ref" if number == 0 else f"entry-{number:03}"
        for budget in BUDGETS:
            for seed in range(SEEDS):
                if made == count:
                    return
                loss = 3.1 + 0.4 * budget**-0.5 - number / 2000 + ((seed * 7 + number) % 11 - 5) / 1000
                write(folder, entry=entry, budget=budget, seed=seed, loss=loss)
                made += 1


def timed(*arguments: str) -> tuple[float, float]:
    """Return processor and wall seconds."""
    start, before = time.perf_counter(), os.times()
    done = subprocess.run(
        [sys.executable, "-c", SCORE, *arguments],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    print(done.stdout.strip())
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return spent, time.perf_counter() - start


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder / "records", count)
        arguments = (str(ROOT / "tasks/smoke.toml"), str(folder / "records"), str(folder / "cache"))
        print("cold: {:.2f} s of processor, {:.2f} s of wall".format(*timed(*arguments)))
        warm = min(timed(*arguments) for _ in range(3))
        print("warm: {:.2f} s of processor, {:.2f} s of wall".format(*warm), f"(limit {WARM_LIMIT} s)")
    full = subprocess.run([sys.executable, "-c", BOARD, str(ROOT / "tests/score/conftest.py")], cwd=ROOT)
    sys.exit(warm[0] > WARM_LIMIT or full.returncode != 0)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
