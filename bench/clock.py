"""The clock of a run: seconds of training steps, stopped for evaluation, compilation and checkpoints."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Runs from the moment it is made; `lap` must follow whatever waits for the device, or queued work is free."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds  # up to the last lap
        self._since = time.perf_counter()

    def lap(self) -> float:
        """Count the time since the last lap, or pause, and return it in seconds."""
        now = time.perf_counter()
        elapsed, self._since = now - self._since, now
        self.seconds += elapsed
        return elapsed

    @contextmanager
    def paused(self) -> Iterator[None]:
        yield
        self._since = time.perf_counter()
