"""What a person at a terminal sees of a run: one bar with loss, tokens per second and time left; a line elsewhere."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from bench.conduct import Stand
from bench.setting import Watch
from bench.train import Progress as Course


@contextmanager
def watch_run(title: str, console: Console) -> Iterator[Watch]:
    """Yield a Watch that draws the run on a terminal, and prints only what is said where there is none."""

    def say(line: str) -> None:
        console.print(f"{title}: {line}", markup=False, highlight=False, soft_wrap=True)

    if not console.is_terminal or os.environ.get("RANK", "0") != "0":
        yield Watch(say=say)
        return
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=None), TextColumn("{task.fields[facts]}"),
               TimeRemainingColumn(compact=True))  # fmt: skip
    with Progress(*columns, console=console, transient=True) as bar:
        row = bar.add_task(title, total=None, facts="preparing")
        start: list[tuple[float, int]] = []  # of this sitting: a resumed run's first tokens were seen before

        def progress(now: Course, steps: int, batch_tokens: int) -> None:
            if not start:
                start.append((time.monotonic(), now.tokens))
            elapsed, done = time.monotonic() - start[0][0], now.tokens - start[0][1]
            rate = f"{done / elapsed:,.0f} tokens/s" if elapsed and done else ""
            facts = f"{now.tokens:,} tokens  loss {now.losses[-1]:.3f}  {rate}"
            bar.update(row, total=steps * batch_tokens, completed=now.tokens, facts=facts)

        yield Watch(say=say, progress=progress)


@contextmanager
def watch_plan(title: str, console: Console) -> Iterator[Callable[[Stand], None]]:
    """Yield what draws a plan's progress: one bar on a terminal, a line for every run elsewhere."""
    if not console.is_terminal:
        yield lambda stand: console.print(
            f"{title}: {stand.last or 'starting'}  ({stand.stage}: {stand.waiting} left)",
            markup=False, highlight=False, soft_wrap=True,
        )  # fmt: skip
        return
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=None), TextColumn("{task.fields[facts]}"),
               TimeRemainingColumn(compact=True))  # fmt: skip
    with Progress(*columns, console=console, transient=True) as bar:
        row = bar.add_task(title, total=None, facts="starting")

        def report(stand: Stand) -> None:
            best = "" if stand.best is None else f"  best {stand.best:.4f}"
            failed = f"  {len(stand.failures)} failed" if stand.failures else ""
            facts = f"{stand.stage}: {stand.waiting} left{best}{failed}  {stand.last}"
            total = stand.done_tokens + stand.waiting_tokens
            bar.update(row, total=total, completed=stand.done_tokens, facts=facts)

        yield report


@contextmanager
def watch_questions(title: str, console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """Yield what draws one bar over a downstream task's requests on a terminal; nothing elsewhere."""
    if not console.is_terminal:
        yield lambda name, done, total: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=None), TextColumn("{task.fields[facts]}"),
               TimeRemainingColumn(compact=True))  # fmt: skip
    with Progress(*columns, console=console, transient=True) as bar:
        row = bar.add_task(title, total=None, facts="preparing")
        shown = ""

        def report(name: str, done: int, total: int) -> None:
            nonlocal shown
            if name != shown:
                bar.reset(row, total=total)
                shown = name
            bar.update(row, total=total, completed=done, facts=f"{name}: {done:,} of {total:,} requests")

        yield report
