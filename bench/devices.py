"""Devices by name, with what their vendors promise: the one place where a device's peak and memory are written down.

Peaks are dense bfloat16 products summed in fp32, at the boost clock: half of what a data sheet prints "with sparsity".
Memory is the data sheet's gigabytes as 10^9 bytes, which leaves a few percent for the driver and for fragmentation.
"""

import re
from dataclasses import dataclass

from bench.errors import BenchError, did_you_mean

GB = 10**9
TERA = 10**12


@dataclass(frozen=True)
class Device:
    title: str
    peak_flops: float  # dense bf16 operations per second
    memory_bytes: int
    source: str
    reported: str  # regular expression of what the driver calls it


DEVICES = {
    "h100": Device("NVIDIA H100 SXM", 989e12, 80 * GB, "NVIDIA H100 data sheet", r"H100 80GB HBM3"),
    "h100-pcie": Device("NVIDIA H100 PCIe", 756e12, 80 * GB, "NVIDIA H100 data sheet", r"H100 PCIe"),
    "h200": Device("NVIDIA H200 SXM", 989e12, 141 * GB, "NVIDIA H200 data sheet", r"H200(?! NVL)"),
    "b200": Device("NVIDIA B200", 2250e12, 180 * GB, "NVIDIA HGX B200 data sheet, an eighth", r"\bB200"),
    "a100-40gb": Device("NVIDIA A100 40 GB", 312e12, 40 * GB, "NVIDIA A100 data sheet", r"A100\S*[- ]40GB"),
    "a100-80gb": Device("NVIDIA A100 80 GB", 312e12, 80 * GB, "NVIDIA A100 data sheet", r"A100\S*[- ]80GB"),
    "l40s": Device("NVIDIA L40S", 362.05e12, 48 * GB, "NVIDIA L40S data sheet", r"L40S"),
    "rtx-4090": Device("NVIDIA GeForce RTX 4090", 165.2e12, 24 * GB, "NVIDIA Ada whitepaper, appendix A", r"RTX 4090$"),
    "rtx-3090": Device("NVIDIA GeForce RTX 3090", 71e12, 24 * GB, "NVIDIA GA102 whitepaper, appendix A", r"RTX 3090$"),
    "mi300x": Device("AMD Instinct MI300X", 1307.4e12, 192 * GB, "AMD MI300X data sheet", r"MI300X"),
}


def device_named(name: str) -> Device:
    """Return the named device; an unknown name is refused with the nearest one."""
    if name.lower() not in DEVICES:
        raise BenchError(
            f"--device {name}: no such device is known{did_you_mean(name.lower(), DEVICES)}",
            f"known: {', '.join(DEVICES)}",
        )
    return DEVICES[name.lower()]


def device_reported(driver_name: str) -> Device | None:
    """Return the device that the driver gives this name, as 'NVIDIA H100 80GB HBM3', or None for one not known."""
    return next((device for device in DEVICES.values() if re.search(device.reported, driver_name)), None)
