"""Fixtures for every test."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"  # beside the clone
LONG = (
    "test_every_entry.py",
    "test_stopped.py",
    "test_ranks.py",
    "test_walk.py",
    "test_run.py",
    "test_conduct.py",
)  # minutes each, on one core: begun first, lest the others wait for them at the end


def pytest_configure() -> None:
    """Take Ctrl-C again where a shell's `&` has it ignored: the commands under test would inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the modules that take longest first; xdist deals modules out in this order (--no-loadscope-reorder)."""
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


@pytest.fixture(scope="session")
def mirror() -> Iterator[Path]:
    """The folder that stands in for the hub; tests that read real text are skipped where there is none."""
    folder = Path(os.environ.get("BENCH_MIRROR") or SHARED)
    if not folder.is_dir():
        pytest.skip("needs real text: set BENCH_MIRROR to a folder laid out by hub names")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCH_MIRROR", str(folder))
        yield folder
