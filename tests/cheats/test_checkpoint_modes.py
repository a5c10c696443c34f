"""Modes of finished checkpoints: none left out, none invented, none with figures of its own; some may grow."""

import shutil

import pytest
from synthetic import AFTER, ROUNDED, rounded

from bench.children import Crossing, Failed, Rounded, quantized_path, read_quantized, write_child
from bench.crossings import crossings
from bench.digest import digest_of
from bench.mode import read_mode
from bench.plan import add_modes
from bench.record import Quantization, read_log, read_record
from bench.spec import validate
from bench.submission.after import measured
from bench.submission.desk import Desk
from bench.submission.grown import grown
from bench.submission.judge import verify

FIRST, SECOND = sorted(AFTER)[:2]


@pytest.fixture
def desk(forgery):
    """A desk on the submission, whose plan asks for a mode of each checkpoint, which all children have."""
    for path in forgery.records:
        write(path, {FIRST})
    return Desk(forgery.folder, forgery.clone.root, {}, [], set())


def proof(**changed):
    return validate({**ROUNDED, **changed}, Quantization, "proof")


def write(path, modes, passed=(), failed=None, **changed):
    """Write a record's child with these modes, and some of the first one's figures changed."""
    record = read_record(path)
    found = {name: one for name, one in rounded(record).modes.items() if name in modes}
    own = {"quantization": proof(float_score_loss=record.score_loss)}
    found = {name: one.model_copy(update=own) for name, one in found.items()}
    found = {name: one.model_copy(update=changed if name == FIRST else {}) for name, one in found.items()}
    write_child(quantized_path(path), record.run_id, record.weights.evaluated, found, passed, failed)


def records(forgery):
    return [path for path in forgery.records if path.name.count(".") == 1]


def said(forgery, desk, modes=(FIRST,), task=None):
    plan = forgery.clone.plan.model_copy(update={"modes": ("bf16", *modes)})
    found = {path.relative_to(desk.root).as_posix(): read_record(path) for path in records(forgery)}
    measured(desk, [plan], task or forgery.clone.task, found)
    return [str(finding) for finding in desk.findings]


def test_every_planned_mode_of_every_finished_run_stands(forgery, desk):
    assert said(forgery, desk) == []


def failed():
    return Failed(mode_digest=read_mode(FIRST).digest, cause="it cannot be", machine=digest_of("m"), made="2026")


def no_child(path):
    quantized_path(path).unlink()


CHEATS = {
    "leaves a bad checkpoint out": (no_child, f"is missing: the plan asks for {FIRST}"),
    "leaves a mode out": (lambda path: write(path, set()), f"modes.{FIRST}: was planned, and is missing"),
    "invents a mode": (lambda path: write(path, {FIRST, SECOND}), f"modes.{SECOND}: no plan asks for it"),
    "fakes a degradation": (lambda path: write(path, {FIRST}, degradation=0.0), f"modes.{FIRST}.degradation: "),
    "fakes a perplexity": (lambda path: write(path, {FIRST}, perplexity=1.0), f"modes.{FIRST}.perplexity: "),
    "fakes a mode": (lambda path: write(path, {FIRST}, mode_digest="1" * 64), f"modes.{FIRST}.mode_digest: "),
    "fakes the float loss": (
        lambda path: write(path, {FIRST}, quantization=proof(float_score_loss=9.0)),
        f"modes.{FIRST}.quantization.float_score_loss: "),
    "says that a mode failed which was measured": (
        lambda path: write(path, {FIRST}, failed={FIRST: failed()}), f"failed.{FIRST}: the mode was measured"),
    "rounds in half of its passes": (
        lambda path: write(path, {FIRST}, quantization=proof(
            float_score_loss=read_record(path).score_loss, forwards=0.5)),
        f"modes.{FIRST}.quantization E2: "),
}  # fmt: skip


@pytest.mark.parametrize("what", CHEATS)
def test_a_submission_is_refused_that(what, forgery, desk):
    spoil, reason = CHEATS[what]
    spoil(records(forgery)[0])
    assert any(reason in line for line in said(forgery, desk)), desk.findings


def crossed(path, task, **changed):
    """Return what an honest run measured at the task's common losses, with something of each changed."""
    record = read_record(path)
    one = {"mode_digest": read_mode(FIRST).digest, "loss": 4.5, "degradation": 0.5, "layers": 28}
    one |= {key: changed.pop(key) for key in list(changed) if key in one}
    modes = {changed.pop("mode", FIRST): Rounded(**one)}
    return [
        Crossing(**{"threshold": threshold, "tokens": point.tokens, "curve_loss": point.loss, "weights": digest_of("w"),
                    "float_loss": 4.0, "modes": modes, **changed})
        for threshold, point in crossings(record, read_log(path, record), task).items()
    ]  # fmt: skip


CROSSED = {
    "is honest": ({}, None),
    "invents a common loss": ({"threshold": 0.5}, "crossings.0.5: is no common loss"),
    "says that it got there sooner": ({"tokens": 64}, " at 64 tokens, the log's curve has "),
    "fakes the curve's loss": ({"curve_loss": 4.0}, ": 4.0 at "),
    "fakes a degradation there": ({"degradation": 0.0}, f".{FIRST}.degradation: 0.0, the losses give another"),
    "has a degradation and no loss": ({"loss": None}, f".{FIRST}.degradation: "),
    "rounds fewer layers": ({"layers": 1}, f".{FIRST}.layers: 1, at the end of the run 28"),
    "takes a mode that nobody asked for": ({"mode": SECOND}, f".{SECOND}: no plan asks for it"),
    "is of other code": ({"mode_digest": "1" * 64}, f".{FIRST}.mode_digest: is of another version"),
}


@pytest.mark.parametrize("what", CROSSED)
def test_what_was_measured_at_common_losses_is_held_to_the_curve(what, forgery, desk):
    changed, reason = CROSSED[what]
    path = records(forgery)[0]
    log = read_log(path, read_record(path))
    task = forgery.clone.task.model_copy(update={"common_losses": (log.curve[2].loss,)})
    passed = crossed(path, task, **changed)
    assert passed
    write(path, {FIRST}, passed)
    found = said(forgery, desk, task=task)
    assert found == [] if reason is None else any(reason in line for line in found), found


def test_a_child_of_another_s_published_run_is_refused(forgery, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(forgery.clone.root, base, ignore=shutil.ignore_patterns("runs"))
    theirs = next((base / "leaderboard" / "plans" / "small").glob("adamw-ref-*.json")).stem.removeprefix("adamw-ref-")
    home = f"leaderboard/records/small/{theirs}"
    for root in (base, forgery.folder):
        (root / home).mkdir()
    published = base / home / forgery.record.name
    for suffix in (".json", ".log.gz"):
        shutil.copy(forgery.record.with_suffix(suffix), published.with_suffix(suffix))
    write(published, set(), failed={FIRST: failed()})
    place = f"{home}/{quantized_path(published).name}"
    (base / place).rename(forgery.folder / place)
    found = [str(finding) for finding in verify(forgery.folder, base).findings]
    assert f"{place}: modes.{FIRST}: no plan asks for it" in found
    next((base / "leaderboard" / "plans" / "small").glob("adamw-ref-*.json")).unlink()
    found = [str(finding) for finding in verify(forgery.folder, base).findings]
    assert f"{place}: belongs to no plan of this bundle" in found


def test_what_another_version_of_a_mode_measured_is_measured_anew(forgery, tmp_path):
    """What old code measured may give way to what the current one did, to nothing else; left, it disturbs nobody."""
    base = tmp_path / "base"
    path, other = records(forgery)[:2]
    for one in records(forgery):
        write(one, {FIRST})
    old = {"mode_digest": "1" * 64, "degradation": 9.0}
    write(path, {FIRST}, **old)
    name = quantized_path(path).relative_to(forgery.folder).as_posix()
    shutil.copytree(forgery.folder, base)
    desk = Desk(forgery.folder, base, {}, [], set())
    assert said(forgery, desk) == [] and grown(desk, name)
    write(path, {FIRST}, mode_digest="2" * 64)
    assert not grown(desk, name)
    write(path, set(), failed={FIRST: failed()})
    assert grown(desk, name) and said(forgery, desk) == []
    write(path, {FIRST})
    assert grown(desk, name) and said(forgery, desk) == []
    write(other, {FIRST}, degradation=9.0)
    assert not grown(desk, quantized_path(other).relative_to(forgery.folder).as_posix())


def test_a_run_that_was_made_again_comes_without_its_published_plan(forgery, tmp_path, monkeypatch):
    base, bundle = tmp_path / "base", tmp_path / "again"
    shutil.copytree(forgery.clone.root, base, ignore=shutil.ignore_patterns("runs"))
    for path in (forgery.record, forgery.record.with_suffix(".log.gz")):
        name = path.relative_to(forgery.folder)
        (bundle / name).parent.mkdir(parents=True, exist_ok=True)
        (base / name).replace(bundle / name)
    told = verify(bundle, base)
    plan = forgery.plan.relative_to(forgery.folder).as_posix()
    assert not told.findings and [remark.file for remark in told.remarks] == [plan]
    next((base / "leaderboard" / "plans").rglob(forgery.plan.name)).unlink()
    found = [str(finding) for finding in verify(bundle, base).findings]
    assert f"{path.with_suffix('').with_suffix('.json').relative_to(forgery.folder)}: belongs to no plan" in str(found)


def test_runs_of_another_version_of_their_mode_are_left_out_of_a_bundle(forgery, monkeypatch):
    assert sum(name.endswith(".log.gz") for name in forgery.clone.files()) == len(forgery.records)
    monkeypatch.setattr("bench.submission.pack.current", lambda: {"bf16": "1" * 64})
    assert not [name for name in forgery.clone.files() if "/records/" in name]


def test_a_published_child_may_get_further_modes_and_keeps_those_it_had(forgery, tmp_path):
    path = forgery.records[0]
    base, name = tmp_path / "base", quantized_path(path).relative_to(forgery.folder).as_posix()
    desk = Desk(forgery.folder, base, {}, [], set())
    write(path, {FIRST})
    for one in (path, quantized_path(path)):
        (base / one.relative_to(forgery.folder)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(one, base / one.relative_to(forgery.folder))
    write(path, {FIRST, SECOND})
    assert grown(desk, name)
    write(path, {FIRST, SECOND}, seconds=9.0)
    assert not grown(desk, name)
    write(path, {SECOND})
    assert not grown(desk, name)
    assert set(read_quantized(quantized_path(path)).modes) == {SECOND}


def test_the_ledger_of_a_plan_that_adds_modes_is_part_of_the_bundle(clone, tmp_path):
    from bench.ledger import ledger_path
    from bench.plan import write_plan
    from bench.submission.pack import files_of

    root = tmp_path / "clone"
    shutil.copytree(clone.root, root, ignore=shutil.ignore_patterns("runs"))
    plan = add_modes(clone.plan, ("qat-int8",), "adamw-ref")
    board = root / "leaderboard"
    write_plan(board / "plans", plan)
    name = ledger_path(board / "ledgers", plan).relative_to(root).as_posix()
    assert name not in files_of(clone.entry, [plan], board)
    (root / name).write_text("")
    assert name in files_of(clone.entry, [plan], board)
