"""The task's page: what its seeds can tell, what taking part costs, and the speedups in one picture."""

import json
from dataclasses import replace

import pytest
import synthetic
from planned import TASK, plan_of

from bench.outlook import ladder_tokens, levelling_tokens, searched_tokens
from bench.pages.charts import ladder_chart
from bench.pages.tasks import forest, powers, price
from bench.pages.views import board_view


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    return synthetic.material(tmp_path_factory.mktemp("ledgers"), ("adamw", "muon"), ("bf16",))


def test_what_three_seeds_can_tell_is_above_one_and_less_where_the_ladder_is_steep(tuned):
    found = powers(tuned.boards[0])
    assert [power.budget for power in found] == [0.25, 0.5, 1.0, 1.5, 2.0, 4.0]
    smallest = [power.smallest for power in found]
    assert all(1 < one < 1.5 for one in smallest)
    assert smallest[0] < smallest[-1], "the same noise is more tokens where the ladder is flat"


def test_seeds_of_the_yardstick_that_were_added_after_a_look_tell_less(tuned):
    board = tuned.boards[0]
    later = replace(board, scorer=replace(board.scorer, reference_look=2))
    for first, then in zip(powers(board), powers(later), strict=True):
        assert then.smallest > first.smallest


def test_the_price_is_that_of_a_newcomers_plan_and_not_of_a_placebos(tuned):
    found = price("nano", tuned)
    plan = plan_of("adamw")
    assert found.entry == "adamw"
    tuning = searched_tokens(plan, TASK) + levelling_tokens(plan, TASK)
    assert (found.tuning_tokens, found.scored_tokens) == (tuning, ladder_tokens(plan, TASK))
    assert price("other", tuned) is None


def test_the_forest_names_every_speedup_and_draws_its_interval(tuned):
    board = tuned.boards[0]
    drawn = forest(board_view(board, tuned), "f")
    points = json.loads(drawn.spec)["layer"][1]["data"]["values"]
    at = board.headline_budget
    assert {point["entry"]: point["figure"] for point in points} == pytest.approx(
        {row.entry: row.speedups[at].figure for row in board.rows}, rel=1e-6
    )
    for point in points:
        assert point["low"] < point["figure"] < point["high"]
        assert point["say"] in drawn.svg


def test_pointing_at_an_equal_loss_line_tells_its_arithmetic(tuned):
    board = tuned.boards[0]
    row = next(row for row in board.rows if row.entry == "muon")
    spec = json.loads(ladder_chart(board, (row,), "l").spec)
    told = {point["say"] for layer in spec["layer"] for point in layer["data"]["values"] if "÷" in point.get("say", "")}
    rung = row.rungs[-1]
    reference = row.speedups[rung.budget].reference_tokens
    assert told == {
        f"muon ends at {rung.mean:.4f} nats: {reference:,.0f} ÷ {rung.charged_tokens:,.0f} tokens = "
        f"{reference / rung.charged_tokens:.2f}×"
    }


@pytest.mark.parametrize("entry, tracks", [("adamw-ref", {"tuned"}), ("muon", {"tuned", "declared"})])
def test_a_challenge_of_the_yardstick_alone_is_no_board_of_declared_values(tuned, entry, tracks):
    told = synthetic.record(entry, synthetic.digest_of(entry), 0.5, 7, track="declared")
    found = synthetic.assembled([*tuned.records, told], tuned.tasks, {}, {})
    assert {board.track for board in found.boards} == tracks
