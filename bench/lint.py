"""Lint: everything that lies in a folder is loaded and validated, without torch, and summed up in a line each."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from bench.children import is_downstream, is_quantized, quantized_path, read_downstream, read_quantized
from bench.diagnosis import check_diagnosis, is_diagnosis
from bench.entry import Entry, Facts
from bench.errors import BenchError
from bench.forbidden import refuse
from bench.ledger import read_ledger
from bench.plan import read_plan
from bench.record import read_log, read_record
from bench.release import NAME as RELEASE
from bench.release import read_release
from bench.rerun import MAINTAINERS, read_maintainers
from bench.spec import read_text, read_toml
from bench.standin import FOLDER, check_stand_in, why_not_stood_in, why_not_tried
from bench.task import read_task, rung_name
from bench.timings import read_timing
from bench.versions import NAME, check_record, check_task, pins_of_record, pins_of_task, read_pins

UNREAD = {"tuned", "site", "static", "templates"}  # folders whose files have a check of their own, or none
SHOW = "commit what bench stand-in wrote on the machine that made it"
VARIANTS = 2  # of one algorithm, at most, that are ranked (protocol B)


def lint_paths(paths: list[Path]) -> Iterator[str]:
    """Yield a line for each task, entry and record; raise BenchError at the first that is wrong."""
    for path in paths:
        if not path.exists():
            raise BenchError(f"{path}: no such file or folder")
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            line = None if _unread(file.relative_to(path).parents, path) else _lint_file(file)
            if line:
                yield f"{file}: {line}"


def _unread(folders: Iterable[Path], root: Path) -> bool:
    """Return whether a file lies below a folder that is not for lint; an algorithm may have the name of one."""
    return any(folder.name in UNREAD and not (root / folder / "optimizer.py").exists() for folder in folders)


def _lint_file(path: Path) -> str | None:
    if path.name.startswith("."):
        return None
    above = path.absolute().parents
    if path.suffix == ".jsonl":
        plan = read_plan(above[2] / "plans" / above[0].name / f"{path.stem}.json")
        trials = read_ledger(path, plan)
        if why := why_not_tried(plan, trials, above[2]):
            raise BenchError(f"{path}: {why}", SHOW)
        return f"ledger of {plan.entry} on {plan.task}, {len(trials)} trials"
    if path.suffix == ".json":
        if path.name == RELEASE:
            release = read_release(path.parent)
            return f"release {release.version} of {len(release.records)} records, {len(release.files)} files beside it"
        if any((folder / RELEASE).is_file() for folder in above[:2]):
            return None  # a board of a release, which holds its digest
        if path.name == NAME:
            read_pins(path)
            return "versions of tasks that have records"
        if above[1].name == "plans":
            plan = read_plan(path)
            return f"plan of {plan.entry} on {plan.task}, look {plan.look}, digest {plan.digest[:12]}"
        if above[1].name == "timings":
            timing = read_timing(path)
            return f"timing of {timing.entry} on {timing.task}: {timing.ratio:.3f} of {timing.reference}'s step"
        if above[1].name == FOLDER:
            proof = check_stand_in(path)
            return f"{proof.here.processor} for {proof.there.processor} on {proof.task}: {len(proof.shown)} runs shown"
        if is_downstream(path):
            scores = read_downstream(path)
            return f"downstream scores in {', '.join(scores.modes)} of {path.with_name(f'{scores.run_id}.json').name}"
        if is_quantized(path):
            child = read_quantized(path)
            return f"{', '.join(child.modes)} of {path.with_name(f'{child.run_id}.json').name}"
        record = read_record(path)
        read_log(path, record)
        pins = pins_of_record(path)
        if pins is not None:
            check_record(record.task, record.inputs.task_digest, read_pins(pins))
            if why := why_not_stood_in(record, pins.parent):
                raise BenchError(f"{path}: {why}", SHOW)
        return f"record of {record.entry} on {record.task} at {rung_name(record.inputs.budget)}: {record.outcome}"
    if is_diagnosis(path):
        found = check_diagnosis(read_quantized(quantized_path(path.with_name(path.name.partition(".")[0]))), path)
        return f"diagnoses of {', '.join(found.modes)}"
    if path.suffix != ".toml":
        return None
    if path.name == MAINTAINERS:
        return f"{len(read_maintainers(path.parent))} maintainers"
    if (path.parent / "optimizer.py").exists() or "[schedule]" in read_text(path):
        entry = Entry(path)
        refuse(entry.source)
        check_variants(entry)
        return f"entry, scope {entry.facts.scope}, {len(entry.facts.search)} searched, digest {entry.digest[:12]}"
    task = read_task(path)
    check_task(path.stem, task, read_pins(pins_of_task(path)))
    flops = task.tokens(1.0) * task.flops_per_token
    return (f"task, version {task.version}, 1x is {task.tokens(1.0):,} tokens and {flops:.2g} operations, "
            f"digest {task.digest[:12]}")  # fmt: skip


def check_variants(entry: Entry) -> None:
    """Refuse a third variant of an algorithm that would be ranked: a board of many tries is a lottery."""
    ranked = sorted(toml.stem for toml in entry.path.parent.glob("*.toml") if not read_toml(toml, Facts).control)
    if len(ranked) > VARIANTS and entry.name in ranked:
        raise BenchError(
            f"{entry.path.parent}: {len(ranked)} variants would be ranked, at most {VARIANTS} are: {', '.join(ranked)}",
            "say control = true in those that are to be shown and not ranked",
        )
