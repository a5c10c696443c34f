"""Tokens per second of the harness against a bare loop, and of two runs side by side. Run by `make speed`.

The bare loop is what a person would write by hand: the same model, compiled the same way, the same optimizer, clip and
batch, and nothing else: no chains, no schedule, no checkpoints, no facts. The two are interleaved in one process.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("BENCH_MIRROR", str(Path(__file__).parents[3] / "shared" / "data"))

import torch

from bench.assemble import Request, assemble
from bench.clock import Clock
from bench.entry import Entry
from bench.machine import make_deterministic
from bench.places import data_folder
from bench.run import Watch, settle, warm_up
from bench.task import read_task
from bench.train import Progress, train

ROOT = Path(__file__).parents[2]
ENTRY = ROOT / "baselines" / "adamw" / "adamw.toml"
CHUNK, ROUNDS = 48, 7  # steps, interleaved rounds of each


def harness_and_bare(task_path: Path) -> tuple[float, float]:
    """Return median tokens per second of the harness's loop and of the bare loop."""
    task, entry = read_task(task_path), Entry(ENTRY)
    request = Request(task_path.stem, task, entry, entry.values({}), "bf16", 1.0, "declared", 0)
    setting = settle(request, Watch())
    assembly = assemble(request, data_folder(), setting.hardware)
    warm_up(assembly)
    parts, batch_tokens = assembly.parts, assembly.course.batch_tokens
    (optimizer,) = parts.optimizers
    batches = parts.batch_at(0, CHUNK * task.training.batch_sequences).split(task.training.batch_sequences)

    def bare() -> float:
        start = time.perf_counter()
        for tokens in batches:
            loss = parts.losses_of(tokens).mean()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(assembly.roles.all, 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            loss.item()
        return CHUNK * batch_tokens / (time.perf_counter() - start)

    def harness() -> float:
        course = replace(assembly.course, curve_every=10**9, stop_after=CHUNK)
        progress = Progress(curve=[{"tokens": 0}])  # the first look is evaluation, outside the clock anyway
        start = time.perf_counter()
        train(parts, course, progress, Clock(), lambda must: None, lambda now: None)
        return CHUNK * batch_tokens / (time.perf_counter() - start)

    rates = [(harness(), bare()) if turn % 2 else (bare(), harness())[::-1] for turn in range(ROUNDS + 1)][1:]
    return tuple(statistics.median(column) for column in zip(*rates, strict=True))  # type: ignore[return-value]


def side_by_side(task_path: Path) -> list[str]:
    """Return what two runs of the command say when each has a core of its own."""
    with tempfile.TemporaryDirectory() as folder:
        cores = sorted(os.sched_getaffinity(0))[:2]
        runs = [
            subprocess.Popen([sys.executable, "-m", "bench", "run", str(task_path), str(ENTRY), "--seed", str(seed),
                              "--budget", "0.5x", "--records", folder], cwd=ROOT, text=True, stdout=subprocess.PIPE,
                             preexec_fn=lambda core=core: os.sched_setaffinity(0, {core}))
            for seed, core in enumerate(cores, start=900)
        ]  # fmt: skip
        return [run.communicate()[0].split("  ")[0].strip() for run in runs]


if __name__ == "__main__":
    make_deterministic(1)
    nano = ROOT / "tasks" / "nano.toml"
    mine, theirs = harness_and_bare(nano)
    print(f"nano, adamw, one thread: harness {mine:,.0f} tokens/s, bare loop {theirs:,.0f}, ratio {mine / theirs:.3f}")
    for line in side_by_side(nano):
        print(f"side by side: {line}")
