"""What engines share: how a worker answers, and how many deaths of its workers a job is given."""

import re
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from bench.errors import BenchError
from bench.jobs import Job

DEATHS = 3  # of a job's workers, before the job is taken to be the cause

Function = Callable[[Job], Path]
Answer = Path | Exception


def answer(function: Function, job: Job) -> Answer:
    """Return the result or the error: as a value it crosses to another machine whole, with nothing wrapped around it.

    An error of ours comes as text with its traceback: what an exception holds need not travel.
    """
    try:
        return function(job)
    except (BenchError, OSError) as error:
        return error
    except Exception:
        return RuntimeError(f"{job}: a worker failed\n{traceback.format_exc()}")


def result(answered: Answer) -> Path:
    """Return what was answered, or raise it."""
    if isinstance(answered, Exception):
        raise answered
    return answered


def not_begun(job: Job, error: Exception) -> BenchError:
    """Return what to say of a worker on another machine that could not take the job up: mostly a failed import."""
    lines = [line for line in str(error).splitlines() if re.match(r"[\w.]*(Error|Exception)\b", line.strip())]
    return BenchError(
        f"{job}: a worker could not begin: {(lines or [type(error).__name__])[-1].strip()[:300]}",
        "every node needs the clone and its environment under the same paths",
    )


class Deaths:
    """Counts the workers that died with a job in hand, so that one which kills all of them comes to an end."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()

    def count(self, place: int, job: Job, how: str) -> None:
        """Count one more; raise BenchError where the job has had its share."""
        self._counts[place] += 1
        if self._counts[place] == DEATHS:
            raise BenchError(
                f"{job}: its worker died {DEATHS} times, the last time of {how}",
                "memory is the usual cause; with it cured the same command goes on from the last checkpoint",
            )
