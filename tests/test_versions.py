"""A task that has records changes only with its version, and no version is used for two tasks."""

import re
import shutil

import pytest
from small import ADAMW, ROOT, make, write_task

from bench.errors import BenchError
from bench.lint import lint_paths
from bench.places import PUBLISHED
from bench.record import find_records, read_record
from bench.task import read_task
from bench.versions import NAME, check_published, pin_version, pins_of_task, read_pins


@pytest.mark.parametrize("path", sorted((ROOT / "tasks").glob("*.toml")), ids=lambda path: path.stem)
def test_a_task_that_has_records_is_the_one_they_were_made_with_or_has_a_higher_version(path):
    records = find_records([ROOT / PUBLISHED / "records" / path.stem])
    digests = {read_record(record).inputs.task_digest for record in records}
    check_published(path.stem, read_task(path), digests, read_pins(pins_of_task(path)))


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A clone in small: a task in tasks/, and one record of it below leaderboard/, its version written down."""
    folder = tmp_path_factory.mktemp("clone")
    (folder / "tasks").mkdir()
    path = write_task(folder / "tasks")
    record = make(path, ADAMW, folder, budget=0.25)
    shutil.copytree(record.parents[2], folder / PUBLISHED / "records")
    pin_version(path, read_task(path))
    return folder


@pytest.fixture
def clone(published, tmp_path):
    return shutil.copytree(published, tmp_path / "clone")


def lint(clone):
    return list(lint_paths([clone / "tasks", clone / PUBLISHED]))


def change(clone, **lines):
    """Set lines of the task file by name."""
    path = clone / "tasks" / "small.toml"
    text = path.read_text()
    for name, value in lines.items():
        text, found = re.subn(rf"(?m)^{name}(\s*)=.*$", rf"{name}\1= {value}", text)
        assert found == 1, name
    path.write_text(text)
    return path


def test_what_was_run_is_what_lies_there(clone):
    assert any("record of adamw" in line for line in lint(clone))


def test_a_change_without_a_new_version_fails_and_with_one_passes(clone):
    change(clone, clip=0.5)
    with pytest.raises(BenchError, match="the task was changed, and version 1 has records") as error:
        lint(clone)
    assert error.value.hint.startswith("raise version to 2")
    change(clone, version=2)
    lint(clone)


def test_what_moves_no_number_may_change(clone):
    change(clone, summary='"the same, said better"')
    lint(clone)


def test_an_old_version_is_not_used_again(clone):
    path = change(clone, clip=0.5, version=2)
    pin_version(path, read_task(path))
    for clip in (1.0, 0.25):  # the first version as it was, and another task under its number
        change(clone, clip=clip, version=1)
        with pytest.raises(BenchError, match="version 1 is older than version 2, which has records"):
            lint(clone)
    change(clone, clip=0.25, version=2)
    with pytest.raises(BenchError, match="the task was changed, and version 2 has records"):
        lint(clone)
    change(clone, version=3)
    lint(clone)


def test_writing_a_version_down_anew_does_not_get_round_it(clone):
    path = change(clone, clip=0.5)
    with pytest.raises(BenchError, match="the task was changed"):
        pin_version(path, read_task(path))
    (clone / PUBLISHED / NAME).write_text("{}")
    pin_version(path, read_task(path))
    with pytest.raises(BenchError, match="a record of a version of small that is not written down"):
        lint(clone)


def test_versions_that_are_no_versions_are_one_line(clone):
    for text in ("[]", '{"small": {"one": ""}}', '{"small": 1}', "{"):
        (clone / PUBLISHED / NAME).write_text(text)
        with pytest.raises(BenchError, match=NAME):
            lint(clone)
