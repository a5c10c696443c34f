"""Several ranks in one process, one thread each: every one trains on the whole batch, and steps its own matrices."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bench.battery.tiny import Tiny
from bench.entry import Entry
from bench.train import Diverged
from bench.workers import Workers, owners


@dataclass(frozen=True)
class Together(Workers):
    """Ranks that hand matrices round through shared memory, and whose gradients are equal already."""

    barrier: threading.Barrier | None = None
    table: list[Sequence[Tensor]] | None = None  # by rank: the tensors it owns

    def share(self, batch: Tensor) -> Tensor:
        return batch

    def sum(self, tensors: Sequence[Tensor]) -> None:
        for tensor in tensors:
            tensor.mul_(self.ranks)  # the loop divided by it: both are exact for a power of two

    def hand_round(self, owned: Sequence[Sequence[Tensor]]) -> None:
        assert self.table is not None and self.barrier is not None
        self.table[self.rank] = owned[self.rank]
        self.barrier.wait()
        theirs = [w.detach().clone() for rank in range(self.ranks) for w in self.table[rank]]
        self.barrier.wait()
        with torch.no_grad():
            for mine, new in zip((w for part in owned for w in part), theirs, strict=True):
                mine.copy_(new)


def train_together(entry: Entry, ranks: int, steps: int) -> list[Tiny]:
    """Return the tiny models of all ranks after so many steps."""
    barrier = threading.Barrier(ranks, timeout=60)
    table: list[Sequence[Tensor]] = [()] * ranks
    tinies = [Tiny(entry, steps=steps) for _ in range(ranks)]
    for rank, tiny in enumerate(tinies):
        workers = Together(rank, ranks, barrier=barrier, table=table)
        owned = owners(tiny.roles.matrices, ranks)
        means = tiny.parts.probe and replace(tiny.parts.probe, workers=workers)
        tiny.parts = replace(tiny.parts, workers=workers, owned=owned, probe=means)

    def run(tiny: Tiny) -> None:
        try:
            tiny.train()
        except Diverged:  # found by all at one step: an abort could break into another's last wait, already over
            return
        except BaseException:
            barrier.abort()
            raise

    threads = [threading.Thread(target=run, args=(tiny,)) for tiny in tinies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return tinies
