"""What a run measured: its final losses, and the proof that the protocol held, read off the run itself."""

import statistics
from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from bench.assemble import Assembly, claimed
from bench.digest import digest_of
from bench.evaluate.final import Final
from bench.model import weights_digest
from bench.record import Log, Milestone, Point
from bench.train import Course, Progress

LONGEST_COLUMN = 8_192  # per-step values kept in a log


def measured(assembly: Assembly, progress: Progress, final: Final | None) -> dict[str, Any]:
    """Return the measured part of a record."""
    tokens = progress.step * assembly.course.batch_tokens
    facts = protocol_facts(assembly, progress)
    laps = progress.lap_step_seconds
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
            "final": weights_digest(assembly.model),
            "evaluated": final.evaluated if final else None,
        },
        "facts": facts,
        "cost": {
            "train_seconds": round(progress.train_seconds, 3),
            "step_seconds": round(statistics.median(laps), 6) if laps else None,
            "peak_memory_bytes": progress.peak_memory_bytes,
        },
    }


def state_tensors(optimizers: Iterable[Optimizer]) -> Iterator[Tensor]:
    """Yield every tensor that optimizers hold beside the parameters, except step counts and the like (no dimension)."""
    for optimizer in optimizers:
        yield from _tensors(list(optimizer.state.values()))
        for group in optimizer.param_groups:
            yield from _tensors([value for name, value in group.items() if name != "params"])


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor) and value.ndim:
        yield value
    elif isinstance(value, list | tuple | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _tensors(part)


def protocol_facts(assembly: Assembly, progress: Progress) -> dict[str, Any]:
    """Return the record's `facts`."""
    weights = assembly.roles.all
    states = list(state_tensors(assembly.parts.optimizers))
    clip, schedule = assembly.course.clip, assembly.schedule
    return {
        "weight_dtypes": sorted({_dtype(w) for w in weights}),
        "state_dtypes": sorted({_dtype(s) for s in states}),
        "state_bytes_per_parameter": round(sum(s.nbytes for s in states) / sum(w.numel() for w in weights), 4),
        "partition": partition(assembly),
        "schedule": schedule,
        "last_multiplier": _last_multiplier(assembly.course, progress),
        "clip": clip,
        "clip_rate": None if clip is None or not progress.norms else _share_above(progress.norms, clip),
        "update_rms": _mean_update_rms(progress),
        "passes": 1.0,
        "epochs": round(progress.step * assembly.course.batch_tokens / assembly.text_tokens, 4),
        "validation": digest_of([assembly.tokens[half].digest for half in ("select", "score")]),
    }


def _last_multiplier(course: Course, progress: Progress) -> float | None:
    return course.multiplier((progress.step - 1) * course.batch_tokens) if progress.step else None


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
