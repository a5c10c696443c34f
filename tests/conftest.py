"""Fixtures for every test."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"  # beside the clone


@pytest.fixture(scope="session")
def mirror() -> Iterator[Path]:
    """The folder that stands in for the hub; tests that read real text are skipped where there is none."""
    folder = Path(os.environ.get("BENCH_MIRROR") or SHARED)
    if not folder.is_dir():
        pytest.skip("needs real text: set BENCH_MIRROR to a folder laid out by hub names")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCH_MIRROR", str(folder))
        yield folder
