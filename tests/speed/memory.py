"""Peak memory of a training step, measured, against the forecast of `bench task`. Run by `make speed`.

Each measurement has a process of its own: the task's model, AdamW, one step to compile and to make the state, then a
step of two micro-batches. On a GPU the peak is what torch has allocated. On a CPU it is the growth of the resident
memory over that step on top of weights and state, which are counted; freed memory goes back to the system at once
(MALLOC_*), for what the allocator keeps for later is not the step's. Ends with 1 where the forecast is off by over 15%.

    python tests/speed/memory.py --tasks gpt2-124m --micro-batch 8 --compiled
"""

import argparse
import json
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

from tabulate import tabulate

ROOT = Path(__file__).parents[2]
BAND = 0.15
ON_CPU = {"llama-60m": 32, "llama-130m": 32, "gpt2-124m": 8}  # sequences: what 16 GB and a few minutes allow
RETURN_AT_ONCE = {"MALLOC_MMAP_THRESHOLD_": str(2**16), "MALLOC_MMAP_MAX_": "1000000"}


def main() -> int:
    asked = _arguments()
    if asked.alone:
        print(json.dumps(measure(asked.alone, asked.micro_batch, asked.compiled)))
        return 0
    rows, off = [], 0.0
    for name in asked.tasks.split(","):
        micro_batch = asked.micro_batch or ON_CPU.get(name, 1)
        found = in_fresh_process(name, micro_batch, asked.compiled)
        ratio = found["measured"] / found["forecast"]
        off = max(off, abs(ratio - 1))
        mode = "compiled" if found["compiled"] else "eager"
        sizes = [f"{found[key] / 2**20:,.0f}" for key in ("measured", "forecast")]
        rows.append([name, f"{micro_batch} x {found['context']}", found["device"], mode, *sizes, f"{ratio:.3f}"])
    headers = ["task", "micro-batch", "device", "mode", "measured MiB", "forecast MiB", "ratio"]
    print(tabulate(rows, headers=headers, disable_numparse=True))
    return int(off > BAND)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default="llama-60m,gpt2-124m", help="names, with commas")
    parser.add_argument("--micro-batch", type=int, help="sequences; by default what a CPU manages")
    parser.add_argument("--compiled", action=argparse.BooleanOptionalAction, help="as the task says by default")
    parser.add_argument("--alone", help=argparse.SUPPRESS)  # the task, in a process of its own
    return parser.parse_args()


def in_fresh_process(name: str, micro_batch: int, compiled: bool | None) -> dict:
    words = [sys.executable, __file__, "--alone", name, "--micro-batch", str(micro_batch)]
    if compiled is not None:
        words.append("--compiled" if compiled else "--no-compiled")
    done = subprocess.run(words, env={**os.environ, **RETURN_AT_ONCE}, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert done.returncode == 0, f"{name}: the measurement ended with {done.returncode}"
    return json.loads(done.stdout.splitlines()[-1])


def measure(name: str, micro_batch: int, compiled: bool | None) -> dict:
    """Return the measured and forecast peak of a step of two micro-batches, in bytes."""
    import torch

    from bench.claims import build_rest
    from bench.machine import make_deterministic, peak_memory_bytes, reset_peak_memory
    from bench.memory import step_memory
    from bench.model import build_model, sequence_losses
    from bench.roles import roles_of
    from bench.task import read_task

    make_deterministic(1)
    task, device = (
        read_task(ROOT / "tasks" / f"{name}.toml"),
        torch.device("cuda" if torch.cuda.is_available() else "cpu"),
    )
    training = task.training
    compiled = training.compiled if compiled is None else compiled
    model = build_model(task.model, training.context, 0, training.activation_checkpointing).to(device)
    roles = roles_of(model)
    optimizers = build_rest(roles, [], task.rest)
    losses_of = partial(sequence_losses, model)
    if compiled:
        losses_of = torch.compile(losses_of, dynamic=False, fullgraph=not training.activation_checkpointing)
    tokens = torch.randint(0, task.model.vocabulary, (micro_batch, training.context + 1), device=device)

    def step(micro_batches: int) -> None:
        for _ in range(micro_batches):
            (losses_of(tokens).mean() / micro_batches).backward()
        for optimizer in optimizers:
            optimizer.step()
        for w in roles.all:
            w.grad = None

    step(1)
    state = [t for optimizer in optimizers for held in optimizer.state.values() for t in held.values()]
    counted = sum(tensor.nbytes for tensor in [*roles.all, *state])
    reset_peak_memory(device)
    before = 0 if device.type == "cuda" else resident_bytes() - counted
    step(2)
    return {"measured": peak_memory_bytes(device) - before, "compiled": compiled, "context": training.context,
            "device": device.type, "forecast": step_memory(task, micro_batch, compiled=compiled).total}  # fmt: skip


def resident_bytes() -> int:
    return int(re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text()).group(1)) * 1024


if __name__ == "__main__":
    sys.exit(main())
