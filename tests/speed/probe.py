"""What every entry that has a probe asks of it: calls, seconds and peak memory of each kind, in a real run's steps.

A run's own record tells the same (`cost.probe`); here all such entries take turns on one machine. By `make speed`.

    python tests/speed/probe.py --tasks nano,llama-60m --steps 20
"""

import argparse
import os
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("BENCH_MIRROR", str(Path(__file__).parents[3] / "shared" / "data"))

from tabulate import tabulate

from bench.assemble import Request, assemble
from bench.clock import Clock
from bench.entry import Entry, find_entries
from bench.errors import BenchError
from bench.facts import extra_passes
from bench.places import data_folder
from bench.run import warm_up
from bench.setting import Watch, settle
from bench.task import Task, read_task
from bench.train import Progress, train

ROOT = Path(__file__).parents[2]
HEADERS = ["task", "entry", "call", "calls", "ms each", "of the seconds", "peak MiB", "passes charged"]


def rows_of(name: str, task: Task, entry: Entry, steps: int) -> list[list[str]]:
    """Return a row for each kind of call in the first steps; none for an entry without a probe."""
    request = Request(name, task, entry, entry.values({}), "bf16", task.budget.rungs[-1], "declared", 0)
    assembly = assemble(request, data_folder(), settle(request, Watch(), compiled=False).hardware)
    if assembly.parts.probe is None:
        return []
    warm_up(assembly)
    course = replace(assembly.course, curve_every=10**9, stop_after=steps)
    progress = Progress(curve=[{"tokens": 0}])  # the first look is evaluation, which is not asked for here
    train(assembly.parts, course, progress, Clock(), lambda must: None, lambda now: None)
    charged = f"{1 + extra_passes(course, progress):.3f}"
    rows = []
    for kind, calls in progress.probe["calls"].items():
        each, share = calls["seconds"] / calls["calls"], calls["seconds"] / progress.train_seconds
        peak = calls["peak_memory_bytes"] / 2**20
        cells = [str(calls["calls"]), f"{1e3 * each:,.1f}", f"{100 * share:.0f}%", f"{peak:,.0f}"]
        rows.append([name, entry.name, kind, *cells, charged])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default="nano", help="names, with commas")
    parser.add_argument("--steps", type=int, default=20)
    asked = parser.parse_args()
    rows = []
    for name in asked.tasks.split(","):
        task = read_task(ROOT / "tasks" / f"{name}.toml")
        for entry in find_entries(ROOT / "baselines"):
            try:
                rows += rows_of(name, task, entry, asked.steps)
            except BenchError as error:
                print(f"{name} {entry.name}: {error}")
    print(tabulate(rows, headers=HEADERS, disable_numparse=True))


if __name__ == "__main__":
    main()
