"""Folders that are being built, several processes at once and any of them killed: who may touch which."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

JOURNAL, MANIFEST = "journal.json", "manifest.json"
FORSAKEN_SECONDS = 7 * 24 * 3600.0  # after which nobody is taken to come back for a draft
GONE = ".gone.partial"  # how the names of folders end that are being removed


def draft_of(home: Path) -> Path:
    return home.with_name(f".{home.name}.partial")


@contextmanager
def locked(home: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold the folder's lock, which dies with its holder; say so before waiting for another's."""
    lock = FileLock(_lock_path(home.parent, home.name))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        waiting()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def sweep(folder: Path) -> None:
    """Remove what dead builders left and nobody can go on with; a living one holds the lock of its key."""
    for draft in folder.glob(".*.partial"):
        try:
            with FileLock(_lock_path(folder, draft.name.split(".")[1]), timeout=0):
                if not _can_go_on(draft):
                    shutil.rmtree(draft, ignore_errors=True)
        except Timeout:
            continue


def remove(folder: Path) -> None:
    """Remove a folder, first under a name that nothing reads, so that a kill leaves no half of it in place."""
    if folder.exists():
        going = folder.with_name(f".{folder.name.strip('.').removesuffix('.partial')}{GONE}")
        shutil.rmtree(going, ignore_errors=True)
        os.rename(folder, going)
        shutil.rmtree(going)


def _can_go_on(draft: Path) -> bool:
    """Return whether a draft has a journal, or the manifest that follows it, and is not long forsaken."""
    files = [] if draft.name.endswith(GONE) else [draft / JOURNAL, draft / MANIFEST]
    written = [file.stat().st_mtime for file in files if file.exists()]
    return max(written, default=0.0) > time.time() - FORSAKEN_SECONDS


def _lock_path(folder: Path, key: str) -> Path:
    return folder / f".{key}.lock"
