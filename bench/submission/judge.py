"""Whether a bundle stands: its plan is what the rules write, its ledger the plan's, its records the ledger's."""

import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.children import Quantized, read_downstream, read_quantized
from bench.diagnosis import check_diagnosis
from bench.entry import Entry
from bench.errors import BenchError
from bench.forbidden import forbidden
from bench.lint import check_variants
from bench.plan import read_plan
from bench.starter import RESERVED
from bench.submission.beneath import complete, lay_beneath
from bench.submission.desk import Desk
from bench.submission.files import Finding, kind_of, parts_of_name, read_bundle
from bench.submission.grown import grown
from bench.submission.study import Study


@dataclass(frozen=True)
class Verdict:
    findings: tuple[Finding, ...]
    plans: int
    records: int
    remarks: tuple[Finding, ...] = ()


def verify(bundle: Path, base: Path) -> Verdict:
    """Return what is wrong with a bundle that is to be merged into a clone; nothing of it is run, or written there."""
    try:
        files, findings = read_bundle(bundle)
    except BenchError as error:
        if not bundle.exists():
            raise
        return Verdict((Finding(bundle.name, "", error.what.removeprefix(f"{bundle}: ")),), 0, 0)
    with tempfile.TemporaryDirectory(prefix="bench-verify-") as name:
        root = Path(name)
        for file, data in files.items():
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            (root / file).write_bytes(data)
        desk = Desk(root, base, files, findings, {finding.file for finding in findings})
        lay_beneath(desk)
        judge(desk)
    said, remarks = (tuple(sorted(set(found))) for found in (desk.findings, desk.remarks))
    return Verdict(said, len(desk.of_kind("plan")), len(desk.of_kind("record")), remarks)


def judge(desk: Desk) -> None:
    """Look at everything."""
    _published(desk)
    for name in desk.of_kind("source"):
        with desk.judging(name):
            for found in forbidden(desk.files[name].decode("utf-8", "replace"), name):
                desk.add(name, f"line {found.line}", found.what)
    plans = {name: plan for name in desk.of_kind("plan") if (plan := desk.read(name, read_plan))}
    plans |= complete(desk, plans.values())
    if not desk.of_kind("plan"):
        desk.add("leaderboard/plans", "", "is missing: a submission has a plan, its ledger and its records")
    judged: set[str] = set()
    for name, plan in plans.items():
        study = Study(desk, name, plan)
        with desk.judging(name):
            study.judge()
        judged |= study.files
    for name in sorted(set(desk.files) - judged - set(plans)):
        if kind_of(name) in ("ledger", "record", "tuned", "quantized", "diagnosis"):
            desk.add(name, "", "belongs to no plan of this bundle")
    _entries(desk, {plan.algorithm for plan in plans.values()})
    _children(desk)


def _entries(desk: Desk, algorithms: set[str]) -> None:
    """Code, entries and tests are those of the algorithms that the plans are about, under names that are free."""
    for name in [*desk.of_kind("source"), *desk.of_kind("entry"), *desk.of_kind("test")]:
        if parts_of_name(name)[0] not in algorithms:
            desk.add(name, "", "belongs to no plan of this bundle")
    for name in desk.of_kind("entry"):
        path = desk.root / name
        taken = [other for other in (desk.root / "baselines").glob(f"*/{path.name}") if other.parent != path.parent]
        if taken or path.stem in RESERVED:
            where = taken[0].relative_to(desk.root).as_posix() if taken else "a page"
            desk.add(name, "", f"its name is taken by {where}")
        with desk.judging(name):
            check_variants(Entry(path))


def _published(desk: Desk) -> None:
    """What is published stays as it is; tuned values are written anew by a later plan, and added modes join others."""
    for name, data in desk.files.items():
        there = desk.base / name
        kind = kind_of(name)
        if not there.is_file() or there.read_bytes() == data or kind == "tuned":
            continue
        if kind not in ("quantized", "diagnosis") or not grown(desk, name):
            desk.add(name, "", "is published already, and differs: what is published stays")


def _children(desk: Desk) -> None:
    for name in [*desk.of_kind("downstream"), *desk.of_kind("quantized")]:
        parent, kind = name.split(".")[0] + ".json", kind_of(name)
        if parent not in desk.files and (kind == "downstream" or not (desk.base / parent).is_file()):
            desk.add(name, "", "its record is not in the bundle")
        found = desk.read(name, read_downstream if kind == "downstream" else read_quantized)
        diagnosis = f"{name.split('.')[0]}.diagnosis.json.gz"
        there = diagnosis in desk.files or (desk.base / diagnosis).is_file()
        if isinstance(found, Quantized) and found.modes and not there:
            desk.add(diagnosis, "", "is missing: the diagnosis of a measured checkpoint")
    for name in desk.of_kind("diagnosis"):
        child = name.removesuffix("diagnosis.json.gz") + "quantized.json"
        if child not in desk.files:
            desk.add(name, "", "its child record is not in the bundle")
        elif (measured := desk.read(child, read_quantized)) is not None:
            desk.read(name, partial(check_diagnosis, measured))
    for name in desk.of_kind("log"):
        if name.removesuffix(".log.gz") + ".json" not in desk.files:
            desk.add(name, "", "its record is not in the bundle")
