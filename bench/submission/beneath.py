"""What a bundle is read on top of: the clone's algorithms and records that it names and does not bring.

A pull request holds the files that it changes. A variant of a published algorithm comes without its code, an entry that
wraps another without that one, and a measurement of a published run without its record.
"""

import shutil
from pathlib import Path

from bench.submission.desk import Desk


def lay_beneath(desk: Desk) -> None:
    """Put the clone's files in the places that the bundle leaves empty; the bundle's own stay as they are."""
    for folder in sorted((desk.base / "baselines").glob("*")):
        mine = desk.root / "baselines" / folder.name
        if not folder.is_dir():
            continue
        if not mine.exists():
            mine.parent.mkdir(exist_ok=True)
            mine.symlink_to(folder.resolve(), target_is_directory=True)
            continue
        for path in sorted([folder / "optimizer.py", *folder.glob("*.toml"), *folder.glob("tuned/*/*.toml")]):
            _copy(path, mine / path.relative_to(folder))
    for name in [*desk.of_kind("downstream"), *desk.of_kind("quantized"), *desk.of_kind("diagnosis")]:
        run = name.split(".")[0]
        for part in (f"{run}.json", f"{run}.quantized.json"):
            lay(desk, part)


def lay(desk: Desk, name: str) -> None:
    """Put one of the clone's files beneath, where the bundle has none of its name."""
    _copy(desk.base / name, desk.root / name)


def _copy(source: Path, target: Path) -> None:
    if source.is_file() and not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
