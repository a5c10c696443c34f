"""Step time of every training mode against bf16. Run by `make speed`.

One task's training step (forward, backward, clip, AdamW) in every mode, compiled as the task says, modes interleaved in
one process on one core; medians over rounds. Targets: 1.5x, with a rotation 1.8x. Arguments: task, device, modes.
"""

import os
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("BENCH_MIRROR", str(Path(__file__).parents[3] / "shared" / "data"))

import torch

from bench.machine import compiler, make_deterministic
from bench.mode import mode_names, read_mode
from bench.model import build_model, sequence_losses
from bench.quantize.linear import convert, quantized
from bench.task import Task, read_task

ROOT = Path(__file__).parents[2]
STEPS, ROUNDS = 8, 9
TARGET, ROTATED = 1.5, 1.8  # times bf16


@dataclass
class Trained:
    """A model in one mode, and its step."""

    name: str
    task: Task
    device: torch.device

    def __post_init__(self) -> None:
        training, mode = self.task.training, read_mode(self.name, "training")
        self.model = build_model(self.task.model, training.context, 0, training.activation_checkpointing)
        self.model = self.model.to(self.device)
        if mode.quantizes:
            convert(self.model, mode)
        self.losses_of = lambda tokens: sequence_losses(self.model, tokens)
        if training.compiled and (self.device.type == "cuda" or compiler()):
            whole = not training.activation_checkpointing
            self.losses_of = torch.compile(self.losses_of, dynamic=False, fullgraph=whole)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3)
        generator = torch.Generator().manual_seed(0)
        shape = (training.micro_batch_sequences, training.context + 1)
        self.tokens = torch.randint(self.task.model.vocabulary, shape, generator=generator).to(self.device)

    def step(self) -> None:
        self.losses_of(self.tokens).mean().backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def seconds(self) -> float:
        """Return the mean time of a step: on a CPU what one thread used, whoever else is on the core."""
        clock = time.perf_counter if self.device.type == "cuda" else time.process_time
        start = clock()
        for _ in range(STEPS):
            self.step()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return (clock() - start) / STEPS


def measure(task: Task, names: list[str], device: torch.device) -> dict[str, float]:
    """Return each mode's median step time in seconds; a warm-up round compiles."""
    trained = [Trained(name, task, device) for name in names]
    for one in trained:
        one.seconds()
        assert all(m.quantized_forwards == m.forwards == STEPS for _, m in quantized(one.model)), one.name
    rounds = [[one.seconds() for one in (trained if turn % 2 else trained[::-1])][:: 1 if turn % 2 else -1]
              for turn in range(ROUNDS)]  # fmt: skip
    return {name: statistics.median(column) for name, column in zip(names, zip(*rounds, strict=True), strict=True)}


if __name__ == "__main__":
    given = sys.argv[1:]
    path = Path(given[0]) if given else ROOT / "tasks" / "nano.toml"
    device = torch.device(given[1] if len(given) > 1 else "cpu")
    make_deterministic(1)
    torch._dynamo.config.cache_size_limit = 64
    rounding = given[2:] or [name for name in mode_names()
                             if read_mode(name).kind == "training" and read_mode(name).quantizes]  # fmt: skip
    found = measure(read_task(path), ["bf16", *rounding], device)
    for name, seconds in found.items():
        ratio, rotated = seconds / found["bf16"], read_mode(name).hadamard
        print(f"{path.stem} {device.type} {name}: {1000 * seconds:.1f} ms a step, {ratio:.2f}x bf16"
              f" (target at most {ROTATED if rotated else TARGET})")  # fmt: skip
