"""A Ray cluster: each run is a task that takes a core for every thread, or one GPU. Ray chooses the node.

All nodes see the clone, its environment, the data and the work folder under the same paths: a shared file system.
Ray hands a process that ended a task the next one alike, so what was compiled for one run serves the next.
"""

import importlib
import os
import socket
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.engine.answers import Deaths, Function, answer, not_begun, result
from bench.errors import BenchError
from bench.jobs import Job

WARM = 0  # of Ray's max_calls: by default a process ends after each task with a GPU
PATIENCE_SECONDS = 10.0


class Ray:
    """The cluster at an address, or RAY_ADDRESS; with neither, one that Ray starts on this machine and ends with us."""

    def __init__(self, threads: int, workers: int | None = None, address: str | None = None) -> None:
        self._ray, self._mine = _connected(address)
        self._workers = workers
        self._busy: dict[Any, int] = {}  # place of the job, by Ray's reference to its answer
        gpu = bool(self._ray.cluster_resources().get("GPU"))
        self._takes = {"num_cpus": threads, "num_gpus": int(gpu)}
        self._check(threads)

    def map(self, function: Function, jobs: Sequence[Job]) -> Iterator[tuple[int, Path]]:
        """Yield (place of the job, its result) as they end; a job whose worker or node died is submitted again."""
        ray, deaths = self._ray, Deaths()
        task = ray.remote(**self._takes, max_retries=0, max_calls=WARM)(answer)  # we count deaths ourselves
        waiting, busy = deque(range(len(jobs))), self._busy
        while waiting or busy:
            while waiting and len(busy) < (self._workers or len(jobs)):
                place = waiting.popleft()
                busy[task.remote(function, jobs[place].anywhere())] = place
            (ended, *_), _ = ray.wait(list(busy))
            place = busy.pop(ended)
            try:
                answered = ray.get(ended)
            except ray.exceptions.RayTaskError as error:  # what it raises itself is an answer: it did not begin
                raise not_begun(jobs[place], error) from None
            except ray.exceptions.RayError as error:
                deaths.count(place, jobs[place], type(error).__name__)
                waiting.appendleft(place)
                continue
            yield place, result(answered)

    def close(self) -> None:
        """Stop what is left, and let go of the cluster."""
        for reference in self._busy:
            self._ray.cancel(reference, force=True)
        self._busy.clear()
        if self._mine:
            self._ray.shutdown()

    def _check(self, threads: int) -> None:
        """Refuse what no node could run: Ray would wait for such a node for ever."""
        most = max(node["Resources"].get("CPU", 0) for node in self._ray.nodes() if node["Alive"])
        if most < threads:
            raise BenchError(
                f"no node of the Ray cluster has the {threads} cores that a run of this task takes; the largest has "
                f"{most:g}", "start a larger one, with ray start --address ... --num-cpus",
            )  # fmt: skip


def _connected(address: str | None) -> tuple[Any, bool]:
    """Return the library, connected, and whether the connection is ours."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to its makers
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # a task without a GPU leaves the variables alone
    try:
        ray = importlib.import_module("ray")
    except ImportError:
        raise BenchError("--engine ray: Ray is not installed", "pip install -e '.[ray]'") from None
    if ray.is_initialized():
        return ray, False
    address = address or os.environ.get("RAY_ADDRESS")
    try:
        _reach(address or "")
        ray.init(address=address, include_dashboard=None if address else False, log_to_driver=False,
                 logging_level="ERROR")  # fmt: skip
    except (OSError, RuntimeError, ValueError) as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise BenchError(
            f"--engine ray: no cluster at {address or 'this machine'}: {said}",
            "start one: ray start --head on one node, ray start --address HOST:6379 on the others",
        ) from None
    return ray, True


def _reach(address: str) -> None:
    """Raise OSError where nothing listens at HOST:PORT: Ray itself would go on trying for ten minutes."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdecimal() and "/" not in host:
        socket.create_connection((host, int(port)), timeout=PATIENCE_SECONDS).close()
