"""The transfer track holds the size of steps equal, and says of each row whether it did."""

import pytest

from bench.score.board import make_board
from bench.score.table import render


def test_a_transfer_row_whose_steps_have_not_the_reference_s_size_is_shown_and_not_ranked(task, ladder, make_runs):
    rows = [row._replace(step_size=0.002) for row in ladder]
    sizes = {"muon": (0.0048, 0.0067), "soap": (0.0024, 0.0017), "lion": (0.0020, None)}
    for entry, at in sizes.items():
        loss = 3.40 if entry == "muon" else 3.45
        runs = make_runs(entry, {1.0: [loss, loss + 0.002], 2.0: [loss - 0.1, loss - 0.098]}, track="transfer")
        rows += [run._replace(step_size=at[run.budget == 2.0]) for run in runs]
    board = make_board(rows, task, "adamw-ref", track="transfer")
    assert [row.entry for row in board.rows] == ["lion", "soap", "muon"]
    found = {row.entry: row for row in board.rows}
    assert found["muon"].sizes == pytest.approx({1.0: 2.4, 2.0: 3.35}) and found["lion"].sizes == {1.0: 1.0}
    assert found["muon"].speedups[1.0].p_holm is None and found["muon"].standings == {}
    assert found["soap"].standings[1.0].letters and sum(r.standings[1.0].first for r in board.rows[:2]) == 1
    said = render(board, task)
    assert "its steps have 2.4 to 3.4 times the reference's size, so it is not ranked" in said
    assert [("2.40x" in line, "steps not of equal size" in line) for line in said.splitlines() if "muon  " in line] == [
        (True, True), (False, True)
    ]  # fmt: skip
    tuned = make_board([row._replace(track="tuned") for row in rows], task, "adamw-ref")
    assert tuned.rows[0].entry == "muon" and all(row.ranked and not row.sizes for row in tuned.rows)
