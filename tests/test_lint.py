"""What lies in the folders that are published holds up, and a third ranked variant of an algorithm does not."""

import json
import shutil
from pathlib import Path

import pytest
from small import ROOT

from bench.digest import digest_of_bytes
from bench.errors import BenchError
from bench.lint import lint_paths
from bench.record import seal, write_atomically


@pytest.mark.parametrize("folder", ["baselines", "tasks", "leaderboard"])
def test_everything_that_is_published_holds_up(folder):
    assert list(lint_paths([ROOT / folder]))


def test_a_release_is_summed_up_once_and_its_boards_are_held_to_it(tmp_path):
    home = tmp_path / "releases" / "1.0"
    board = b'{"schema": 1}'
    facts = {"schema": 1, "version": "1.0", "before": None, "why": ["a"], "what": [], "findings": None, "records": {},
             "quantized": {}, "ledgers": {}, "timings": [], "tasks": {}, "source": "0" * 64, "lock": {},
             "files": {"boards/nano-bf16-tuned.json": digest_of_bytes(board)}}  # fmt: skip
    write_atomically(home / "boards" / "nano-bf16-tuned.json", board)
    write_atomically(home / "release.json", json.dumps(seal(facts)).encode())
    assert list(lint_paths([tmp_path])) == [f"{home / 'release.json'}: release 1.0 of 0 records, 1 files beside it"]
    (home / "boards" / "nano-bf16-tuned.json").write_bytes(b"{}")
    with pytest.raises(BenchError, match="it was changed after the release"):
        list(lint_paths([tmp_path]))


def test_an_algorithm_whose_name_is_that_of_an_unread_folder_is_read(tmp_path):
    folder = shutil.copytree(ROOT / "baselines" / "muon", tmp_path / "static", ignore=shutil.ignore_patterns("tuned"))
    (folder / "optimizer.py").write_text("import os\nos.system('true')\n")
    with pytest.raises(BenchError, match="os"):
        list(lint_paths([tmp_path]))


@pytest.mark.parametrize("folder", ["leaderboard/ledgers/nano", "leaderboard/plans/nano"])
def test_a_file_is_found_from_its_own_folder(monkeypatch, folder):
    monkeypatch.chdir(ROOT / folder)
    assert list(lint_paths([Path(sorted(Path.cwd().glob("muon-*"))[0].name)]))


def test_at_most_two_variants_of_an_algorithm_are_ranked(tmp_path):
    folder = shutil.copytree(ROOT / "baselines" / "muon", tmp_path / "muon", ignore=shutil.ignore_patterns("tuned"))
    third = folder / "third.toml"
    third.write_text((folder / "muon.toml").read_text())
    with pytest.raises(BenchError, match="3 variants would be ranked, at most 2 are: moonlight, muon, third"):
        list(lint_paths([folder]))
    third.write_text("control = true\n" + third.read_text())
    assert len(list(lint_paths([folder]))) == 3
