"""Start a command once for every device of this machine, by torch's elastic agent, and say in one line how it ended."""

import contextlib
import ctypes
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.errors import BenchError, PeerLost

LAUNCHED = "BENCH_LAUNCHED"  # in a rank's environment: who started it tells how it ended
PR_SET_PDEATHSIG = 1  # of prctl(2)
LOST = PeerLost.status
FAULTS = (signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL)  # the last line may say why
GOES_ON = "nothing is lost: the same command goes on from the last checkpoint"


def die_with_launcher() -> None:
    """Have the kernel end this rank when who launched it is killed: an orphan would hold on to its run."""
    with contextlib.suppress(OSError, AttributeError):  # not Linux
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def launch(ranks: int, arguments: Sequence[str], device: str | None = None) -> int:
    """Run `bench <arguments>` as so many ranks of one run and return the exit status; rank 0 speaks for all."""
    import torch
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    _check(ranks, device, torch.cuda.device_count(), len(os.sched_getaffinity(0)))
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL + 1)  # it prints what we say below
    os.environ.update({LAUNCHED: "1", "TORCH_CPP_LOG_LEVEL": "ERROR"})
    with tempfile.TemporaryDirectory(prefix="bench-ranks-") as logs:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=ranks,
            run_id="bench",
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",  # a port that is free
            local_addr="localhost",
            max_restarts=0,  # a run goes on by the same command; a fault that comes back must be seen
            monitor_interval=0.2,
            logs_specs=DefaultLogsSpecs(log_dir=logs, redirects=dict.fromkeys(range(1, ranks), Std.ALL)),
        )
        try:
            elastic_launch(config, sys.executable)("-m", "bench", *arguments)
        except ChildFailedError as error:
            return _ended({rank: failure.exitcode for rank, failure in error.failures.items()}, Path(logs))
        except (SignalException, KeyboardInterrupt):
            print(f"stopped: {GOES_ON.partition(': ')[2]}", file=sys.stderr)
            return 130
    return 0


def leave_group() -> None:
    """Close a rank's connections before its interpreter ends: threads that gloo leaves running may abort it then."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def torchrun_line(nodes: int, devices: int, arguments: Sequence[str]) -> str:
    """Return what to start on every node of a cluster, with the first node's address in HOST."""
    return (
        f"torchrun --nnodes {nodes} --nproc-per-node {devices} --rdzv-backend c10d --rdzv-endpoint $HOST:29500 "
        f"--rdzv-id isoloss -m bench {' '.join(arguments)}"
    )


def _check(ranks: int, device: str | None, gpus: int, cores: int) -> None:
    if device == "cpu":
        return
    if (gpus or device == "cuda") and ranks > gpus:
        raise BenchError(f"--devices {ranks}: this machine has {gpus or 'no'} GPU{'s' * (gpus > 1)} that torch can use")
    if not gpus and ranks > cores:
        raise BenchError(
            f"--devices {ranks}: this machine has no GPU that torch can use, and {cores} cores",
            f"use at most --devices {cores}, or say --device cpu to put several ranks on a core",
        )


def _ended(statuses: dict[int, int], logs: Path) -> int:
    """Say why the ranks ended, where rank 0 has not said it itself, and return the exit status."""
    cause = {rank: status for rank, status in statuses.items() if status not in (LOST, -signal.SIGTERM)} or statuses
    rank, status = next(iter(sorted(cause.items())))
    if rank == 0 and status > 0 and status != LOST:
        return status
    if status > 0 and status != LOST:
        print(f"error: {_last_words(logs, rank)}", file=sys.stderr)
        return 1
    how = f"was killed ({signal.Signals(-status).name})" if status < 0 else "lost the others"
    said = _stderr(logs, rank).rpartition("\n")[2] if -status in FAULTS else ""
    print(f"error: rank {rank} {how}{said and f': {said}'}\n  {GOES_ON}", file=sys.stderr)
    return 1


def _last_words(logs: Path, rank: int) -> str:
    """Return what a rank whose output nobody sees said at its end: its error with the hint, else its last line."""
    said = _stderr(logs, rank)
    words = said.rpartition("error: ")[2] if "error: " in said else said.rpartition("\n")[2] or "ended without a word"
    return words if words.startswith("rank ") else f"rank {rank}: {words}"


def _stderr(logs: Path, rank: int) -> str:
    return "\n".join(path.read_text(errors="replace") for path in logs.rglob(f"{rank}/stderr.log")).strip()
