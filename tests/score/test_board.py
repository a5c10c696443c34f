import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.errors import BenchError
from bench.score.board import make_board
from bench.score.table import FORMATS, render


def board_of(rows, task, **more):
    return make_board(rows, task, "adamw-ref", **more)


def test_a_board_reads_speedups_from_the_ladder(task, ladder, make_runs):
    entries = make_runs("muon", {1.0: [3.409, 3.41, 3.411], 2.0: [3.319, 3.32, 3.321]})
    board = board_of(ladder + entries + make_runs("sgd", {1.0: [3.94, 3.941, 3.942]}), task)
    assert [row.entry for row in board.rows] == ["muon", "sgd"]
    assert board.reference.entry == "adamw-ref" and board.reference.speedups == {}
    muon = board.rows[0].speedups
    assert muon[1.0].value == pytest.approx(2.0, rel=1e-6) and muon[1.0].beats_reference
    assert muon[1.0].low < 2 < muon[1.0].high
    assert muon[1.0].p_holm >= muon[1.0].p_value
    assert board.degrees_of_freedom == 10 + 4 + 2
    assert board.curve.tokens == tuple(task.budget.tokens * b for b in (0.25, 0.5, 1, 2, 4))


def test_extra_passes_are_charged(task, ladder, make_runs):
    rows = ladder + make_runs("sam", {1.0: [3.409, 3.41, 3.411]}, passes=2.0)
    found = board_of(rows, task).rows[0]
    assert found.speedups[1.0].value == pytest.approx(1.0, rel=1e-6)
    assert found.rungs[0].tokens * 2 == found.rungs[0].charged_tokens


def test_failures_are_rows_with_a_cause_and_nothing_is_imputed(task, ladder, make_row):
    rows = [
        make_row("muon", 1.0, 0, 3.4),
        make_row("muon", 1.0, 1, outcome="diverged"),
        make_row("bad", 1.0, 0, outcome="crashed"),
    ]
    board = board_of(ladder + rows, task)
    muon, bad = board.rows
    assert (bad.entry, bad.rungs[0].losses, bad.rungs[0].mean, bad.speedups) == ("bad", (), None, {})
    assert bad.rungs[0].causes == ("crashed at step 7",)
    assert muon.rungs[0].losses == (3.4,) and muon.rungs[0].failures[0][:2] == (1, "diverged")


def test_one_seed_everywhere_gives_figures_and_no_interval(task, make_runs):
    rows = make_runs("adamw-ref", {0.5: [3.7], 1.0: [3.5], 2.0: [3.4]}) + make_runs("muon", {1.0: [3.45]})
    board = board_of(rows, task)
    found = board.rows[0].speedups[1.0]
    assert (board.noise, board.degrees_of_freedom, board.no_interval) == (None, 0, "one seed")
    assert (found.low, found.high, found.no_interval) == (None, None, "one seed")
    assert found.value > 1 and not found.beats_reference
    assert "no interval: one seed" in render(board, task)


@pytest.mark.parametrize("budgets", [{}, {1.0: [3.5, 3.6]}])
def test_a_short_ladder_says_what_to_run(task, make_runs, make_row, budgets):
    rows = [*make_runs("adamw-ref", budgets), make_row("adamw-ref", 8.0, outcome="timeout"), make_row()]
    with pytest.raises(BenchError, match=r"run adamw-ref at 0\.25x and 0\.5x"):
        board_of(rows, task)


def test_no_reference_says_where_it_has_records(task, make_runs):
    rows = make_runs("adamw-ref", {1.0: [3.5], 2.0: [3.4]}, track="declared") + make_runs("muon", {1.0: [3.4]})
    with pytest.raises(BenchError, match="bf16/declared"):
        board_of(rows, task)
    with pytest.raises(BenchError, match="no records of this version"):
        board_of([], task)


def test_the_reference_is_the_tuned_one_wherever_it_has_a_rung(task, ladder, make_runs):
    declared = make_runs("adamw-ref", {1.0: [3.5], 2.0: [3.4]}, track="declared")
    entry = make_runs("muon", {1.0: [3.45]}, track="declared") + make_runs("muon", {1.0: [3.45]}, track="transfer")
    assert board_of(ladder + entry, task, track="transfer").reference_track == "tuned"
    assert board_of(entry + declared, task, track="declared").reference_track == "declared"
    board = board_of(ladder + entry + declared, task, track="declared")  # a challenge's runs are no ladder
    assert board.reference_track == "tuned" and len(board.reference.rungs) == 5


def test_of_values_set_by_hand_the_newest_are_shown(task, ladder, make_runs, make_row):
    """A second challenge at a rung has other values: no board may stop at that."""
    first = make_runs("muon", {1.0: [3.45, 3.46]}, track="declared")
    second = [make_row("muon", 1.0, s, 3.4, track="declared", values=1, made="2026-02-01T00:00:00Z") for s in (0, 1, 2)]
    board = board_of(ladder + first + second, task, track="declared")
    assert board.rows[0].rungs[0].losses == (3.4, 3.4, 3.4)
    assert "left out: 2 records of values set by hand before others" in board.notes
    with pytest.raises(BenchError, match="two sets of values"):
        board_of(ladder + [row._replace(track="tuned") for row in first + second], task)


def test_of_code_tried_by_hand_the_newest_is_shown(task, ladder, make_runs, make_row):
    """Whoever edits an entry and runs it again sees the new runs, and everybody else's board with them."""
    first = make_runs("mine", {1.0: [3.45, 3.46], 2.0: [3.4]}, track="declared")
    second = [make_row("mine", 1.0, 0, 3.42, track="declared", source=1, made="2026-02-01T00:00:00Z")]
    board = board_of(ladder + first + second, task, track="declared")
    assert [(rung.budget, rung.losses) for rung in board.rows[0].rungs] == [(1.0, (3.42,))]
    assert "left out: 3 records made by hand with code that changed since" in board.notes
    with pytest.raises(BenchError, match="two versions of its source"):
        board_of(ladder + [row._replace(track="tuned") for row in first + second], task)


def test_machine_kinds_are_not_averaged_and_what_is_left_out_is_named(task, ladder, make_runs):
    rows = (
        ladder
        + make_runs("muon", {1.0: [3.4, 3.5]})
        + make_runs("lion", {1.0: [3.4, 3.5]}, kind="other")
        + make_runs("muon", {1.0: [9.0]}, kind="other")
    )
    board = board_of(rows, task)
    assert len(board.machine_kinds) == 2
    assert [row.entry for row in board.rows] == ["muon"] and board.rows[0].rungs[0].losses == (3.4, 3.5)
    assert any("3 records made on machine kind" in note and "(lion, muon)" in note for note in board.notes)


def test_records_that_a_stand_in_made_are_on_the_board_and_said_to_be(task, ladder, make_runs):
    runs = make_runs("muon", {1.0: [3.4, 3.5]})
    board = board_of([*ladder, runs[0], runs[1]._replace(stand_in="a faster one")], task)
    assert board.rows[0].rungs[0].losses == (3.4, 3.5)
    assert "1 record made on a faster one, shown to give this kind's bits: muon" in board.notes


def test_one_run_under_two_plans_counts_once(task, ladder, make_row):
    one = make_row("muon", 1.0, 0, 3.4)
    board = board_of([*ladder, one, one._replace(path="records/again.json")], task)
    assert board.rows[0].rungs[0].seeds == (0,)
    with pytest.raises(BenchError, match=r"again\.json"):
        board_of([*ladder, one, one._replace(path="records/again.json", score_loss=3.3)], task)


def test_a_seed_run_again_is_no_second_sample(task, ladder, make_row):
    rows = [
        make_row("muon", 1.0, 0, 3.4, run_id="a" * 64),
        make_row("muon", 1.0, 0, 3.41, run_id="b" * 64, made="2026-02-01T00:00:00Z"),
    ]
    board = board_of(ladder + rows, task)
    assert board.rows[0].rungs[0].losses == (3.41,)
    assert any("run again" in note for note in board.notes)


@pytest.mark.parametrize(
    "second",
    [
        {"seed": 1, "values": 1},
        {"seed": 0, "values": 1},
        {"seed": 1, "source": 1},
        {"budget": 2.0, "source": 1},
        {"seed": 1, "values": 1, "outcome": "diverged"},
    ],
)
def test_a_cell_is_one_configuration(task, ladder, make_row, second):
    first = make_row("muon", 1.0, 0, 3.4)
    other = make_row("muon", **{"budget": 1.0, "seed": 0, "loss": 3.4, **second})
    with pytest.raises(BenchError) as error:
        board_of([*ladder, first, other], task)
    assert first.path in str(error.value) and other.path in str(error.value)


def test_values_may_differ_between_rungs(task, ladder, make_row):
    board = board_of([*ladder, make_row("muon", 1.0, 0, 3.4), make_row("muon", 2.0, 0, 3.3, values=1)], task)
    assert len(board.rows[0].rungs) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"score_loss": math.nan},
        {"score_loss": None},
        {"score_loss": math.inf},
        {"score_loss": -1.0},
        {"charged_tokens": 0.0},
        {"charged_tokens": math.nan},
    ],
)
def test_what_is_no_number_is_refused(task, ladder, make_row, change):
    with pytest.raises(BenchError, match="records/"):
        board_of([*ladder, make_row()._replace(**change)], task)


def test_a_ladder_that_does_not_fall_beyond_noise_gives_no_speedup(task, make_runs):
    ladder = make_runs("adamw-ref", {1.0: [3.5, 3.6], 2.0: [3.49, 3.6]})
    board = board_of(ladder + make_runs("muon", {1.0: [3.4, 3.5]}), task)
    assert "does not fall" in board.no_speedup and board.rows[0].speedups == {}
    for format in FORMATS:
        assert "muon" in render(board, task, format)


def test_a_ladder_that_rises_is_noted_and_its_running_minimum_read(task, ladder, make_runs):
    board = board_of(ladder + make_runs("adamw-ref", {8.0: [3.5, 3.51, 3.52]}), task)
    assert any("rises from 4x to 8x" in note for note in board.notes)
    assert board.curve.losses[-1] == board.curve.losses[-2]
    assert 8.0 in board.unstable and 1.0 not in board.unstable


def test_tuning_noise_widens_tuned_boards_only(task, ladder, make_runs):
    def width(track, tau):
        entry = make_runs("muon", {1.0: [3.409, 3.41, 3.411]}, track=track)
        found = board_of(ladder + entry, task, track=track, tau=tau).rows[0].speedups[1.0]
        return found.high - found.low

    assert width("tuned", 0.05) > 2 * width("tuned", 0.0)
    assert width("transfer", 0.05) == width("transfer", None) == width("tuned", None)


def test_other_versions_of_the_task_are_left_out_by_name(task, ladder, make_row):
    board = board_of([*ladder, make_row()._replace(task_digest="0" * 64)], task)
    assert board.rows == () and any("other versions of smoke" in note for note in board.notes)


def test_order_of_records_changes_nothing(task, ladder, make_runs):
    rows = ladder + make_runs("muon", {1.0: [3.4, 3.5]}) + make_runs("lion", {1.0: [3.5, 3.6], 2.0: [3.4]})
    assert board_of(rows, task) == board_of(rows[::-1], task)


names = st.sampled_from(["adamw-ref", "muon", "sgd", "muon@1", "muon@2"])
losses = st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True), st.floats(2, 6), st.just(3.0))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=300)
@given(data=st.data())
def test_random_records_give_a_board_or_one_clear_line(data, task, make_row, make_runs):
    rows = make_runs("adamw-ref", {0.5: [3.7, 3.71], 2.0: [3.4, 3.39]}) if data.draw(st.booleans()) else []
    for _ in range(data.draw(st.integers(0, 12))):
        row = make_row(
            data.draw(names),
            data.draw(st.sampled_from([0.25, 1.0, 4.0])),
            data.draw(st.integers(0, 2)),
            values=data.draw(st.sampled_from([0, 0, 0, 1])),
            kind=data.draw(st.sampled_from("aab")),
            outcome=data.draw(st.sampled_from(["finished", "finished", "diverged"])),
        )
        row = row._replace(score_loss=data.draw(losses))
        if data.draw(st.integers(0, 9)) == 0:
            row = row._replace(charged_tokens=data.draw(st.floats()), budget=data.draw(st.floats()))
        rows.append(row)
    try:
        board = board_of(rows, task, tau=data.draw(st.sampled_from([None, 0.0, 0.03])))
    except BenchError as error:
        assert "\n" not in error.what
        return
    for format in FORMATS:
        render(board, task, format)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=200)
@given(
    cells=st.dictionaries(
        st.sampled_from([0.25, 0.5, 1.0, 2.0, 8.0]),
        st.lists(st.floats(0, 900, width=32), min_size=1, max_size=3),
        min_size=2,
    ),
    entry=st.dictionaries(st.sampled_from([0.5, 1.0, 4.0]), st.lists(st.floats(0, 900), min_size=1, max_size=3)),
)
def test_any_finite_losses_give_an_interval_about_the_figure(cells, entry, task, make_runs):
    try:
        board = board_of(make_runs("adamw-ref", cells) + make_runs("muon", entry), task)
    except BenchError as error:
        raise AssertionError("a ladder of two rungs was refused") from error
    for row in board.rows:
        for found in row.speedups.values():
            assert math.isfinite(found.figure) and found.figure > 0
            assert found.low is None or found.low <= found.figure * (1 + 1e-9)
            assert found.high is None or found.high >= found.figure * (1 - 1e-9)
    for format in FORMATS:
        render(board, task, format)


def test_a_control_has_its_speedup_and_takes_no_part_where_rows_are_compared(task, ladder, make_runs):
    near = [-0.001, 0.0, 0.001]
    ends = {"odd": (3.40, 3.30), "muon": (3.42, 3.32), "soap": (3.43, 3.33)}
    rows = [*ladder]
    for entry, (one, two) in ends.items():
        rows += make_runs(entry, {1.0: [one + off for off in near], 2.0: [two + off for off in near]})
    free, held = (board_of(rows, task, controls=names) for names in ((), {"odd"}))
    assert [row.entry for row in free.rows] == ["odd", "muon", "soap"]
    assert [row.entry for row in held.rows] == ["muon", "soap", "odd"]
    assert held.rows[-1].speedups.keys() == free.rows[0].speedups.keys() and held.rows[-1].standings == {}
    assert sum(row.standings[1.0].first for row in held.rows[:2]) == pytest.approx(1)
