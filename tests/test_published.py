"""What is published: every record is whole and keeps the protocol, and the site is the one that these records make."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from numpy._core._multiarray_umath import __cpu_dispatch__

from bench.pages.build import LIST, drawn_files, gather, pages, read_sources
from bench.pages.drawing import BUNDLE
from bench.pages.rebuild import unlike
from bench.record import find_records, read_log, read_record
from bench.release import read_release, releases, source_digest
from bench.task import read_task
from bench.verify import lint_record, lint_siblings

ROOT = Path(__file__).parents[1]
RECORDS, SITE = ROOT / "leaderboard" / "records", ROOT / "leaderboard" / "site"
PUBLISHED = find_records([RECORDS])


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem[:12])
def test_every_record_is_whole_and_keeps_the_protocol(path):
    record = read_record(path)
    log = read_log(path, record)
    crosses = [tick for tick in lint_record(record, read_task(ROOT / "tasks" / f"{record.task}.toml"), log)
               if tick.ok is False]  # fmt: skip
    assert not crosses


def test_records_at_a_seed_started_from_the_same_weights_and_saw_the_same_data():
    crosses = {run_id: [tick for tick in ticks if tick.ok is False]
               for run_id, ticks in lint_siblings([read_record(path) for path in PUBLISHED]).items()}  # fmt: skip
    assert not any(crosses.values())


@pytest.fixture(scope="module")
def material():
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)  # pages name records as a clone's root sees them
        return gather([Path("leaderboard/records")], Path("tasks"), Path("baselines"), Path("leaderboard"))


@pytest.mark.parametrize("version", releases(ROOT / "leaderboard" / "releases"))
def test_every_release_rebuilds_byte_for_byte_or_its_code_has_moved_on(material, version):
    release = read_release(ROOT / "leaderboard" / "releases" / version)
    wrong = unlike(version, material, ROOT / "leaderboard" / "releases")
    assert not wrong or release.source != source_digest(), wrong


def test_no_placebo_differs_from_its_twin(material):
    assert not [why for board in material.boards for why in board.failing]


def test_the_published_site_is_the_one_these_records_make(material):
    _pass_over_a_submission(PUBLISHED, SITE, os.environ)
    sources = read_sources(ROOT / "leaderboard")
    made = {name: text.encode() for name, text in pages(material, sources).items()} | drawn_files(sources)
    for name, data in made.items():
        assert (SITE / name).read_bytes() == data, f"{name}: run `bench site`"
    not_made_here = {LIST, BUNDLE}  # the charts' script is made by each build and not kept in version control
    there = {path.relative_to(SITE).as_posix() for path in SITE.rglob("*") if path.is_file()} - not_made_here
    assert there == set(made), "run `bench site`"


def test_only_ci_passes_over_records_without_pages(tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "old.html").touch()
    _pass_over_a_submission([Path("old.json")], tmp_path, {"CI": "true"})
    _pass_over_a_submission([Path("old.json"), Path("new.json")], tmp_path, {})
    with pytest.raises(pytest.skip.Exception, match="1 records"):
        _pass_over_a_submission([Path("old.json"), Path("new.json")], tmp_path, {"CI": "true"})


def _pass_over_a_submission(records: list[Path], site: Path, environment: Mapping[str, str]) -> None:
    """Skip in CI where records have no page yet: a submission may bring none, and they are rebuilt after the merge."""
    new = [path for path in records if not (site / "runs" / f"{path.stem}.html").exists()]
    if new and environment.get("CI"):
        pytest.skip(f"{len(new)} records came without pages: the workflow `pages` rebuilds them, and `bench site`")


def test_records_and_pages_leave_room_in_the_repository():
    size = sum(path.stat().st_size for folder in (RECORDS, SITE) for path in folder.rglob("*") if path.is_file())
    assert size < 60 * 2**20


def test_a_board_hangs_on_no_processor():
    """What is published is built again to the byte where numpy has none of the wide instructions it is built for."""
    score = [sys.executable, "-m", "bench", "score", "tasks/nano.toml", "--format", "json"]
    narrow = {"NPY_DISABLE_CPU_FEATURES": " ".join(__cpu_dispatch__)}
    said = [subprocess.run(score, cwd=ROOT, env=os.environ | env, capture_output=True, check=True).stdout
            for env in ({}, narrow)]  # fmt: skip
    assert said[0] == said[1] and b'"speedup"' in said[0]
