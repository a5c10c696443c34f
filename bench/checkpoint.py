"""Checkpoints: written atomically, named by their own digest, the last two kept, a damaged one passed over."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from bench.digest import digest_of_bytes
from bench.errors import BenchError
from bench.record import write_atomically
from bench.workers import ALONE, Workers

KEPT = 2


def save(folder: Path, step: int, state: dict[str, Any]) -> Path:
    """Write the state after `step` steps as step-<step>-<digest>.pt, then drop all but the last two."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    data = buffer.getvalue()
    if not _newest_first(folder):
        _load(data)  # what cannot be loaded must be known at the first checkpoint, not at the first resumption
    path = folder / f"step-{step:09d}-{digest_of_bytes(data)[:16]}.pt"
    write_atomically(path, data)
    for old in _newest_first(folder)[KEPT:]:
        old.unlink(missing_ok=True)
    return path


def load_latest(folder: Path, report: Callable[[str], None], workers: Workers = ALONE) -> dict[str, Any] | None:
    """Return the newest state whose bytes are as they were written, or None where there is none.

    Each rank keeps its own folder; the newest step that every rank holds whole is taken.
    """
    whole = _whole(folder, report)
    if workers.ranks == 1:
        return next((_load(data) for _, data in whole), None)
    states = dict(whole)
    common = set.intersection(*workers.gather(set(states)))
    return _load(states[max(common)]) if common else None


def _whole(folder: Path, report: Callable[[str], None]) -> Iterator[tuple[int, bytes]]:
    """Yield (step, bytes) of undamaged checkpoints, the newest first."""
    for path in _newest_first(folder):
        _, step, digest = path.stem.split("-")
        data = path.read_bytes()
        if digest_of_bytes(data)[:16] == digest:
            yield int(step), data
        else:
            report(f"{path}: the checkpoint is damaged; going back to the one before")


def _load(data: bytes) -> dict[str, Any]:
    try:
        state: dict[str, Any] = torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
    except Exception as error:
        raise BenchError(
            f"a state that no checkpoint can hold: {str(error).splitlines()[0]}",
            "optimizers keep tensors, numbers and text in self.state and param_groups, and nothing else",
        ) from error
    return state


def clear(folder: Path) -> None:
    """Remove all checkpoints, and the drafts that a kill left behind."""
    for pattern in ("step-*.pt", ".step-*.partial"):
        for path in folder.rglob(pattern):
            path.unlink(missing_ok=True)


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*.pt"), reverse=True)
