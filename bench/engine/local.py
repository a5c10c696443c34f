"""This machine: a process for every `threads` cores or every GPU, kept warm over a plan's runs.

A worker is a process and a pipe. A pool of the standard library gives up all its workers when one dies and cannot say
which job it had, and its semaphores outlive a kill.
"""

import importlib
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path

from bench.engine.answers import Answer, Deaths, Function, answer, result
from bench.jobs import Job


class Local:
    """Workers that each hold their own cores or GPU; what was compiled for one run serves the next."""

    def __init__(self, threads: int, workers: int | None = None) -> None:
        cores, gpus = sorted(os.sched_getaffinity(0)), _gpus()
        count = workers or len(gpus) or max(1, len(cores) // threads)
        self.workers = [
            Worker(set(cores), gpus[number % len(gpus)]) if gpus else Worker(_share(cores, number, threads), None)
            for number in range(count)
        ]

    def map(self, function: Function, jobs: Sequence[Job]) -> Iterator[tuple[int, Path]]:
        """Yield (place of the job, its result) as they end; a job whose worker died is given to another."""
        waiting, busy, deaths = deque(range(len(jobs))), dict[Connection, tuple[Worker, int]](), Deaths()
        try:
            while waiting or busy:
                for worker in self.workers[: len(waiting) + len(busy)]:
                    if waiting and not any(worker is other for other, _ in busy.values()):
                        place = waiting.popleft()
                        busy[worker.give(function, jobs[place])] = worker, place
                for pipe in wait(list(busy)):
                    assert isinstance(pipe, Connection)
                    worker, place = busy.pop(pipe)
                    answered = worker.take()
                    if isinstance(answered, Died):
                        deaths.count(place, jobs[place], answered.how)
                        waiting.appendleft(place)
                    else:
                        yield place, result(answered)
        finally:
            for worker, _ in busy.values():  # an answer that nobody waits for must not be taken for the next one
                worker.end()

    def close(self) -> None:
        """End the workers at once: what they have in hand goes on from its checkpoint another time."""
        for worker in self.workers:
            worker.end()


class Died:
    """In the place of an answer: how the worker ended."""

    def __init__(self, status: int | None) -> None:
        killed = status is not None and status < 0
        self.how = signal.Signals(-(status or 0)).name if killed else f"exit status {status}"


class Worker:
    """A process with cores or a GPU of its own; started when it is first needed, and anew after a death."""

    def __init__(self, cores: set[int], gpu: str | None) -> None:
        self._cores, self._gpu = cores, gpu
        self._started: tuple[multiprocessing.process.BaseProcess, Connection] | None = None

    def give(self, function: Function, job: Job) -> Connection:
        """Hand over a job, and return what becomes readable when there is an answer, or the worker is dead."""
        _, pipe = self._started or self._start()
        try:
            pipe.send((function, job))
        except OSError:  # it died while idle: nothing is lost
            self.end()
            _, pipe = self._start()
            pipe.send((function, job))
        return pipe

    def take(self) -> Answer | Died:
        assert self._started
        process, pipe = self._started
        try:
            answered: Answer = pipe.recv()
            return answered
        except (EOFError, OSError):
            process.join()
            self.end()
            return Died(process.exitcode)

    def end(self) -> None:
        if self._started:
            process, pipe = self._started
            self._started = None
            process.kill()
            process.join()
            pipe.close()

    def _start(self) -> tuple[multiprocessing.process.BaseProcess, Connection]:
        context = multiprocessing.get_context("spawn")  # a fork would take over torch's threads, dead
        pipe, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, self._cores, self._gpu), daemon=True)
        with _uninterrupted():
            process.start()
        theirs.close()
        self._started = process, pipe
        return self._started


def _serve(pipe: Connection, cores: set[int], gpu: str | None) -> None:
    """Do jobs until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # blocked since its start, unless something lets it through
    threading.Thread(target=_die_with_parent, daemon=True).start()
    # By default its lock is a semaphore of the system, which Python complains of when a worker is killed.
    importlib.import_module("tqdm").tqdm.set_lock(threading.RLock())
    os.sched_setaffinity(0, cores)
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    while True:
        try:
            function, job = pipe.recv()
            pipe.send(answer(function, job))
        except (EOFError, OSError):
            return


def _die_with_parent() -> None:
    """A worker that outlived its plan would hold on to its run, and the plan could not go on."""
    parent = multiprocessing.parent_process()
    assert parent
    parent.join()
    os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Start processes that Ctrl-C passes by: it goes to the whole group, and ending them is the first process's."""
    resource_tracker.ensure_running()  # the first process would start it, which lets Ctrl-C through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _share(cores: list[int], number: int, threads: int) -> set[int]:
    first = number * threads
    return {cores[(first + i) % len(cores)] for i in range(threads)}


def _gpus() -> list[str]:
    """Return the names of the GPUs that this process may use, as a worker's CUDA_VISIBLE_DEVICES takes them."""
    import torch

    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",")[:count] if named else [str(number) for number in range(count)]
