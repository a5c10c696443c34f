"""Which rows of a table of modes have a place, and what their noise is a multiple of."""

import pytest
from in_modes import MODE, REF, child, row_of, runs, trained
from planned import TASK

from bench.score.modes import mode_table

rows = pytest.fixture(runs)


def test_a_transfer_row_whose_steps_are_not_of_equal_size_has_no_place(rows):
    moved = [row._replace(track="tuned" if row.entry == REF else "transfer",
                          step_size=0.005 if row.entry == "muon" else 0.002) for row in rows]  # fmt: skip
    table = mode_table(moved, {row.run_id: child(row) for row in moved}, TASK, "transfer")
    muon, soap = (row_of(table, name, 1.0) for name in ("muon", "soap"))
    assert muon.rank is None and muon.float_rank is None and "steps not of equal size" in muon.caveats
    assert soap.rank == 1 and "steps not of equal size" not in soap.caveats
    unread = {row.run_id: child(row) for row in moved if row.entry != REF}  # no board of the mode: no speedup, no place
    muon = row_of(mode_table(moved, unread, TASK, "transfer"), "muon", 1.0)
    assert muon.speedup is None and muon.rank is None and "steps not of equal size" in muon.caveats


def test_noise_is_in_units_of_what_rounding_costs_and_not_of_what_training_costs(rows):
    lost = {row.run_id: row.budget / 10 + (row.seed - 1) / 500 for row in rows}
    costs = [(row, one) for row in rows for one in trained([row], cost=lost[row.run_id])]
    children = {row.run_id: child(row) for row in rows}
    for run_id, made in children.items():
        made.modes[MODE].degradation = lost[run_id]
        made.modes[MODE].loss = next(row.score_loss for row in rows if row.run_id == run_id) + lost[run_id]
    table = mode_table([*rows, *(one for _, one in costs)], children, TASK, "tuned")

    def widths(mode):
        found = [row_of(table, REF, budget, mode).compared.degradation for budget in (0.25, 0.5, 1.0, 2.0)]
        return [one.high - one.low for one in found]

    first, *others = widths("qat-int8")
    assert others == pytest.approx([first] * 3)
    assert [wide / widths(MODE)[2] for wide in widths(MODE)] == pytest.approx([0.5, 0.5**0.5, 1, 2**0.5], rel=0.01)
