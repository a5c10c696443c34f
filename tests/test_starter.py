"""What `bench new` writes passes as it is, and nothing is written over."""

import pytest

from bench.entry import Entry
from bench.errors import BenchError
from bench.forbidden import refuse
from bench.starter import begin


def test_what_is_begun_can_be_read_and_keeps_to_its_own(tmp_path):
    entry = Entry(begin("my-optimizer", tmp_path))
    refuse(entry.source)
    assert (entry.path.parent.name, entry.name) == ("my_optimizer", "my-optimizer")
    assert "class MyOptimizer(Optimizer)" in entry.source.read_text()


@pytest.mark.parametrize(
    "name",
    ["index", "My-Optimizer", "a_b", "-a", "a--b", "../a", "", "ä", "a" * 41, "none", "hyperparameters", "optimizer"],
)
def test_a_name_that_no_entry_may_have_is_refused(tmp_path, name):
    with pytest.raises(BenchError, match="is no name of an entry"):
        begin(name, tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_is_there_stays(tmp_path):
    path = begin("my-optimizer", tmp_path)
    path.rename(path.with_name("other.toml"))
    for name in ("my-optimizer", "other"):
        with pytest.raises(BenchError, match="is there already"):
            begin(name, tmp_path)
