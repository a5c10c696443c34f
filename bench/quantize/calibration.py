"""What an algorithm of a finished checkpoint looks at: the first sequences of the training text, the same for all.

Shapes: N sequences of S tokens.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from bench.data.sequences import Sequences
from bench.digest import digest_of_bytes
from bench.errors import BenchError

SEQUENCES = 128  # as in GPTQ's own experiments (arXiv 2210.17323, section 4)
BATCH_TOKENS = 4096  # of a forward pass over them, or one sequence where that is more


@dataclass(frozen=True)
class Calibration:
    tokens_NS: np.ndarray  # int64

    @cached_property
    def digest(self) -> str:
        return digest_of_bytes(np.ascontiguousarray(self.tokens_NS, dtype="<i8").tobytes())

    def batches(self, device: torch.device) -> Iterator[Tensor]:
        """Yield the sequences in order."""
        size = max(1, BATCH_TOKENS // self.tokens_NS.shape[1])
        for start in range(0, len(self.tokens_NS), size):
            yield torch.from_numpy(self.tokens_NS[start : start + size]).to(device)

    def one(self, place: int, device: torch.device) -> Tensor:
        """Return one sequence, shape (1, S), by its place; after the last comes the first."""
        return torch.from_numpy(self.tokens_NS[place % len(self.tokens_NS)][None]).to(device)


def calibration_of(text: Sequences) -> Calibration:
    """Return the calibration set of a task; a training text that is too short for it is refused."""
    if len(text) < SEQUENCES:
        raise BenchError(
            f"a training text of {len(text)} sequences is too short to calibrate on: {SEQUENCES} are needed",
            "name more documents in the task, or use a mode that rounds to nearest",
        )
    return Calibration(text.in_order(0, SEQUENCES))
