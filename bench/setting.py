"""A request on a machine: which device and ranks, how many threads, compiled or not, and with that its run_id."""

import getpass
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from bench.assemble import Hardware, Request, micro_batch_of
from bench.errors import BenchError
from bench.machine import compiler, machine_facts, make_deterministic
from bench.record import Inputs, Machine
from bench.standin import standing_in
from bench.train import Progress
from bench.workers import start


@dataclass(frozen=True)
class Places:
    """Where a run reads and writes."""

    data: Path
    work: Path  # checkpoints of runs under way
    records: Path
    weights: Path | None = None  # what finished float runs were evaluated at, a folder each; None: they are not kept


@dataclass(frozen=True)
class Watch:
    """What a run tells whoever looks on."""

    say: Callable[[str], None] = lambda line: None
    progress: Callable[[Progress, int, int], None] = lambda progress, steps, batch_tokens: None


@dataclass(frozen=True)
class Setting:
    """What a run_id is made of, and who asks."""

    request: Request
    machine: Machine
    inputs: Inputs
    hardware: Hardware
    who: str


def settle(request: Request, watch: Watch, compiled: bool | None = None) -> Setting:
    """Fix what the run depends on; without a C++ compiler it runs eagerly, says so, and records it.

    On a CPU the ranks of a machine share the task's threads.
    """
    training = request.task.training
    cuda = _device_type(request.device) == "cuda"
    workers = start(cuda)
    device = torch.device("cuda", workers.local_rank) if cuda else torch.device("cpu")
    threads = training.threads if cuda else max(1, training.threads // workers.local_ranks)
    make_deterministic(threads)
    wanted = training.compiled if compiled is None else compiled
    compiled = wanted and (cuda or compiler() is not None)
    if wanted and not compiled and workers.rank == 0:
        watch.say("no C++ compiler ($CXX or g++) was found: running eagerly, which is slower; the record says so")
    micro_batch = micro_batch_of(request.task, workers.ranks, request.micro_batch)
    own = None if micro_batch == training.micro_batch_sequences else micro_batch
    machine = machine_facts(device, threads, compiled).model_copy(
        update={"ranks": workers.ranks, "micro_batch_sequences": own}
    )
    machine = standing_in(machine, request.task.digest, request.entry.path.parent.name, request.mode)
    return Setting(request, machine, request.inputs(machine), Hardware(device, compiled, workers, own), who())


def _device_type(asked: str | None) -> str:
    there = torch.cuda.is_available()
    if asked == "cuda" and not there:
        built = "sees none" if torch.version.cuda else "is built without CUDA"
        raise BenchError(
            f"--device cuda: no GPU can be used: this torch ({torch.__version__}) {built}",
            "check the driver with nvidia-smi, install a torch built for it, or leave --device out to run on the CPU",
        )
    return asked or ("cuda" if there else "cpu")


def who() -> str:
    """Return who makes the record: BENCH_WHO, or the name of the account."""
    try:
        name = os.environ.get("BENCH_WHO") or getpass.getuser()
    except (KeyError, OSError):  # an account without a name, as in containers
        name = "unknown"
    return name[:100]
