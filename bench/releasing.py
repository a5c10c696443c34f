"""A release made: its files, and what it says differs from the one before. bench.release has what it rests on."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.digest import digest_of_bytes
from bench.errors import BenchError
from bench.findings import filled
from bench.ledger import Study
from bench.record import seal, write_atomically
from bench.release import (
    FINDINGS,
    NAME,
    SCHEMA,
    VERSION,
    Ground,
    Kept,
    Release,
    latest,
    lock,
    modes_held,
    order,
    read_release,
    source_digest,
)
from bench.score.export import board_facts, csv_text
from bench.score.mode_text import mode_facts, modes_csv
from bench.score.modes import ModeTable
from bench.score.wording import bounded
from bench.score.worth import worths
from bench.spec import parse_json, read_text


def files_of(
    version: str, before: str | None, why: Sequence[str], findings: str | None, folder: Path, ground: Ground, kept: Kept
) -> dict[str, bytes]:
    """Return every file of a release by its path: boards, tables of modes, findings, and release.json, which lists
    them."""
    boards = {name: board_facts(board, ground.tasks[board.task], searches)
              for name, (board, searches) in sorted(kept.boards.items())}  # fmt: skip
    found = worths((ground.tasks[table.task], table) for table in kept.tables.values())
    tables = {name: mode_facts(table, [one for one in found if table.task in one.sizes and one.track == table.track])
              for name, table in sorted(kept.tables.items())}  # fmt: skip
    files = {f"boards/{name}.json": _json(facts) for name, facts in boards.items()}
    files |= {f"boards/{name}.csv": csv_text(board).encode() for name, (board, _) in kept.boards.items()}
    files |= {f"modes/{name}.json": _json(facts) for name, facts in tables.items()}
    files |= {f"modes/{name}.csv": modes_csv(table).encode() for name, table in kept.tables.items()}
    if findings is not None:
        files[FINDINGS] = filled(findings, {**boards, **tables}).encode()
    held = {record.run_id: record.digest for record in sorted(ground.records, key=lambda record: record.run_id)}
    facts = {
        "schema": SCHEMA,
        "version": version,
        "before": before,
        "why": list(why),
        "what": changes(read_release(folder / before) if before else None, folder, held, kept),
        "findings": findings,
        "records": held,
        "quantized": {run_id: modes_held(child).model_dump(mode="json")
                      for run_id, child in sorted(ground.quantized.items()) if run_id in held},
        "ledgers": ledgers_of(ground.studies),
        "timings": sorted(timing.digest for timings in ground.timings.values() for timing in timings),
        "tasks": {board.task: ground.tasks[board.task].digest for board, _ in kept.boards.values()},
        "source": source_digest(),
        "lock": lock(),
        "files": {path: digest_of_bytes(data) for path, data in sorted(files.items())},
    }  # fmt: skip
    return {**files, NAME: _json(seal(facts))}


def _json(facts: Any) -> bytes:
    return (json.dumps(facts, indent=1, allow_nan=False) + "\n").encode()


def make_release(
    version: str, why: Sequence[str], findings: str | None, folder: Path, ground: Ground, kept: Kept
) -> Path:
    """Write a release into its own folder below `folder` and return where; one that is there is never rewritten."""
    if not VERSION.fullmatch(version):
        raise BenchError(f"{version!r} is no version of a release", "numbers with dots are taken: 1.0")
    if not kept.boards:
        raise BenchError("no board can be made yet, so there is nothing to release", "bench score says what is missing")
    home, before = folder / version, latest(folder)
    if home.exists():
        raise BenchError(f"{home}: a release is never rewritten", f"the newest is {before}; give the next version")
    if before is not None and order(version) <= order(before):
        raise BenchError(f"release {version} would not come after {before}", "versions rise")
    if not why:
        raise BenchError(f"release {version}: nothing says why it is made", "give a paragraph or more: --why")
    if findings is not None and not findings.strip():
        raise BenchError(f"release {version}: its findings are empty", "give paragraphs, or leave --findings out")
    files = files_of(version, before, why, findings, folder, ground, kept)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{version}.", suffix=".partial", dir=folder) as draft:
        for path, data in files.items():
            write_atomically(Path(draft, "whole", path), data)
        try:
            return Path(draft, "whole").rename(home)  # whole or not at all
        except OSError as error:
            if home.exists():  # made at the same time by another
                raise BenchError(f"{home}: a release is never rewritten", "give the next version") from error
            raise


def differences(release: Release, home: Path, made: Mapping[str, bytes]) -> list[str]:
    """Return how a release made again differs from the one in its folder, in words; nothing where no byte differs."""
    wrong = [name for name in sorted({*made, *release.files, NAME})
             if made.get(name) != ((home / name).read_bytes() if (home / name).is_file() else None)]  # fmt: skip
    why = [f"{name} was {release.lock.get(name)} and is {now}" for name, now in lock().items()
           if release.lock.get(name) != now]  # fmt: skip
    if release.source != source_digest():
        why.append("the code that computes boards has changed since: check out the commit that added the release")
    return [f"{', '.join(wrong)}: not as released", *why] if wrong else []


def ledgers_of(studies: Mapping[str, Sequence[Study]]) -> dict[str, str | None]:
    return {study.plan.digest: study.trials[-1].digest if study.trials else None
            for _, found in sorted(studies.items()) for study in found}  # fmt: skip


def changes(old: Release | None, folder: Path, records: Mapping[str, str], kept: Kept) -> list[str]:
    """Say what differs from the release before: records, boards, tables of modes, entries and figures."""
    if old is None:
        return [
            f"The first release: {len(records)} records, {len(kept.boards)} boards, {len(kept.tables)} tables of modes."
        ]
    new, gone = set(records) - set(old.records), set(old.records) - set(records)
    said = [f"{len(new)} new records, {len(gone)} gone, {len(records)} in all."]
    for name, (board, _) in sorted(kept.boards.items()):
        path = folder / old.version / "boards" / f"{name}.json"
        if not path.exists():
            said.append(f"{name}: a new board.")
            continue
        before = figures(parse_json(read_text(path), str(path)))
        now = {
            row.entry: {budget: _said(found.figure, found.bound) for budget, found in row.speedups.items()}
            for row in board.rows
        }
        said += [f"{name}: {line}" for line in _moved(before, now)]
    return [*said, *_gone(old, "boards", "board", kept.boards), *_tables(old, folder, kept.tables),
            *_gone(old, "modes", "table of modes", kept.tables)]  # fmt: skip


def _gone(old: Release, part: str, word: str, now: Mapping[str, Any]) -> list[str]:
    gone = {Path(path).stem for path in old.files if path.startswith(f"{part}/")} - set(now)
    return [f"{name}: this {word} is gone." for name in sorted(gone)]


def _tables(old: Release, folder: Path, tables: Mapping[str, ModeTable]) -> list[str]:
    """Say which tables of modes are new, and how many degradations of each came, went or moved."""
    said = []
    for name, table in sorted(tables.items()):
        path = folder / old.version / "modes" / f"{name}.json"
        if not path.exists():
            said.append(f"{name}: a new table of modes.")
            continue
        before, now = (_degradations(facts) for facts in (parse_json(read_text(path), str(path)), mode_facts(table)))
        moved = sum(before[key] != now[key] for key in set(before) & set(now))
        counts = {"new": len(set(now) - set(before)), "gone": len(set(before) - set(now)), "moved": moved}
        if any(counts.values()):
            told = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
            said.append(f"{name}: degradations: {told}, {len(now)} in all.")
    return said


def _degradations(facts: Any) -> dict[tuple[str, str, float], str]:
    return {(mode, row["entry"], row["budget"]): f"{row['degradation']['value']:.4f}"
            for mode, rows in facts["modes"].items() for row in rows}  # fmt: skip


def figures(facts: Any) -> dict[str, dict[float, str]]:
    """Return the speedups, or their bounds, of a board's JSON, by entry and budget, in words."""
    return {
        row["entry"]: {
            rung["budget"]: _said(found["limit"] if found["value"] is None else found["value"], found["bound"])
            for rung in row["rungs"]
            if (found := rung["speedup"]) is not None
        }
        for row in facts["rows"]
    }


def _said(figure: float, bound: str) -> str:
    return f"{'' if bound == '=' else f'{bound} '}{bounded(figure, bound)}×"


def _moved(before: Mapping[str, Mapping[float, str]], now: Mapping[str, Mapping[float, str]]) -> list[str]:
    said = []
    for word, names in (("new", sorted(set(now) - set(before))), ("gone", sorted(set(before) - set(now)))):
        if names:
            said.append(f"{word}: {', '.join(names)}.")
    for entry in sorted(set(before) & set(now)):
        for budget in sorted(set(before[entry]) | set(now[entry])):
            was, is_ = before[entry].get(budget, "nothing"), now[entry].get(budget, "nothing")
            if was != is_:
                said.append(f"{entry} at {budget:g}x went from {was} to {is_}.")
    return said
