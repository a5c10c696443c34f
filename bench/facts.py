"""What a run measured: its final losses, and the proof that the protocol held, read off the run itself."""

import statistics
from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from bench.assemble import Assembly
from bench.claims import claimed
from bench.digest import digest_of
from bench.errors import BenchError
from bench.evaluate.final import Final
from bench.model import weights_digest
from bench.quantize.proof import layer_facts
from bench.record import Log, Milestone, Point
from bench.train import Course, Progress
from bench.workers import Workers

LONGEST_COLUMN = 8_192  # per-step values kept in a log


def measured(assembly: Assembly, progress: Progress, final: Final | None, workers: Workers) -> dict[str, Any]:
    """Return the measured part of a record; workers are the ranks that measure it together."""
    tokens = progress.tokens
    facts = protocol_facts(assembly, progress, workers)
    if assembly.mode.quantizes:
        facts["quantization"] = final.quantization if final else layer_facts(assembly.model)
    laps = progress.lap_step_seconds
    last = weights_digest(assembly.model)
    alike = len(set(workers.gather(last))) == 1
    if not alike and final is not None:  # a rank may fail in a step that diverged, and leave it half done
        raise BenchError("the ranks ended with different weights", "this is a fault of the harness: please report it")
    return {
        "steps": progress.step,
        "tokens": tokens,
        "charged_tokens": tokens * facts["passes"],
        "initial_loss": progress.initial_loss,
        "select_loss": final.select_loss if final else None,
        "score_loss": final.score_loss if final else None,
        "chains": {"data": progress.data_chain or None, "loss": progress.loss_chain or None},
        "weights": {
            "initial": assembly.initial,
            "final": last,
            "evaluated": final.evaluated if final else None,
        },
        "facts": facts,
        "cost": {
            "train_seconds": round(progress.train_seconds, 3),
            "step_seconds": round(statistics.median(laps), 6) if laps else None,
            "peak_memory_bytes": progress.peak_memory_bytes,
            **_probe_cost(progress),
        },
    }


def state_tensors(optimizers: Iterable[Optimizer]) -> Iterator[Tensor]:
    """Yield every tensor that optimizers hold beside the parameters, except step counts and the like (no dimension)."""
    for optimizer in optimizers:
        for _, tensor in _placed(optimizer):
            yield tensor


def _placed(optimizer: Optimizer) -> Iterator[tuple[Any, Tensor]]:
    """Yield (the parameter it belongs to, or None, and a tensor of the state)."""
    for weight, state in optimizer.state.items():
        for tensor in _tensors(state):
            yield weight, tensor
    for group in optimizer.param_groups:
        for tensor in _tensors([value for name, value in group.items() if name != "params"]):
            yield None, tensor


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor) and value.ndim:
        yield value
    elif isinstance(value, list | tuple | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _tensors(part)


def state_facts(assembly: Assembly, workers: Workers) -> tuple[list[str], int]:
    """Return the dtypes of all state tensors and their bytes, what several ranks hold alike counted once."""
    apart = {w for owned in assembly.parts.owned for w in owned}
    dtypes, mine, alike = set(), 0, 0
    for optimizer in assembly.parts.optimizers:
        for place, tensor in _placed(optimizer):
            dtypes.add(_dtype(tensor))
            mine, alike = (mine + tensor.nbytes, alike) if place in apart else (mine, alike + tensor.nbytes)
    told = workers.gather((sorted(dtypes), mine))
    return sorted({dtype for found, _ in told for dtype in found}), alike + sum(own for _, own in told)


def protocol_facts(assembly: Assembly, progress: Progress, workers: Workers) -> dict[str, Any]:
    """Return the record's `facts`."""
    weights = assembly.roles.all
    dtypes, state_bytes = state_facts(assembly, workers)
    clip, schedule = assembly.course.clip, assembly.schedule
    return {
        "weight_dtypes": sorted({_dtype(w) for w in weights}),
        "state_dtypes": dtypes,
        "state_bytes_per_parameter": round(state_bytes / sum(w.numel() for w in weights), 4),
        "partition": partition(assembly),
        "schedule": schedule,
        "last_multiplier": _last_multiplier(assembly.course, progress),
        "clip": clip,
        "clip_rate": None if clip is None or not progress.norms else _share_above(progress.norms, clip),
        "update_rms": _mean_update_rms(progress),
        "passes": 1.0 + extra_passes(assembly.course, progress),
        "epochs": round(progress.tokens / assembly.text_tokens, 4),
        "validation": digest_of([assembly.tokens[half].digest for half in ("select", "score")]),
        **_probed(assembly, progress),
    }


def _last_multiplier(course: Course, progress: Progress) -> float | None:
    return course.multiplier(progress.last_seen) if progress.step else None


def extra_passes(course: Course, progress: Progress) -> float:
    """Return the passes of a probe's calls per token of the run; a fresh token's first is no extra one."""
    if not progress.probe or not progress.tokens:
        return 0.0
    charged: int = sum(calls["token_thirds"] for calls in progress.probe["calls"].values())
    fresh: int = 3 * progress.probe["fresh"] * course.context
    return (charged - fresh) / (3 * progress.tokens)


def _probed(assembly: Assembly, progress: Progress) -> dict[str, Any]:
    """Return the facts of a run whose entry has a probe, or chooses its batches; nothing of others."""
    facts: dict[str, Any] = {}
    context = assembly.course.context
    if progress.probe:
        facts["probe"] = {
            "calls": {kind: calls["calls"] for kind, calls in progress.probe["calls"].items()},
            "fresh_tokens": progress.probe["fresh"] * context,
            "way": progress.probe["way"],
        }
    if assembly.parts.controller and progress.batches:
        sizes = [progress.batches[0], progress.batches[-1], max(progress.batches)]
        facts["batches"] = dict(zip(("first", "last", "largest"), (size * context for size in sizes), strict=True))
    return facts


def _probe_cost(progress: Progress) -> dict[str, Any]:
    calls = progress.probe.get("calls", {})
    cost = {
        kind: {"seconds": round(found["seconds"], 3), "peak_memory_bytes": found["peak_memory_bytes"]}
        for kind, found in calls.items()
    }
    return {"probe": cost} if cost else {}


def _share_above(norms: list[float], clip: float) -> float:
    return round(sum(norm > clip for norm in norms) / len(norms), 6)


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def partition(assembly: Assembly) -> dict[str, dict[str, int]]:
    """Return how many parameters of each role the entry and the harness train."""
    claims = set(claimed(assembly.entry_optimizers, assembly.roles))
    return {
        role: {
            "entry": sum(w.numel() for w in weights if w in claims),
            "harness": sum(w.numel() for w in weights if w not in claims),
        }
        for role, weights in assembly.roles.by_name.items()
        if weights
    }


def _mean_update_rms(progress: Progress) -> dict[str, float]:
    samples = [milestone["update_rms"] for milestone in progress.milestones if milestone["update_rms"]]
    roles = samples[0] if samples else {}
    return {role: float(f"{sum(sample[role] for sample in samples) / len(samples):.6g}") for role in roles}


def log_of(progress: Progress, final: Final | None) -> Log:
    stride = -(-max(1, len(progress.losses)) // LONGEST_COLUMN)
    return Log(
        stride=stride,
        loss=tuple(_finite(progress.losses[::stride])),
        gradient_norm=tuple(_finite(progress.norms[::stride])),
        curve=tuple(Point(**point) for point in progress.curve),
        milestones=tuple(Milestone(**milestone) for milestone in progress.milestones),
        score_blocks=final.score_blocks if final else (),
    )


def _finite(values: list[float]) -> list[float | None]:
    """Return fp32 values at nine digits, which is exact, with null for what is no number."""
    return [float(f"{value:.9g}") if abs(value) < float("inf") else None for value in values]
