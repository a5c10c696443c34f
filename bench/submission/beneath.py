"""What a bundle is read on top of: the clone's algorithms and records that it names and does not bring.

A pull request holds the files that it changes. A variant of a published algorithm comes without its code, an entry that
wraps another without that one, a measurement of a published run without its record, and a run that is made again
without its plan.
"""

import shutil
from collections.abc import Collection
from pathlib import Path

from bench.entry import Entry
from bench.plan import Plan, read_plan
from bench.submission.desk import Desk
from bench.submission.files import parts_of_name
from bench.submission.pack import files_of

KINDS = (("record",), ("quantized", "diagnosis", "downstream"))  # of a plan's runs, and of what was measured of them


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


def complete(desk: Desk, plans: Collection[Plan]) -> dict[str, Plan]:
    """Add the published plans that the bundle has runs of, with all that rests on them, and return them by name.

    So a run that is made again, after its mode changed, is judged among the others of its plan. A plan that adds modes
    looks itself at the checkpoints that it adds them to.
    """
    own = {(plan.task, plan.digest[:16]) for plan in plans}
    added = {(plan.task, plan.after[:16]) for plan in plans if plan.adds_modes and plan.after}
    runs, children = ({parts_of_name(name)[:2] for kind in kinds for name in desk.of_kind(kind)} for kinds in KINDS)
    found = {}
    for task, folder in sorted((runs | (children - added)) - own):
        for path in (desk.base / "leaderboard" / "plans" / task).glob(f"*-{folder}.json"):
            name = path.relative_to(desk.base).as_posix()
            with desk.judging(name):
                plan = read_plan(path)
                entry = Entry(desk.base / "baselines" / plan.algorithm / f"{plan.twin}.toml")
                for other, data in files_of(entry, [plan], desk.base / "leaderboard").items():
                    lay(desk, other)
                    desk.files.setdefault(other, data)
                found[name] = plan
                desk.remark(name, "", "is published: runs of it, or what was measured of them, are added or made again")
    return found
