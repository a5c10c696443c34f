"""The real tasks: their models, vocabularies and code paths for 20 steps of C4 on a CPU, killed and resumed. Slow."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small import ADAMW, checkpoints_in

from bench.record import read_log, read_record

ROOT = Path(__file__).parents[1]
SHARD = "en/c4-train.00000-of-01024.json.gz"
STEPS = 20
BATCH = {"llama-60m": 8, "gpt2-124m": 2}  # sequences

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not os.environ.get("BENCH_MIRROR"), reason="reads a mirror's C4")]


def shortened(name: str, folder: Path) -> Path:
    """Write the task with a batch and a text that a CPU has time for; the model is the task's own."""
    text = (ROOT / "tasks" / f"{name}.toml").read_text()
    context = int(re.search(r"context\s*= (\d+)", text).group(1))
    changes = {
        "batch_sequences": BATCH[name], "micro_batch_sequences": BATCH[name] // 2, "compiled": "false",
        "curve_points": 1, "curve_sequences": 1, "tokens": STEPS * BATCH[name] * context,
        "rungs": "[1.0]", "compared": "[1.0]",
    }  # fmt: skip
    for key, value in changes.items():
        text = re.sub(rf"(?m)^{key}(\s*)= .*$", rf"{key}\1= {value}", text)
    for split, (first, last) in {"train": (0, 200), "select": (800, 812), "score": (812, 824)}.items():
        text, found = re.subn(
            rf"(?ms)^\[data\.{split}\].*?^last.*?$",
            f'[data.{split}]\nfiles = ["{SHARD}"]\nfirst = {first}\nlast = {last}',
            text,
        )
        assert found == 1
    path = folder / f"{name}.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("name", BATCH)
def test_a_real_task_runs_is_killed_and_goes_on(name, ranks, tmp_path):
    task = shortened(name, tmp_path)
    arguments = ["run", str(task), str(ADAMW), "--devices", str(ranks), "--checkpoint-seconds", "15"]
    command = [sys.executable, "-m", "bench", *arguments, "--records", str(tmp_path / "records")]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               start_new_session=True)  # fmt: skip
    while len({path.parent for path in checkpoints_in(tmp_path)}) < ranks:
        assert process.poll() is None, "ended before its first checkpoint"
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert re.search(r"going on from step \d+ of 20", again.stderr)
    (path,) = (tmp_path / "records").rglob("*.json")
    record = read_record(path)
    log = read_log(path, record)
    memory = record.cost.peak_memory_bytes / 2**20
    print(f"{name}, {ranks} ranks: {record.cost.step_seconds:.2f} s a step, {memory:,.0f} MiB a rank, "
          f"loss {log.loss[0]:.4f} to {log.loss[-1]:.4f}")  # fmt: skip
    assert record.outcome == "finished" and record.steps == STEPS and record.machine.ranks == ranks
    assert log.loss[-1] < log.loss[0]
