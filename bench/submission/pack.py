"""Bundles written: exactly the files of a pull request, under their places in a clone."""

import gzip
import tarfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

from bench.entry import Entry
from bench.errors import BenchError
from bench.ledger import ledger_path
from bench.plan import Plan, plan_path
from bench.record import find_records, read_record, write_atomically
from bench.submission.files import Files, kind_of
from bench.submission.grown import current
from bench.tuned import tuned_path


def files_of(entry: Entry, plans: list[Plan], leaderboard: Path) -> Files:
    """Return the entry, its plans, and all that rests on them, by name; what is not there yet is refused.

    Runs of another version of their mode are left out: they stand on no board, and others were made in their place.
    """
    home = f"baselines/{entry.path.parent.name}"
    paths = {f"{home}/optimizer.py": entry.source, f"{home}/{entry.name}.toml": entry.path}
    for plan in plans:
        tuned = tuned_path(entry.path, plan.task, plan.entry)
        paths[f"{home}/tuned/{plan.task}/{tuned.name}"] = tuned
        for folder, path in (("plans", plan_path(Path(), plan)), ("ledgers", ledger_path(Path(), plan))):
            if folder == "plans" or plan.after is None or (leaderboard / folder / path).is_file():
                paths[f"leaderboard/{folder}/{path.as_posix()}"] = leaderboard / folder / path
        records = Path("records") / plan.task / plan.digest[:16]
        runs = [read_record(path) for path in find_records([leaderboard / records])]
        old = {run.run_id for run in runs if run.inputs.mode_digest != current().get(run.inputs.mode)}
        for path in sorted((leaderboard / records).glob("*")):
            name = f"leaderboard/{(records / path.name).as_posix()}"
            if kind_of(name) and path.name.split(".")[0] not in old:
                paths[name] = path
    test = f"tests/baselines/test_{entry.path.parent.name}.py"
    if (leaderboard.parent / test).is_file():
        paths[test] = leaderboard.parent / test
    missing = [name for name, path in paths.items() if not path.is_file()]
    if missing:
        raise BenchError(f"{missing[0]}: is not there yet", "bench evaluate makes it, and goes on where it was")
    return {name: path.read_bytes() for name, path in paths.items()}


def write_bundle(target: Path, files: Mapping[str, bytes]) -> None:
    """Write the files as a .tar.gz, or into a folder that is not there yet."""
    if target.name.endswith((".tar.gz", ".tgz")):
        write_atomically(target, archive(files))
        return
    if target.exists():
        raise BenchError(f"{target}: is there already", "name another folder, or a .tar.gz")
    for name, data in files.items():
        write_atomically(target / name, data)


def archive(files: Mapping[str, bytes]) -> bytes:
    """Return a .tar.gz of the files by name; the same files give the same bytes."""
    held = BytesIO()
    with gzip.GzipFile(fileobj=held, mode="wb", mtime=0) as zipped, tarfile.open(fileobj=zipped, mode="w") as tar:
        for name, data in files.items():
            facts = tarfile.TarInfo(name)
            facts.size, facts.mode = len(data), 0o644
            tar.addfile(facts, BytesIO(data))
    return held.getvalue()
