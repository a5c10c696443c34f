"""A board with what plans and ledgers say: trials are runs in float, and are held against nothing else."""

import pytest
import synthetic
from planned import TASK, bowl, plan_of, write_trials, yardstick

from bench.ledger import Study
from bench.mode import FLOAT
from bench.score.wording import interval, notes, sentences

MODE = "qat-w4a4"  # costs 0.03 nats or more in the law of these records


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """Boards in float and in a mode, whose best trials end above the yardstick in float and below it in the mode."""
    folder, plans = tmp_path_factory.mktemp("told"), (yardstick(), plan_of("adamw"))

    def loss(wanted):
        return bowl()(wanted) - 3.0 + synthetic.law(TASK.reference, wanted.rung, 0)

    studies = [Study(plan, tuple(write_trials(folder / plan.entry, plan, loss))) for plan in plans]
    runs = [
        synthetic.record(plan.entry, plan.entry_digest, rung, seed, mode=mode, plan=plan.digest)
        for plan in plans for mode in (FLOAT, MODE) for rung, seeds in plan.ladder.items() for seed in seeds
    ]  # fmt: skip
    found = synthetic.assembled(runs, {"nano": TASK}, {}, {"nano": studies})
    return {board.mode: (board, found.searches["nano", board.mode, "tuned"]) for board in found.boards}


def test_trials_in_float_raise_no_alarm_in_a_mode(told):
    assert set(told) == {FLOAT, MODE}
    for board, _ in told.values():
        assert not [note for note in board.notes if "undertuned" in note] and board.undertuned == ()


def test_a_sentence_says_how_many_trials_found_the_values_in_a_mode_too(told):
    for board, searches in told.values():
        (said,) = sentences(board, TASK, searches)
        assert f"it was tuned with {searches[1].trials} trials, adamw-ref with {searches[0].trials}; " in said
        assert searches[1].trials == searches[1].spent.trials - 2  # those of the transfer track are only shown


def test_what_ledgers_say_stands_on_the_board_in_float_alone(told):
    (floats, searches), (rounded, costs) = told[FLOAT], told[MODE]
    assert [(one.entry, one.spent) for one in searches] == [(one.entry, one.spent) for one in costs]
    assert all(one.tolerance and one.sensitivity and one.after_k for one in searches)
    assert all((one.tolerance, one.sensitivity, one.after_k) == (None, None, ()) for one in costs)
    said = ("tuned values of adamw-ref inside what is searched", "the task's batch of 8 sequences is ")
    for words in said:
        assert [any(words in note for note in notes(board)) for board in (floats, rounded)] == [True, False]


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.85, 1.05, "0.85 to 1.05"), (None, 1.2, "open to 1.20"), (None, None, "open on both sides"),
        (0.8483, 0.99542, "0.85 to 0.995"), (1.0004, 1.2, "1.0004 to 1.20"), (1.0, 1.00001, "1.00 to 1.00"),
    ],
)  # fmt: skip
def test_an_interval_s_end_tells_its_side_of_1(low, high, said):
    """An entry that beats the reference must not be shown with an interval that holds 1, nor the other way."""
    assert interval(low, high) == said
