"""The machine: what moves the bits of a run, how much memory it took, and the switches that make it repeat."""

import ctypes
import functools
import gc
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import torch

from bench.digest import digest_of
from bench.record import Machine

SWITCHES = re.compile(r"(ONEDNN|DNNL|MKL|KMP|ATEN|NVIDIA_TF32|TORCH_ALLOW_TF32|TORCHINDUCTOR)_(?!CACHE|VERBOSE).*")
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of mallopt(3)
# Libraries whose version can move a number; the lock is the digest of what is installed of them.
LOCKED = ("numpy", "tokenizers", "torch", "transformers", "triton")


def make_deterministic(threads: int) -> None:
    """Make equal runs end with equal bits: deterministic kernels, fixed workspaces, no autotuning, fixed threads."""
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    torch.set_float32_matmul_precision("highest")  # no TF32, whatever the environment says
    torch.backends.cudnn.allow_tf32 = False
    torch.set_num_threads(threads)
    _keep_freed_memory()


def _keep_freed_memory() -> None:
    """Have glibc keep freed blocks, however large, instead of giving them back and asking for zeroed pages again.

    On a CPU a step frees and takes gigabytes: two million page faults, a third of the time of a llama-60m step. No bit
    depends on it. Who has set glibc's own variables is left alone.
    """
    if any(name.startswith("MALLOC_") for name in os.environ):
        return
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
    except (OSError, AttributeError):  # another libc
        return


@functools.cache
def compiler() -> str | None:
    """Return the C++ compiler that torch.compile would use, with its version, or None where there is none."""
    path = shutil.which(os.environ.get("CXX") or "g++")
    if path is None:
        return None
    try:
        said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    version = re.search(r"\d+\.\d+(\.\d+)?", said)
    return f"{Path(path).name} {version.group() if version else said.splitlines()[0]}"


def machine_facts(device: torch.device, threads: int, compiled: bool) -> Machine:
    return Machine(
        processor=_processor(device),
        instructions=_instructions(device),
        threads=threads,
        compiler=compiler() if compiled else None,
        compiled=compiled,
        switches=kernel_switches(),
        lock=environment_lock(),
    )


def kernel_switches() -> dict[str, str]:
    """Return the variables that choose kernels, where set: two runs under different ones are of two machine kinds."""
    return {name: value for name, value in sorted(os.environ.items()) if SWITCHES.match(name)}


def environment_lock() -> str:
    return digest_of({"python": platform.python_version(), **installed_versions()})


def installed_versions() -> dict[str, str]:
    found = {}
    for name in LOCKED:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _processor(device: torch.device) -> str:
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    facts = dict(re.split(r"\s*:\s*", line, maxsplit=1) for line in lines if ":" in line)
    name = facts.get("model name", platform.machine())
    return f"{name} (family {facts.get('cpu family')}, model {facts.get('model')})"


def _instructions(device: torch.device) -> str:
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        return f"compute {major}.{minor}, CUDA {torch.version.cuda}"
    widest = torch.backends.cpu.get_cpu_capability()
    try:
        flags = set(re.findall(r"\b(?:avx512_bf16|amx_bf16)\b", Path("/proc/cpuinfo").read_text()))
    except OSError:
        flags = set()
    return "+".join([widest, *sorted(flags)])


def reset_peak_memory(device: torch.device) -> None:
    """Give back what earlier runs of this process held, and start the peak anew."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    else:
        with suppress(OSError):
            ctypes.CDLL("libc.so.6").malloc_trim(0)
    forget_peak_memory(device)


def forget_peak_memory(device: torch.device) -> None:
    """Start the peak anew, and give nothing back."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):  # the peak is then that of the process, an upper bound
        Path("/proc/self/clear_refs").write_text("5")  # Linux: forget the peak resident size


def peak_memory_bytes(device: torch.device) -> int | None:
    """Return the most memory held since the reset: allocated on a GPU, resident in the process on a CPU."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    peak = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(peak.group(1)) * 1024 if peak else None
