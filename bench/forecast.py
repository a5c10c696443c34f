"""What a task costs before anyone runs it: operations, memory, device-hours, money, and the floor of the loss."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from tabulate import tabulate

from bench.devices import Device, device_named
from bench.errors import BenchError
from bench.memory import Memory, largest_micro_batch, step_memory
from bench.task import SyntheticText, Task, rung_name

MFU = 0.4  # share of a device's peak that training reaches: an assumption, until `make speed` has measured yours


@dataclass(frozen=True)
class Purchase:
    """On what a task is to be run, and at what price. We publish no price: there is one only where it is given."""

    device: str | None = None
    devices: int = 1
    price: float | None = None  # of a device for an hour, in any currency
    mfu: float = MFU
    micro_batch: int | None = None  # sequences; the task's where not given


def forecast(name: str, task: Task, purchase: Purchase | None = None) -> dict[str, Any]:
    """Return the facts of `bench task`, for a script; hours and costs are null where no device or price is given."""
    purchase = purchase or Purchase()
    device = _device(purchase)
    micro_batch = _micro_batch(task, purchase)
    memory = step_memory(task, micro_batch, purchase.devices)
    return {
        "task": name,
        "version": task.version,
        "digest": task.digest,
        "summary": task.summary,
        "parameters": task.parameters,
        "non_embedding_parameters": task.matrix_parameters + task.vector_parameters,
        "batch_tokens": task.training.batch_tokens,
        "flops_per_token": task.flops_per_token,
        "micro_batch": micro_batch,
        "memory": asdict(memory),
        "memory_bytes": memory.total,
        "device": None if device is None else _on_device(task, purchase, device, memory),
        "loss_floor": _floor(task),
        "rungs": [_rung(task, rung, purchase, device) for rung in task.budget.rungs],
    }


def _device(purchase: Purchase) -> Device | None:
    if purchase.devices < 1 or not 0 < purchase.mfu <= 1:
        raise BenchError("--devices must be at least 1, and --mfu above 0 and at most 1")
    if purchase.price is not None and not 0 <= purchase.price < math.inf:
        raise BenchError(f"--price must be a finite number, got {purchase.price}")
    if purchase.device is not None:
        return device_named(purchase.device)
    if purchase.price is not None:
        raise BenchError("--price needs --device: hours follow from what a device can do", "as --device h100")
    return None


def _micro_batch(task: Task, purchase: Purchase) -> int:
    """Return the sequences of a forward pass, by the rules of a run: equal shares of the batch, in equal pieces."""
    batch = task.training.batch_sequences
    if batch % purchase.devices:
        raise BenchError(
            f"a batch of {batch} sequences cannot be shared by {purchase.devices} devices",
            f"it can by {_divisors(batch)}",
        )
    share = batch // purchase.devices
    micro_batch = purchase.micro_batch or min(task.training.micro_batch_sequences, share)
    if share % micro_batch:
        raise BenchError(
            f"a device's {share} sequences of the batch are no multiple of a micro-batch of {micro_batch}",
            f"choose --micro-batch among {_divisors(share)}",
        )
    return micro_batch


def _divisors(number: int) -> str:
    return ", ".join(str(n) for n in range(1, number + 1) if number % n == 0)


def _on_device(task: Task, purchase: Purchase, device: Device, memory: Memory) -> dict[str, Any]:
    share = task.training.batch_sequences // purchase.devices
    return {
        "name": purchase.device,
        "title": device.title,
        "peak_flops": device.peak_flops,
        "memory_bytes": device.memory_bytes,
        "source": device.source,
        "count": purchase.devices,
        "mfu": purchase.mfu,
        "price": purchase.price,
        "fits": memory.total <= device.memory_bytes,
        "largest_micro_batch": largest_micro_batch(task, share, purchase.devices, device.memory_bytes),
    }


def _rung(task: Task, rung: float, purchase: Purchase, device: Device | None) -> dict[str, Any]:
    """Return what a run of this rung takes; evaluation, compilation and a method's own work are not in the hours."""
    flops = task.tokens(rung) * task.flops_per_token
    hours = None if device is None else flops / (device.peak_flops * purchase.mfu) / 3600
    return {
        "rung": rung_name(rung),
        "tokens": task.tokens(rung),
        "steps": task.steps(rung),
        "flops": flops,
        "device_hours": hours,
        "wall_hours": None if hours is None else hours / purchase.devices,
        "cost": None if hours is None or purchase.price is None else hours * purchase.price,
    }


def _floor(task: Task) -> float | None:
    """Return the entropy rate of a generated language in nats per token; real text has none that is known."""
    if not isinstance(task.data, SyntheticText):
        return None
    from bench.data.synthetic import entropy_rate

    return entropy_rate(task.data)


def render_forecast(facts: dict[str, Any]) -> str:
    lines = [
        f"{facts['task']} (version {facts['version']}): {facts['summary']}",
        f"  {facts['parameters']:,} parameters, {facts['non_embedding_parameters']:,} without embeddings",
        f"  {facts['batch_tokens']:,} tokens a step, {facts['flops_per_token']:.3g} operations a token",
        *_memory_lines(facts),
    ]
    if facts["loss_floor"] is not None:
        lines.append(f"  no model can end below {facts['loss_floor']:.4f} nats a token: the language's entropy rate")
    return "\n".join([*lines, "", _table(facts)])


def _memory_lines(facts: dict[str, Any]) -> list[str]:
    parts = ", ".join(f"{name} {_mib(size)}" for name, size in facts["memory"].items())
    lines = [
        f"  {_mib(facts['memory_bytes'])} MiB a device with AdamW, {facts['micro_batch']} sequences at a time:",
        f"    {parts}",
    ]
    device = facts["device"]
    if device is None:
        return lines
    largest = device["largest_micro_batch"]
    room = f"the largest micro-batch that does is {largest}" if largest else "no micro-batch does"
    return [
        *lines,
        f"    {'fits' if device['fits'] else 'does not fit'} {device['title']} "
        f"({device['memory_bytes'] / 1e9:g} GB, {device['source']}); {room}",
        f"  hours on {device['count']} x {device['title']} at {device['mfu']:.0%} of "
        f"{device['peak_flops'] / 1e12:g} bf16 TFLOP/s: an assumption, training only; `make speed` measures yours",
    ]


def _mib(size: int) -> str:
    return f"{size / 2**20:,.0f}"


def _whole(number: float) -> str:
    return f"{number:,.0f}"


def _digits(number: float) -> str:
    return f"{number:.3g}" if number < 100 else _whole(number)


def _table(facts: dict[str, Any]) -> str:
    """Return the rungs as a table; what nobody can know here has no column."""
    titles = {"flops": "operations", "device_hours": "device-hours", "wall_hours": "wall hours"}
    columns: dict[str, Callable[[Any], str]] = {
        "rung": str, "tokens": _whole, "steps": _whole, "flops": "{:.3g}".format, "device_hours": _digits,
        "wall_hours": _digits, "cost": "{:,.2f}".format,
    }  # fmt: skip
    known = [name for name in columns if facts["rungs"][0][name] is not None]
    rows = [[columns[name](rung[name]) for name in known] for rung in facts["rungs"]]
    headers = [titles.get(name, name) for name in known]
    align = ["left", *("right" for _ in known[1:])]
    return str(tabulate(rows, headers=headers, colalign=align, disable_numparse=True))
