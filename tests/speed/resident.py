"""Peak memory of the modes of a finished checkpoint, over the model's own bytes. Run by `make speed` and `make bench`.

Each mode has a process of its own, which reads a random llama-130m from the disk and measures it as `bench quantize`
does: float loss, rounding, loss, diagnosis. The peak is the growth of the resident memory, the model's copy included;
freed memory goes back to the system at once, as in memory.py. Arguments: task, modes.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from memory import RETURN_AT_ONCE, ROOT, resident_bytes

CONTEXT, SEQUENCES = 256, 8  # what the diagnosis looks at is scored, and no more
MODES = ("ptq-w4", "ptq-w4-gptq")


def in_fresh_process(name: str, mode: str) -> dict:
    words = [sys.executable, __file__, "--alone", name, mode]
    done = subprocess.run(words, env={**os.environ, **RETURN_AT_ONCE}, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert done.returncode == 0, f"{mode}: the measurement ended with {done.returncode}"
    return json.loads(done.stdout.splitlines()[-1])


def told(name: str, mode: str) -> str:
    found = in_fresh_process(name, mode)
    weights, peak = found["weights"] / 2**20, found["peak"] / 2**20
    return f"{name} {mode}: peak {peak:,.0f} MiB, {peak / weights:.2f}x the weights' {weights:,.0f} MiB"


def measure(name: str, mode: str) -> dict:
    """Return the model's bytes and the peak of measuring it in a mode."""
    import gc
    from functools import partial

    import numpy as np
    import torch

    from bench.evaluate.after import measure_modes
    from bench.evaluate.weights import keep, on_disk, read_model
    from bench.machine import make_deterministic, peak_memory_bytes, reset_peak_memory
    from bench.model import build_model
    from bench.quantize.calibration import SEQUENCES as CALIBRATED
    from bench.quantize.calibration import Calibration
    from bench.task import read_task

    make_deterministic(torch.get_num_threads())
    task = read_task(ROOT / "tasks" / f"{name}.toml")
    draws = np.random.default_rng(0)
    tokens = draws.integers(0, task.model.vocabulary, (CALIBRATED, CONTEXT + 1))
    with tempfile.TemporaryDirectory() as home:
        folder = keep(build_model(task.model, CONTEXT, seed=0), Path(home), "random")
        model = read_model(folder, task.model.attention)
        size = sum(weight.nbytes for weight in model.parameters())
        with torch.no_grad():
            model(input_ids=torch.from_numpy(tokens[:1, :8]))  # what the first pass alone loads
        del model
        gc.collect()
        checkpoint = on_disk(folder, partial(read_model, folder, task.model.attention))
        before = resident_bytes()
        reset_peak_memory(torch.device("cpu"))
        score, calibration = tokens[:SEQUENCES], Calibration(tokens)
        ((_, found, _),) = measure_modes(checkpoint, [mode], calibration, score, SEQUENCES, "a" * 64)
        assert found.quantization.forwards == 1.0
        return {"weights": size, "peak": peak_memory_bytes(torch.device("cpu")) - before}


if __name__ == "__main__":
    given = sys.argv[1:]
    if given[:1] == ["--alone"]:
        print(json.dumps(measure(*given[1:])))
    else:
        for mode in given[1:] or MODES:
            print(told(given[0] if given else "llama-130m", mode))
