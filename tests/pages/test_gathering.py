"""What pages are made of: one record of a run, and where a clone is had."""

import pytest

from bench.errors import BenchError
from bench.pages.build import gather, pages


def test_of_two_records_of_a_run_the_finished_one_is_shown_and_a_contradiction_is_refused(bench, write, tmp_path):
    """Another's try of a published run that crashed there is no failure of it, wherever its folder lies."""
    for first, second in (("a", "b"), ("b", "a")):
        write(tmp_path / first / "published", entry="quick", seed=0)
        write(tmp_path / first / second / "tried", entry="quick", seed=0, outcome="crashed")
        both = [tmp_path / first / "published", tmp_path / first / second / "tried"]
        for folders in (both, both[::-1]):
            (found,) = gather(folders, bench / "tasks", bench / "baselines", bench).records
            assert found.outcome == "finished"
    write(tmp_path / "other", entry="quick", seed=0, score_loss=1.25, select_loss=1.25)
    with pytest.raises(BenchError, match=r"differs from .*, a record of the same run"):
        gather([tmp_path / "a" / "published", tmp_path / "other"], bench / "tasks", bench / "baselines", bench)


def test_pages_lead_to_the_clone_where_one_is_known(material, sources, site):
    made = pages(material, sources, repository="https://example.org/isoloss/")
    for path, text in made.items():
        if path.endswith(".html"):
            assert '<a href="https://example.org/isoloss/">' in text
            assert "example.org" not in site[path]
