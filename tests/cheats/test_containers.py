"""Bundles that are no honest folder or archive: each is named with its file and the reason, and nothing is written."""

import gzip
import io
import json
import os
import shutil
import sys
import tarfile
import zipfile

import pytest

from bench.cli.main import main
from bench.errors import BenchError
from bench.submission.files import Finding, kind_of, read_bundle
from bench.submission.judge import verify
from bench.submission.pack import archive, write_bundle

NAME = "baselines/my_optimizer/optimizer.py"


def packed(path, *members):
    """Write a .tar.gz of (name, bytes or a TarInfo's changes)."""
    with tarfile.open(path, "w:gz") as tar:
        for name, data, *changed in members:
            facts = tarfile.TarInfo(name)
            facts.size = len(data)
            for key, value in (changed[0] if changed else {}).items():
                setattr(facts, key, value)
            tar.addfile(facts, io.BytesIO(data))
    return path


def said(path):
    return [str(finding) for finding in read_bundle(path)[1]]


@pytest.mark.parametrize("name", ["../evil.py", "/etc/passwd", "baselines/../../x", "a\\b", "C:/x"])
def test_a_path_that_climbs_out_is_named(tmp_path, name):
    assert said(packed(tmp_path / "b.tar.gz", (name, b"x"))) == [f"{name}: its path climbs out of the bundle"]


def test_a_file_that_is_no_part_of_a_submission_is_named(tmp_path):
    strange = ("bench/train.py", b"x"), (".github/workflows/x.yml", b"x")
    found = said(packed(tmp_path / "b.tar.gz", (NAME, b"x"), *strange))
    assert found == [
        "bench/train.py: is no file of a submission",
        ".github/workflows/x.yml: is no file of a submission",
    ]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_a_link_in_an_archive_is_named(tmp_path, kind):
    assert said(packed(tmp_path / "b.tar.gz", (NAME, b"", {"type": kind, "linkname": "/etc/passwd"}))) == [
        f"{NAME}: is a link"
    ]


def test_a_device_is_named(tmp_path):
    assert said(packed(tmp_path / "b.tar.gz", (NAME, b"", {"type": tarfile.FIFOTYPE}))) == [f"{NAME}: is no plain file"]


def test_links_and_pipes_in_a_folder_are_named_and_not_followed(tmp_path):
    home = tmp_path / "b" / "baselines" / "my_optimizer"
    home.mkdir(parents=True)
    (home / "optimizer.py").symlink_to("/etc/passwd")
    (tmp_path / "b" / "leaderboard").symlink_to("/")
    os.mkfifo(home / "my-optimizer.toml")
    assert sorted(said(tmp_path / "b")) == [
        f"{home.relative_to(tmp_path / 'b')}/my-optimizer.toml: is no plain file", f"{NAME}: is a link",
        "leaderboard: is a link",
    ]  # fmt: skip


def test_a_file_that_is_too_large_is_named_and_not_read(tmp_path):
    assert said(packed(tmp_path / "b.tar.gz", (NAME, b"x" * 50_000))) == [
        f"{NAME}: has 50,000 bytes, expected at most 40,000"
    ]


def test_bombs_are_left_before_they_go_off(tmp_path):
    bomb = packed(tmp_path / "b.tar.gz", *((f"x{i}", bytes(20_000_000)) for i in range(4)))
    assert bomb.stat().st_size < 200_000 and "one too many" in said(bomb)[-1]
    with zipfile.ZipFile(tmp_path / "b.zip", "w", zipfile.ZIP_DEFLATED) as flat:
        flat.writestr(NAME, bytes(60_000_000))
    assert "one too many" in said(tmp_path / "b.zip")[-1]
    log = f"leaderboard/records/small/{'0' * 16}/{'0' * 64}.log.gz"
    assert said(packed(tmp_path / "c.tar.gz", (log, gzip.compress(bytes(20_000_000))))) == [
        f"{log}: unpacks to more than 4,000,000 bytes"
    ]


def test_text_that_is_none_and_names_that_stand_twice_are_named(tmp_path):
    assert said(packed(tmp_path / "b.tar.gz", (NAME, b"ok = '\xff'"))) == [
        f"{NAME}: is not UTF-8 text: invalid start byte at byte 6"
    ]
    assert said(packed(tmp_path / "c.tar.gz", (NAME, b"a"), (NAME, b"b"))) == [f"{NAME}: stands twice in the archive"]


@pytest.mark.parametrize("data", [b"", b"no archive", gzip.compress(b"no tar"), b"PK\x03\x04 no zip"])
def test_what_is_no_archive_is_refused(tmp_path, data):
    (tmp_path / "b").write_bytes(data)
    try:
        files, found = read_bundle(tmp_path / "b")
        assert not files and not found  # an empty tar is a tar; verify then misses the plan
    except BenchError as error:
        assert "the bundle is damaged" in error.what


def test_a_bundle_is_the_same_as_folder_archive_and_zip(clone, tmp_path):
    files = clone.files()
    write_bundle(tmp_path / "b.tar.gz", files)
    write_bundle(tmp_path / "b", files)
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as zipped:
        for name, data in files.items():
            zipped.writestr(name, data)
    assert all(read_bundle(tmp_path / name) == (files, []) for name in ("b", "b.tar.gz", "b.zip"))
    assert archive(files) == (tmp_path / "b.tar.gz").read_bytes()


MISSING = {"source": "optimizer.py", "entry": "my-optimizer.toml", "plan": "leaderboard/plans", "ledger": ".jsonl",
           "tuned": "tuned/small/my-optimizer.toml", "log": ".log.gz", "record": "leaderboard/plans"}  # fmt: skip


@pytest.mark.parametrize("kind", MISSING)
def test_a_missing_file_is_named(clone, tmp_path, kind):
    files = clone.files()
    gone = next(name for name in files if kind_of(name) == kind)
    write_bundle(tmp_path / "b", {name: data for name, data in files.items() if name != gone})
    base = tmp_path / "base"
    shutil.copytree(clone.root, base, ignore=shutil.ignore_patterns("my_optimizer", "runs", "my-optimizer-*"))
    found = verify(tmp_path / "b", base).findings
    assert any(MISSING[kind] in f"{f.file} {f.reason}" for f in found), found


def test_numbers_that_are_none_are_refused(clone, tmp_path):
    files = clone.files()
    name = next(name for name in files if "/records/" in name and name.endswith(".json"))
    score = json.loads(files[name])["score_loss"]
    files[name] = files[name].replace(str(score).encode(), b"NaN")
    write_bundle(tmp_path / "b", files)
    found = verify(tmp_path / "b", clone.root).findings
    assert any(f.file == name and "NaN is not JSON" in f.reason for f in found), found


def test_the_verb_names_what_is_wrong_and_exits_with_1(clone, tmp_path, monkeypatch, capsys):
    files = clone.files()
    files["bench/x.py"] = b"x"
    write_bundle(tmp_path / "b.tar.gz", files)
    write_bundle(tmp_path / "good", clone.files())
    before = sorted(clone.root.rglob("*"))
    for bundle, code in ((tmp_path / "b.tar.gz", 1), (tmp_path / "good", 0)):
        monkeypatch.setattr(sys, "argv", ["bench", "verify", str(bundle), "--base", str(clone.root)])
        with pytest.raises(SystemExit) as stop:
            main()
        out = capsys.readouterr().out
        assert (stop.value.code or 0) == code, out
        assert ("bench/x.py: is no file of a submission" in out) == bool(code)
    assert sorted(clone.root.rglob("*")) == before


def test_a_folder_of_other_things_is_one_finding(clone, tmp_path):
    """Somebody named the wrong folder: the names of all that is in it would say less."""
    for name in ("notes.txt", "bench/train.py", "bench/run.py"):
        path = tmp_path / "mine" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    found = verify(tmp_path / "mine", clone.root).findings
    assert [str(one) for one in found] == ["mine: is no bundle: none of its 3 files is one of a submission"]


def test_a_clone_is_one_finding(clone, tmp_path):
    """The submitter's own clone has records among thousands of files that no submission has."""
    (tmp_path / "mine/leaderboard/plans").mkdir(parents=True)
    (tmp_path / "mine/.git").write_text("gitdir: elsewhere")  # as in a worktree
    found = verify(tmp_path / "mine", clone.root).findings
    assert [str(one) for one in found] == ["mine: is a clone, no bundle: bench bundle makes one of it"]


def test_a_finding_is_file_key_and_reason():
    assert str(Finding("a.json", "inputs.seed", "duplicate")) == "a.json: inputs.seed: duplicate"
    assert str(Finding("a.json", "", "is a link")) == "a.json: is a link"
