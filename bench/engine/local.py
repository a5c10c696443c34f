"""This machine: a pool of processes, one for every `threads` cores or every GPU, kept warm over a plan's runs."""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from bench.errors import BenchError
from bench.jobs import Job

DEATHS = 3  # of the pool with nothing done in between, before a job is taken to be the cause

Function = Callable[[Job], Path]


class Local:
    """Workers that each hold their own cores or GPU; what was compiled for one run serves the next."""

    def __init__(self, threads: int, workers: int | None = None) -> None:
        self.cores = sorted(os.sched_getaffinity(0))
        self.threads = threads
        self.gpus = _gpus()
        self.workers = workers or self.gpus or max(1, len(self.cores) // threads)
        self._pool: ProcessPoolExecutor | None = None

    def map(self, function: Function, jobs: Sequence[Job]) -> Iterator[tuple[int, Path]]:
        """Yield (place of the job, its result) as they end; a job whose worker died is given to another."""
        left, deaths = dict(enumerate(jobs)), 0
        while left:
            try:
                for place, result in self._once(function, left):
                    deaths = 0
                    del left[place]
                    yield place, result
            except BrokenProcessPool:
                self.close()
                deaths += 1
                if deaths == DEATHS:
                    raise BenchError(
                        f"workers died {DEATHS} times with nothing done, the last with {next(iter(left.values()))}",
                        "run it alone with bench run to see why; memory is the usual cause",
                    ) from None

    def _once(self, function: Function, left: dict[int, Job]) -> Iterator[tuple[int, Path]]:
        pool = self._pool or self._start()
        waiting: dict[Future[Path], int] = {pool.submit(function, job): place for place, job in left.items()}
        try:
            while waiting:
                done, _ = wait(waiting, return_when=FIRST_COMPLETED)
                for future in sorted(done, key=lambda future: waiting[future]):
                    yield waiting.pop(future), future.result()
        finally:
            for future in waiting:
                future.cancel()

    def _start(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")
        slots = context.Queue()
        for number in range(self.workers):
            slots.put(number)
        initial = (slots, self.cores, self.threads, self.gpus)
        self._pool = ProcessPoolExecutor(self.workers, context, _settle_in, initial)
        return self._pool

    def close(self) -> None:
        if self._pool is not None:
            for process in list(self._pool._processes.values()):
                process.terminate()
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None


def _gpus() -> int:
    import torch

    return torch.cuda.device_count()


def _settle_in(slots: Any, cores: list[int], threads: int, gpus: int) -> None:
    """Take a place: cores of one's own, and a GPU where there are some."""
    number = slots.get()
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(number % gpus)
        return
    first = number * threads % len(cores)
    os.sched_setaffinity(0, {cores[(first + i) % len(cores)] for i in range(threads)})
