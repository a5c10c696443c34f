"""The step of every entry against the fastest library that has it, on the blocks of real tasks. Run by `make speed`.

An entry is built as the harness builds it, on a model of the task's shapes; embedding and head are left out, which
nobody orthogonalizes. A library's optimizer gets copies of the same weights and gradients (a weight of several matrices
as several, since ours steps them so), at equal settings: Newton-Schulz coefficients, steps and dtype among them. All
take turns in one process, A B B A, and a time is the median over rounds; what comes every f steps is timed over f. PSGD
is timed as in its first 500 steps, when it fits its factors in each. Before that some steps of each are compared: a
displacement more than 2e-2 from ours is marked, with the reason where tests/support/libraries.py has one.

On a CPU the model has few layers, and a time is scaled to all of them; a training step is timed on one small
micro-batch and scaled by operations to the task's batch; times are processor seconds of one thread, which a busy
machine hardly stretches. On a GPU nothing is scaled but the number of micro-batches. The extra memory, beyond weights,
gradients and state, is that of the layers that were timed.

    python tests/speed/optimizers.py --entries muon,normuon --tasks gpt2-124m --rounds 5
"""

import argparse
import os
import runpy
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler, which counts bytes here, would print
import torch
from tabulate import tabulate
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from bench.claims import build_entry, wants_probe
from bench.entry import Entry, Value, find_entries
from bench.machine import make_deterministic
from bench.model import build_model, sequence_losses
from bench.roles import Roles, Run, roles_of
from bench.task import Task, read_task

ROOT = Path(__file__).parents[2]
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
PERIOD = "_frequency"  # the end of an entry's name for how often something costly is done
LONGEST = 20  # a period that is timed; with a longer one, shortened for all alike, what it brings is overstated
COMPARED, BAND = 4, 2e-2  # steps, or so many with a period of one; how far apart displacements may be
NOISE = 0.03  # of a ratio of two times
CPU_TOKENS = 1024  # of the micro-batch that is timed


def main() -> int:
    cuda = DEVICE.type == "cuda"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default="gpt2-124m,llama-130m", help="names, with commas")
    parser.add_argument("--entries", help="names, with commas; all that are ranked by default")
    parser.add_argument("--layers", type=int, default=0 if cuda else 2, help="of the model; 0: all of the task's")
    parser.add_argument("--rounds", type=int, default=5 if cuda else 2, help="that are counted")
    parser.add_argument("--compiled", action=argparse.BooleanOptionalAction, default=cuda,
                        help="the training step, and what heavyball compiles by default")  # fmt: skip
    asked = parser.parse_args()
    make_deterministic(1)
    libraries = runpy.run_path(str(ROOT / "tests/support/libraries.py"))["prepared"](asked.compiled)
    wanted = asked.entries.split(",") if asked.entries else None
    entries = [e for e in find_entries(ROOT / "baselines") if (e.name in wanted if wanted else not e.facts.control)]
    rows = []
    for name in asked.tasks.split(","):
        task = read_task(ROOT / "tasks" / f"{name}.toml")
        model = task.model.model_copy(update={"layers": asked.layers or task.model.layers})
        small = task.model_copy(update={"model": model})
        training = training_seconds(task, small, asked.compiled)
        for entry in entries:
            if wants_probe(of_entry(entry, entry.values({}), task, small).optimizers):
                print(f"{entry.name} has a probe, and is timed by tests/speed/probe.py", file=sys.stderr)
                continue
            row = row_of(entry, task, small, libraries.get(entry.name, []), asked.rounds, training)
            rows.append([name, entry.name, *row])
            print(*rows[-1], sep="  ", file=sys.stderr)
    place = torch.cuda.get_device_name() if cuda else "CPU, one thread"
    print(f"{place}, {asked.layers or 'all'} layers scaled to all, medians of {asked.rounds} rounds")
    headers = ["task", "entry", "ms a step", "of training", "extra MiB", "over the fastest", "libraries: times ours",
               "note"]  # fmt: skip
    align = ["left", "left", *["right"] * 4, "left", "left"]
    print(tabulate(rows, headers=headers, disable_numparse=True, colalign=align))
    return 0


def row_of(entry: Entry, task: Task, small: Task, libraries: list, rounds: int, training: float) -> list[str]:
    """Return the cells of an entry: its step's time, share and memory, and what libraries take for the same."""
    periods = {name: min(int(value), LONGEST) for name, value in entry.defaults.items() if name.endswith(PERIOD)}
    values = entry.values(periods)
    ours = of_entry(entry, values, task, small)
    theirs = [of_library(make(copies(ours), values)) for make, _ in libraries]
    period = max([1, *periods.values()])
    memory, apart = compared(ours, theirs, period - 1 + COMPARED)
    mine, *seconds = timed([ours, *theirs], period, rounds)
    found = sorted(zip(seconds, [them.name for them in theirs], apart, [why for _, why in libraries], strict=True))
    told = [
        f"{name} {taken / mine:.2f}" + (f" ({far:.2g} apart: {why or 'unexplained'})" if far > BAND else "")
        for taken, name, far, why in found
    ]
    slower = [name for taken, name, *_ in found if taken < (1 - NOISE) * mine]
    step = mine * task.model.layers / small.model.layers
    return [
        f"{1e3 * step:,.1f}", f"{100 * step / (step + training):.2g}%", f"{memory / 2**20:,.0f}",
        f"{min(seconds) / mine:.2f}x" if seconds else "-", ", ".join(told) or "-",
        f"slower than {', '.join(slower)}" if slower else "",
    ]  # fmt: skip


@dataclass(frozen=True)
class Contender:
    """Optimizers with weights of their own; a library's weight may be a block of one of ours."""

    name: str
    weights: list[Parameter]
    optimizers: list[Optimizer]
    blocks: list[int]  # of each weight

    def load(self, gradients: list[Tensor]) -> None:
        """Copy gradients in place, cut as the weights are: some optimizers write over them."""
        flat = torch.cat([g.flatten() for g in gradients])
        for w, g in zip(self.weights, flat.split([w.numel() for w in self.weights]), strict=True):
            w.grad = g.view_as(w).clone() if w.grad is None else w.grad.copy_(g.view_as(w))

    def step(self) -> None:
        for optimizer in self.optimizers:
            optimizer.step()

    def flat(self) -> Tensor:
        return torch.cat([w.detach().flatten() for w in self.weights])


def of_entry(entry: Entry, values: dict[str, Value], task: Task, small: Task) -> Contender:
    """Return the entry with the blocks' weights that it claims; a matrix method's fused weights count as several."""
    model = build_model(small.model, task.training.context, seed=0).to(DEVICE)
    roles = roles_of(model)
    blocks = Roles(roles.hidden, (), (), roles.vectors)
    steps, batch = task.steps(1.0), task.training.batch_tokens
    run = Run(steps, steps * batch, batch, DEVICE, torch.Generator(DEVICE).manual_seed(0))
    optimizers = build_entry(entry, values, blocks, run)
    claims = {w for optimizer in optimizers for group in optimizer.param_groups for w in group["params"]}
    counts = {matrix.weight: len(matrix.blocks) for matrix in roles.hidden if entry.facts.family != "element-wise"}
    weights = [w for w in blocks.all if w in claims]
    return Contender("ours", weights, optimizers, [counts.get(w, 1) for w in weights])


def of_library(optimizer: Optimizer) -> Contender:
    weights = [w for group in optimizer.param_groups for w in group["params"]]
    return Contender(type(optimizer).__module__.split(".")[0], weights, [optimizer], [1] * len(weights))


def copies(ours: Contender) -> list[Parameter]:
    pairs = zip(ours.weights, ours.blocks, strict=True)
    return [Parameter(part.clone()) for w, count in pairs for part in w.detach().chunk(count)]


def gradients_at(step: int, weights: list[Parameter]) -> list[Tensor]:
    """Return the gradients of a step, the same for all, about as large as clipping leaves them."""
    generator = torch.Generator(DEVICE).manual_seed(step)
    return [torch.randn(w.shape, generator=generator, device=DEVICE).mul_(1e-3) for w in weights]


def compared(ours: Contender, theirs: list[Contender], steps: int) -> tuple[int, list[float]]:
    """Make the first steps: return our extra memory, and how far each library's displacement of a weight was at most.

    The first step makes the state, which is not extra.
    """
    memory, furthest = 0, [0.0] * len(theirs)
    for step in range(steps):
        gradients, moved = gradients_at(step, ours.weights), []
        for contender in (ours, *theirs):
            before = contender.flat()
            contender.load(gradients)
            if contender is ours and step:
                memory = max(memory, peak_bytes(contender.step))
            else:
                contender.step()
            moved.append((contender.flat() - before).split([w.numel() for w in ours.weights]))
        for index, displaced in enumerate(moved[1:]):
            for a, b in zip(moved[0], displaced, strict=True):
                if a.any() or b.any():
                    furthest[index] = max(furthest[index], float((a - b).norm() / b.norm().clamp(min=1e-12)))
    return memory, furthest


def timed(contenders: list[Contender], period: int, rounds: int) -> list[float]:
    """Return each one's median seconds a step; they take turns, and nobody is always first."""
    taken: list[list[float]] = [[] for _ in contenders]
    for turn in range(rounds):
        order = list(enumerate(contenders))
        for index, contender in reversed(order) if turn % 2 else order:
            spent = 0.0
            for step in range(period):
                contender.load(gradients_at(step, contenders[0].weights))
                spent += seconds_of(contender.step)
            taken[index].append(spent / period)
    return [statistics.median(times) for times in taken]


def seconds_of(work: Callable[[], object]) -> float:
    if DEVICE.type == "cpu":
        start = time.process_time()
        work()
        return time.process_time() - start
    torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def peak_bytes(work: Callable[[], object]) -> int:
    """Return the most bytes that tensors made by some work take at once."""
    if DEVICE.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as seen:
        work()
    changes = [event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = most = 0
    for event in sorted(changes, key=lambda event: event.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most


def training_seconds(task: Task, small: Task, compiled: bool) -> float:
    """Return the seconds of the forward and backward passes of the task's batch."""
    training = task.training
    sequences = training.micro_batch_sequences if DEVICE.type == "cuda" else max(1, CPU_TOKENS // training.context)
    model = build_model(small.model, training.context, seed=0).to(DEVICE)
    losses_of = partial(sequence_losses, model)
    if compiled:
        losses_of = torch.compile(losses_of, dynamic=False)
    tokens = torch.randint(0, task.model.vocabulary, (sequences, training.context + 1), device=DEVICE)
    taken = [seconds_of(lambda: losses_of(tokens).mean().backward()) for _ in range(4)]
    done = sequences * training.context * small.flops_per_token
    return statistics.median(taken[1:]) * training.batch_tokens * task.flops_per_token / done


if __name__ == "__main__":
    sys.exit(main())
