"""Slurm, by submitit: each run is a job of an array, requeued by submitit at its time limit or when it is preempted.

All nodes see the clone, its environment, the data and the work folder under the same paths: a shared file system.
"""

import importlib
import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.engine.answers import Answer, Deaths, Function, answer, not_begun, result
from bench.errors import BenchError
from bench.jobs import Job

MINUTES = 240  # of one Slurm job; a longer run goes on in the next
REQUEUED = 100  # times at most
POLL_SECONDS = 0.5
HINT = "run it where sbatch is found; --slurm takes submitit's names, as partition=a100 or gpus_per_node=1"


class Slurm:
    """Slurm jobs of one run each; parameters are submitit's own, as partition or gpus_per_node."""

    def __init__(
        self, threads: int, folder: Path, parameters: dict[str, int | str] | None = None, workers: int | None = None,
        cluster: str = "slurm",
    ) -> None:  # fmt: skip
        """folder takes submitit's logs; cluster is "slurm", or "local" for a test of it without one."""
        self._submitit = _library()
        self._folder = folder.absolute()
        self._running: list[Any] = []
        chosen = {"cpus_per_task": threads, "time": MINUTES, **(parameters or {})}
        if workers:
            chosen["array_parallelism"] = workers
        try:
            self._executor = self._submitit.AutoExecutor(self._folder, cluster, slurm_max_num_timeout=REQUEUED)
            self._executor.update_parameters(
                name="isoloss", **{f"slurm_{name}": value for name, value in chosen.items()}
            )
        except (NameError, TypeError, RuntimeError) as error:
            raise BenchError(f"--engine slurm: {_first_line(error)}", HINT) from None

    def map(self, function: Function, jobs: Sequence[Job]) -> Iterator[tuple[int, Path]]:
        """Yield (place of the job, its result) as they end; a job whose Slurm job died is submitted again."""
        deaths, waiting = Deaths(), self._submit(function, dict(enumerate(jobs)))
        while waiting:
            ended = [place for place, running in waiting.items() if running.done()]
            for place in ended:
                running = waiting.pop(place)
                self._running.remove(running)
                try:
                    answered: Answer = running.result()
                except self._submitit.core.utils.FailedJobError as error:  # what it raises itself is an answer
                    raise not_begun(jobs[place], error) from None
                except self._submitit.core.utils.UncompletedJobError:
                    deaths.count(place, jobs[place], f"{running.state}; what it said is in {running.paths.stderr}")
                    waiting |= self._submit(function, {place: jobs[place]})
                    continue
                yield place, result(answered)
            if not ended:
                time.sleep(POLL_SECONDS)

    def close(self) -> None:
        """Cancel what is left. The jobs of a plan that was killed end their runs, and it then finds them."""
        for running in self._running:
            running.cancel(check=False)
        self._running.clear()

    def _submit(self, function: Function, jobs: dict[int, Job]) -> dict[int, Any]:
        if not jobs:  # of a plan that is done: submitit warns of an empty array
            return {}
        errors = self._submitit.core.utils
        try:
            with self._executor.batch():
                made = {at: self._executor.submit(Resumed(), function, job.anywhere()) for at, job in jobs.items()}
        except (errors.FailedSubmissionError, errors.FailedJobError, OSError) as error:
            raise BenchError(f"--engine slurm: sbatch: {_first_line(error)}", HINT) from None
        self._running += made.values()
        return made


class Resumed:
    """A job as submitit calls it: its checkpoint, by which it is requeued, is to do the same again."""

    def __call__(self, function: Function, job: Job) -> Answer:
        return answer(function, job)

    def checkpoint(self, function: Function, job: Job) -> Any:
        """Return what the requeued job does: the run's own checkpoint says how far it was."""
        return _library().helpers.DelayedSubmission(self, function, job)


def _library() -> Any:
    try:
        submitit = importlib.import_module("submitit")
    except ImportError:
        raise BenchError("--engine slurm: submitit is not installed", "pip install -e '.[slurm]'") from None
    logging.getLogger("submitit").setLevel(logging.CRITICAL)  # it prints what we say
    return submitit


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
