"""Two ranks against one on the same global batch, one thread each: the overhead over half the compute. At most 1.10.

Beside it stands what this machine's cores do to each other: two lone runs of half the batch, side by side, which
exchange nothing. Ranks cannot be faster than those.

python tests/speed/ranks.py [sequences]     64 by default, an eighth of llama-60m's batch
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.record import read_record

ROOT = Path(__file__).parents[2]
STEPS = 3
LIMIT = 1.10


def small_text(folder: Path, sequences: int) -> Path:
    """Write llama-60m on a generated text, so that nothing is fetched: its model, a smaller batch, few steps."""
    text = (ROOT / "tasks" / "llama-60m.toml").read_text()
    language = re.search(r"(?ms)^\[data\].*?(?=^\[training\])", (ROOT / "tasks" / "smoke.toml").read_text())
    assert language
    text = re.sub(r"(?ms)^\[data\].*?(?=^\[training\])", language.group(), text)
    changes = {
        "batch_sequences": sequences, "micro_batch_sequences": 8, "compiled": "false", "threads": 1,
        "curve_points": 1, "curve_sequences": 8, "tokens": STEPS * sequences * 256, "rungs": "[1.0]",
        "compared": "[1.0]", "train_documents": 2000, "select_documents": 8, "score_documents": 8,
    }  # fmt: skip
    for key, value in changes.items():
        text = re.sub(rf"(?m)^{key}(\s*)= .*$", rf"{key}\1= {value}", text)
    path = folder / f"ranks-{sequences}.toml"
    path.write_text(text)
    return path


def start(task: Path, folder: Path, ranks: int, name: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "bench", "run", str(task), str(ROOT / "baselines" / "adamw" / "adamw.toml"),
         "--device", "cpu", "--devices", str(ranks), "--records", str(folder / name)],
        cwd=folder, stdout=subprocess.DEVNULL,
    )  # fmt: skip


def step_seconds(task: Path, folder: Path, ranks: int, side_by_side: int = 1) -> float:
    """Return the seconds of a step; of several runs at once, the mean."""
    names = [f"{task.stem}-{ranks}-{side_by_side}-{number}" for number in range(side_by_side)]
    runs = []
    for number, name in enumerate(names):
        (folder / name).mkdir()
        runs.append(start(task, folder / name, ranks, "records"))
        if side_by_side > 1:
            os.sched_setaffinity(runs[-1].pid, {sorted(os.sched_getaffinity(0))[number]})
    if any(run.wait() for run in runs):
        sys.exit("a run failed")
    taken = [read_record(next((folder / name).rglob("*.json"))).cost.step_seconds for name in names]
    return sum(taken) / len(taken)


def main() -> None:
    sequences = int(sys.argv[1]) if len(sys.argv) > 1 else 64
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole, half = small_text(folder, sequences), small_text(folder, sequences // 2)
        one, two = step_seconds(whole, folder, 1), step_seconds(whole, folder, 2)
        lone, apart = step_seconds(half, folder, 1), step_seconds(half, folder, 1, side_by_side=2)
    print(f"{sequences} x 256 tokens a step: 1 rank {one:.2f} s, 2 ranks {two:.2f} s, {two / (one / 2):.3f} of half")
    print(f"half of them: alone {lone:.2f} s, two runs side by side {apart:.2f} s, {apart / lone:.3f} of alone")
    if two / (one / 2) > LIMIT:
        print(f"more than {LIMIT} of half the compute; {two / apart:.3f} of what two runs apart take")


main()
