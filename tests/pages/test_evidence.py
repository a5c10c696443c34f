"""The evidence tier of a row: a rerun is a drawn plan carried out by another party, and nothing less."""

import pytest
from planned import KIND, entry_at, plan_of
from synthetic import record

from bench.ledger import Study
from bench.lint import lint_paths
from bench.pages.evidence import tier
from bench.pages.views import Material
from bench.rerun import read_maintainers, rerun_plan

PLAN = plan_of("muon")
RERUN = rerun_plan(PLAN, "0" * 40, KIND, 1.0, "tuned", 1)


def run(plan, who, seed=0):
    made = record(plan.entry, entry_at("muon").digest, 1.0, seed, plan=plan.digest)
    return made.model_copy(update={"who": who})


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ([(PLAN, "author")], "author-run"),
        ([(PLAN, "author"), (PLAN, "a friend")], "author-run"),
        ([(PLAN, "author"), (RERUN, "author")], "author-run"),
        ([(PLAN, "author"), (PLAN, "a friend"), (RERUN, "a friend")], "author-run"),
        ([(PLAN, "author"), (RERUN, "another")], "rerun by another party"),
        ([(PLAN, "author"), (RERUN, "another"), (RERUN, "keeper")], "rerun by maintainers"),
        ([(PLAN, "keeper"), (RERUN, "keeper")], "author-run"),
        ([(RERUN, "another")], "author-run"),
    ],
)
def test_the_tier_is_read_off_drawn_plans_and_off_who_made_the_author_s(made, said):
    records = tuple(run(plan, who, seed) for seed, (plan, who) in enumerate(made))
    studies = {"nano": [Study(PLAN, ()), Study(RERUN, ())]}
    material = Material({}, {}, records, (), studies=studies, maintainers=frozenset({"keeper"}))
    assert tier(records, material) == said


def test_maintainers_are_a_list_beside_the_plans_and_none_where_there_is_none(tmp_path):
    assert read_maintainers(tmp_path) == frozenset()
    (tmp_path / "maintainers.toml").write_text('names = ["keeper"]\n')
    assert read_maintainers(tmp_path) == {"keeper"}
    assert list(lint_paths([tmp_path])) == [f"{tmp_path / 'maintainers.toml'}: 1 maintainers"]
