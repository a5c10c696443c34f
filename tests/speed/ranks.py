"""Two ranks against one on the same global batch, one thread each: the overhead over half the compute. At most 1.10.

python tests/speed/ranks.py [sequences]     64 by default, an eighth of llama-60m's batch
"""

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
    path = folder / "ranks.toml"
    path.write_text(text)
    return path


def step_seconds(task: Path, folder: Path, ranks: int) -> float:
    records = folder / f"records-{ranks}"
    subprocess.run(
        [sys.executable, "-m", "bench", "run", str(task), str(ROOT / "baselines" / "adamw" / "adamw.toml"),
         "--device", "cpu", "--devices", str(ranks), "--records", str(records)],
        cwd=folder, check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    seconds = read_record(next(records.rglob("*.json"))).cost.step_seconds
    assert seconds
    return seconds


def main() -> None:
    sequences = int(sys.argv[1]) if len(sys.argv) > 1 else 64
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        task = small_text(folder, sequences)
        one, two = step_seconds(task, folder, 1), step_seconds(task, folder, 2)
    print(f"{sequences} x 256 tokens a step: 1 rank {one:.2f} s, 2 ranks {two:.2f} s, {two / (one / 2):.3f} of half")
    if two / (one / 2) > LIMIT:
        sys.exit(f"more than {LIMIT} of half the compute")


main()
