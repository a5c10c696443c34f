"""What lies in the folders that are published holds up, and a third ranked variant of an algorithm does not."""

import shutil

import pytest
from small import ROOT

from bench.errors import BenchError
from bench.lint import lint_paths


@pytest.mark.parametrize("folder", ["baselines", "tasks", "leaderboard"])
def test_everything_that_is_published_holds_up(folder):
    assert list(lint_paths([ROOT / folder]))


def test_at_most_two_variants_of_an_algorithm_are_ranked(tmp_path):
    folder = shutil.copytree(ROOT / "baselines" / "muon", tmp_path / "muon", ignore=shutil.ignore_patterns("tuned"))
    third = folder / "third.toml"
    third.write_text((folder / "muon.toml").read_text())
    with pytest.raises(BenchError, match="3 variants would be ranked, at most 2 are: moonlight, muon, third"):
        list(lint_paths([folder]))
    third.write_text("control = true\n" + third.read_text())
    assert len(list(lint_paths([folder]))) == 3
