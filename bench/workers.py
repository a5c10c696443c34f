"""Ranks: one process a device, started by torchrun. The only place that knows torch.distributed.

Every rank holds all weights and sees the same gradients, summed over ranks in buckets that never change, so a resumed
run adds in the order of one that was not stopped (DDP lays its buckets out anew after the first step).
"""

import datetime
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import Parameter

from bench.errors import BenchError, PeerLost

T = TypeVar("T")
BUCKET_ELEMENTS = 2**24  # 64 MiB of fp32: enough to be fast, little beside a model
PATIENCE = datetime.timedelta(minutes=60)  # one rank may compile, or read a cold disk, this much longer than another


@dataclass(frozen=True)
class Workers:
    """This process among its ranks. With one rank every method is what a lone process does."""

    rank: int = 0
    ranks: int = 1
    local_rank: int = 0
    local_ranks: int = 1  # on this machine

    def share(self, batch: Tensor) -> Tensor:
        """Return this rank's consecutive equal part of a global batch."""
        size = len(batch) // self.ranks
        return batch[self.rank * size : (self.rank + 1) * size]

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Sum each tensor over ranks, in place; every rank ends with the same bits."""
        if self.ranks == 1:
            return
        for bucket in _buckets(tensors):
            flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
            _told(partial(dist.all_reduce, flat))
            _spread(flat, bucket)

    def hand_round(self, owned: Sequence[Sequence[Tensor]]) -> None:
        """Give every rank the tensors as their owner has them; owned[r] are those of rank r, alike on all ranks."""
        if self.ranks == 1:
            return
        for owner, tensors in enumerate(owned):
            for bucket in _buckets(tensors):
                flat = torch.cat([tensor.detach().reshape(-1) for tensor in bucket])
                _told(partial(dist.broadcast, flat, src=owner))
                if owner != self.rank:
                    _spread(flat, bucket)

    def gather(self, value: T) -> list[T]:
        """Return the value of every rank, in the order of ranks. For small plain values."""
        if self.ranks == 1:
            return [value]
        values: list[Any] = [None] * self.ranks
        _told(lambda: dist.all_gather_object(values, value))
        return values

    def first(self, work: Callable[[], T]) -> T:
        """Have rank 0 do the work, and return its result, or raise its BenchError, on every rank."""
        if self.ranks == 1:
            return work()
        said: list[Any] = [None, None]
        if self.rank == 0:
            try:
                said[0] = work()
            except BenchError as error:
                said[1] = (error.what, error.hint)
        _told(lambda: dist.broadcast_object_list(said, src=0))
        if said[1] is not None:
            raise BenchError(*said[1])
        result: T = said[0]
        return result


ALONE = Workers()


def start(cuda: bool) -> Workers:
    """Join the ranks that torchrun started and return this one's place; ALONE where it started none."""
    if not dist.is_torchelastic_launched():
        return ALONE
    place = [int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")]
    workers = Workers(*place)
    if workers.ranks == 1 or dist.is_initialized():
        return workers
    try:
        if cuda:
            torch.cuda.set_device(workers.local_rank)
        dist.init_process_group("nccl" if cuda else "gloo", timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        address = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        raise BenchError(
            f"rank {workers.rank} cannot join the others at {address}: {_first_line(error)}",
            "give torchrun a free port, and an address that every node reaches",
        ) from error
    return workers


def owners(matrices: Sequence[Parameter], ranks: int) -> list[list[Parameter]]:
    """Share matrices out so that every rank has about the same work, which goes as m n min(m, n).

    Costliest first, each to the rank with the least so far: same-shaped matrices of many layers are dealt in turn.
    """
    shares: list[list[Parameter]] = [[] for _ in range(ranks)]
    loads = [0] * ranks
    for matrix in sorted(matrices, key=lambda w: -w.numel() * min(w.shape)):
        least = loads.index(min(loads))
        shares[least].append(matrix)
        loads[least] += matrix.numel() * min(matrix.shape)
    return shares


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Yield the tensors in runs of at most BUCKET_ELEMENTS, a larger one by itself; of one dtype each."""
    bucket: list[Tensor] = []
    for tensor in tensors:
        full = sum(t.numel() for t in bucket) + tensor.numel() > BUCKET_ELEMENTS
        if bucket and (full or tensor.dtype != bucket[0].dtype):
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket


@torch.no_grad()
def _spread(flat: Tensor, bucket: list[Tensor]) -> None:
    for tensor, part in zip(bucket, flat.split([t.numel() for t in bucket]), strict=True):
        tensor.copy_(part.view_as(tensor))


def _told(collective: Callable[[], Any]) -> None:
    """Do what all ranks do together; where one is gone, say that instead of what the transport says."""
    try:
        collective()
    except RuntimeError as error:
        raise PeerLost(
            f"another rank is gone ({_first_line(error)}); nothing is lost",
            "the same command goes on from the last checkpoint",
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200]
