"""Tokens per second and MFU of the real tasks, with AdamW and Muon, and of a hand-written GPT-2. Run by `make speed`.

The hand-written loop is what a person would write in one file for the same GPT-2: plain torch modules, a tied head,
F.scaled_dot_product_attention, bf16 autocast, fused AdamW, clipping; no pieces, no chains, no schedule. All loops of a
task take turns in one process under the harness's deterministic settings, and each number is a median over rounds;
compilation and the first round are outside the clock. Tokens are random: how fast they train is all that is asked.

On a GPU a step is the task's own, compiled. On a CPU it is one small micro-batch, eager unless --compiled is given:
those numbers say that the script works and compare the loops, and nothing of a GPU.

    python tests/speed/throughput.py --tasks gpt2-124m --steps 8
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from tabulate import tabulate
from torch import Tensor, nn

from bench.assemble import Request, assemble
from bench.clock import Clock
from bench.devices import device_reported
from bench.entry import Entry
from bench.setting import Watch, settle
from bench.task import SyntheticText, Task, read_task
from bench.train import Progress, train

ROOT = Path(__file__).parents[2]
ENTRIES = ("adamw", "muon")
BY_HAND = "by hand"
CPU_TOKENS = 1024  # of a step
STAND_IN = SyntheticText(
    kind="synthetic", language_seed=0, words=256, zipf_exponent=1.0, successors=16, copy_probability=0.25,
    copy_distance=8, document_words=200, train_documents=1000, select_documents=100, score_documents=100,
)  # fmt: skip


def main() -> int:
    cuda = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default="llama-60m,llama-130m,gpt2-124m", help="names, with commas")
    parser.add_argument("--steps", type=int, default=4 if cuda else 1, help="of each loop in a round")
    parser.add_argument("--rounds", type=int, default=5 if cuda else 2, help="that are counted")
    parser.add_argument("--compiled", action=argparse.BooleanOptionalAction, default=cuda)
    asked = parser.parse_args()
    rows = [row for name in asked.tasks.split(",") for row in table_of(name, asked.steps, asked.rounds, asked.compiled)]
    name = torch.cuda.get_device_name() if cuda else "CPU, one thread"
    print(f"{name}, {'compiled' if asked.compiled else 'eager'}, medians of {asked.rounds} rounds")
    print(tabulate(rows, headers=["task", "loop", "tokens a step", "tokens/s", "MFU"], disable_numparse=True,
                   colalign=("left", "left", "right", "right", "right")))  # fmt: skip
    return 0


def table_of(name: str, steps: int, rounds: int, compiled: bool) -> list[list[str]]:
    """Return a row for each loop of a task."""
    task = stand_in(read_task(ROOT / "tasks" / f"{name}.toml"))
    loops = {entry: harness_loop(name, task, entry, steps, compiled) for entry in ENTRIES}
    if task.model.family == "gpt2":
        loops[BY_HAND] = loop_by_hand(task, steps, compiled)
    seconds: dict[str, list[float]] = {loop: [] for loop in loops}
    for turn in range(rounds + 1):
        for loop, run in sorted(loops.items(), reverse=bool(turn % 2)):  # nobody is always first
            start = time.perf_counter()
            run()
            seconds[loop].append(time.perf_counter() - start)
    peak = peak_flops()
    rows = []
    for loop, taken in seconds.items():
        rate = steps * task.training.batch_tokens / statistics.median(taken[1:])
        mfu = "-" if peak is None else f"{rate * task.flops_per_token / peak:.1%}"
        rows.append([name, loop, f"{task.training.batch_tokens:,}", f"{rate:,.0f}", mfu])
    return rows


def peak_flops() -> float | None:
    """Return what the vendor promises of this device, or None for one whose peak we do not know."""
    found = device_reported(torch.cuda.get_device_name()) if torch.cuda.is_available() else None
    return found.peak_flops if found else None


def stand_in(task: Task) -> Task:
    """Return the task without its text, and on a CPU with a step of one small micro-batch."""
    training = task.training
    if not torch.cuda.is_available():
        sequences = max(1, CPU_TOKENS // training.context)
        small = {"batch_sequences": sequences, "micro_batch_sequences": sequences, "threads": 1}
        training = training.model_copy(update=small)
    return task.model_copy(update={"data": STAND_IN, "training": training})


def random_batches(task: Task, steps: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = (task.training.batch_sequences, task.training.context + 1)
    return [torch.randint(0, task.model.vocabulary, shape, generator=generator) for _ in range(steps)]


def harness_loop(name: str, task: Task, entry_name: str, steps: int, compiled: bool) -> Callable[[], None]:
    """Return the harness's own training of so many steps with an entry."""
    entry = Entry(ROOT / "baselines" / entry_name / f"{entry_name}.toml")
    request = Request(name, task, entry, entry.values({}), "bf16", 1.0, "declared", 0)
    hardware = settle(request, Watch(), compiled).hardware
    with tempfile.TemporaryDirectory() as folder:
        assembly = assemble(request, Path(folder), hardware)
    batches = random_batches(task, steps)
    parts = replace(assembly.parts, batch_at=lambda first, count: batches[first // count])
    course = replace(assembly.course, curve_every=10**9, stop_after=steps)

    def run() -> None:
        looked = Progress(curve=[{"tokens": 0}])  # the first look is evaluation, which is not asked for here
        train(parts, course, looked, Clock(), lambda must: None, lambda now: None)

    return run


class Block(nn.Module):
    def __init__(self, width: int, ffn: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, ffn), nn.Linear(ffn, width)

    def forward(self, x_BTD: Tensor) -> Tensor:
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
                   for part in self.qkv(self.norm_1(x_BTD)).chunk(3, dim=-1))  # fmt: skip
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        x_BTD = x_BTD + self.out(attended)
        return x_BTD + self.down(F.gelu(self.up(self.norm_2(x_BTD)), approximate="tanh"))


class GPT(nn.Module):
    def __init__(self, task: Task) -> None:
        super().__init__()
        m = task.model
        self.tokens = nn.Embedding(m.padded_vocabulary, m.width)
        self.positions = nn.Embedding(task.training.context, m.width)
        self.blocks = nn.ModuleList(Block(m.width, m.ffn, m.heads) for _ in range(m.layers))
        self.norm = nn.LayerNorm(m.width)
        for table in (self.tokens, self.positions):
            nn.init.normal_(table.weight, std=0.02)

    def forward(self, tokens_BS: Tensor) -> Tensor:
        inputs, targets = tokens_BS[:, :-1], tokens_BS[:, 1:]
        with torch.autocast(tokens_BS.device.type, dtype=torch.bfloat16):
            x_BTD = self.tokens(inputs) + self.positions.weight
            for block in self.blocks:
                x_BTD = block(x_BTD)
            logits = F.linear(self.norm(x_BTD), self.tokens.weight)
            return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())


def loop_by_hand(task: Task, steps: int, compiled: bool) -> Callable[[], None]:
    """Return the training of so many steps that a person would write for this shape."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = GPT(task).to(device)
    loss_of = torch.compile(model, dynamic=False) if compiled else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=task.rest.lr, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    batches = random_batches(task, steps)

    def run() -> None:
        for batch in batches:
            pieces = batch.to(device, non_blocking=True).split(task.training.micro_batch_sequences)
            for tokens in pieces:
                (loss_of(tokens) / len(pieces)).backward()
            norm = nn.utils.clip_grad_norm_(model.parameters(), task.training.clip)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        norm.item()  # waits for the device

    return run


if __name__ == "__main__":
    sys.exit(main())
