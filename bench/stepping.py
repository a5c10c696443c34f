"""Step times of two entries, interleaved on one machine: A B B A, with a canary before and after (protocol F)."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.assemble import Assembly, Request, assemble
from bench.clock import Clock
from bench.entry import Entry
from bench.errors import BenchError
from bench.run import warm_up
from bench.setting import Setting, Watch, settle
from bench.task import Task
from bench.timings import Turn
from bench.train import Progress, train

STEPS, TURNS = 32, 5
CANARY_MOVES = 0.03  # by which the canary may move between before and after
OTHERS = 0.05  # of a core, that other programs may take meanwhile
CANARY_SIZE, CANARY_REPEATS, CANARY_LAPS = 512, 40, 9


@dataclass
class Arm:
    """One of the two: its run, and the weights it has come to; both may step the same compiled model in turn."""

    assembly: Assembly
    progress: Progress
    weights: dict[str, Tensor]
    peak_bytes: int = 0

    def go(self, steps: int) -> float:
        """Train so many steps on and return the seconds for a batch of the task's tokens.

        That is a step's seconds, but for who reads more or less in a step. What is not a step is outside the clock.
        """
        assembly = self.assembly
        assembly.model.load_state_dict(self.weights)
        course = replace(assembly.course, stop_after=self.progress.step + steps, curve_every=assembly.course.steps + 1)
        _wait(assembly.parts.device, reset=True)
        clock, before = Clock(), self.progress.tokens
        train(assembly.parts, course, self.progress, clock, lambda must: None, lambda now: None)
        self.peak_bytes = max(self.peak_bytes, _wait(assembly.parts.device))
        self.weights = {name: w.detach().clone() for name, w in assembly.model.state_dict().items()}
        return clock.seconds * course.batch_tokens / (self.progress.tokens - before)


def measure_steps(
    task_name: str, task: Task, reference: Entry, entry: Entry, mode: str, data_folder: Path, watch: Watch,
    steps: int = STEPS, turns: int = TURNS,
) -> tuple[Setting, dict[str, Any]]:  # fmt: skip
    """Return the entry's setting, and what a timing says of its steps against the reference's.

    Each starts at its declared values: a step's time hardly depends on them. Both go through as many steps before the
    first turn, which is where states are made and kernels compiled. A machine on which the canary moves, or other
    programs run, is refused: a load that is steady moves no canary, and may slow one entry more than the other.
    """
    budget = max(task.budget.rungs)
    if steps * (2 * turns + 1) > task.steps(budget):
        raise BenchError(
            f"{turns} turns of 2 x {steps} steps are more than the {task.steps(budget)} of the longest rung",
            "give fewer --turns or --steps",
        )
    arms = []
    for one in (reference, entry):
        request = Request(task_name, task, one, one.values({}), mode, budget, "declared", 0)
        setting = settle(request, watch)
        arms.append(_arm(assemble(request, data_folder, setting.hardware), steps))
    device = arms[0].assembly.parts.device
    before, load = canary(device), Load()
    found = []
    for number in range(turns):
        a, b, bb, aa = (arms[which].go(steps) for which in (0, 1, 1, 0))
        found.append(Turn(reference=(a, aa), entry=(b, bb)))
        watch.say(f"turn {number + 1} of {turns}: {entry.name} at {found[-1].ratio:.3f} of {reference.name}'s step")
    others = load.others()
    after = canary(device)
    check_canary(before, after)
    check_alone(others)
    peaks = (arms[0].peak_bytes, arms[1].peak_bytes) if device.type == "cuda" else None
    return setting, {
        "steps": steps,
        "turns": [turn.model_dump(mode="json") for turn in found],
        "canary": [before, after],
        "others": others,
        "device_peak_bytes": peaks,
    }


def _arm(assembly: Assembly, steps: int) -> Arm:
    warm_up(assembly)
    weights = {name: w.detach().clone() for name, w in assembly.model.state_dict().items()}
    arm = Arm(assembly, Progress(curve=[{"tokens": 0}]), weights)
    arm.go(steps)
    arm.peak_bytes = 0
    return arm


def canary(device: torch.device, now: Callable[[], float] = time.perf_counter) -> float:
    """Return the median seconds of fixed work that no entry has a part in: products of two bf16 matrices."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(CANARY_SIZE, CANARY_SIZE, generator=generator).to(device, torch.bfloat16) for _ in range(2))
    laps = []
    for _ in range(CANARY_LAPS + 1):  # the first one warms up
        start = now()
        for _ in range(CANARY_REPEATS):
            a @ b
        _wait(device)
        laps.append(now() - start)
    return sorted(laps[1:])[CANARY_LAPS // 2]


def check_canary(before: float, after: float) -> None:
    """Refuse a measurement during which the machine itself changed its pace."""
    moved = abs(after / before - 1)
    if moved > CANARY_MOVES:
        raise BenchError(
            f"the canary moved by {moved:.1%} while steps were timed (at most {CANARY_MOVES:.0%} is taken)",
            "measure on a machine that does nothing else, at a fixed clock if it has one",
        )


class Load:
    """What other programs take of the processors from now on; Linux tells (proc_stat(5)), other systems do not."""

    def __init__(self) -> None:
        self.start = _clocks()

    def others(self) -> float | None:
        """Return their share, in cores."""
        then, now = self.start, _clocks()
        if then is None or now is None:
            return None
        wall, own, busy = (after - before for before, after in zip(then, now, strict=True))
        return max(0.0, busy - own) / wall


def _clocks() -> tuple[float, float, float] | None:
    """Return the seconds that have passed, that this process has computed for, and that all processors have."""
    own = os.times()
    try:
        with open("/proc/stat") as file:
            user, nice, system, _idle, _waiting, *other = map(int, file.readline().split()[1:9])
    except (OSError, ValueError):
        return None
    ticks = user + nice + system + sum(other)  # interrupts, and what a host took from a virtual machine
    return own.elapsed, own.user + own.system, ticks / os.sysconf("SC_CLK_TCK")


def check_alone(others: float | None) -> None:
    """Refuse a measurement beside which other programs ran."""
    if others is not None and others > OTHERS:
        raise BenchError(
            f"other programs took {others:.0%} of a core while steps were timed (at most {OTHERS:.0%} is taken)",
            "measure on a machine that does nothing else",
        )


def _wait(device: torch.device, reset: bool = False) -> int:
    """Wait for queued work and return the device's peak bytes since the last reset; none are known of a CPU."""
    if device.type != "cuda":
        return 0
    torch.cuda.synchronize(device)
    peak = torch.cuda.max_memory_allocated(device)
    if reset:
        torch.cuda.reset_peak_memory_stats(device)
    return peak
