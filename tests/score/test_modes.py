"""Entries by modes: cells from child records and from training runs, speedups and ranks within a mode."""

import csv
import io
import json
from types import SimpleNamespace

import pytest
from planned import TASK

from bench.errors import BenchError
from bench.mode import read_mode
from bench.score.mode_text import render_modes
from bench.score.modes import mode_table
from bench.score.table import FORMATS

REF = TASK.reference
MEANS = {0.25: 2.35, 0.5: 2.1, 1.0: 1.9, 1.5: 1.8, 2.0: 1.74, 4.0: 1.63}
ENTRIES = {"muon": {1.0: 1.72, 2.0: 1.65}, "soap": {1.0: 1.76, 2.0: 1.68}, "lion": {1.0: 2.0, 2.0: 1.85}}
EXTRA = {REF: 0.0, "muon": 0.02, "soap": 0.08, "lion": -0.001}  # degradation beyond what a loss explains
MODE = "ptq-w4"


def degradation(entry, loss, seed):
    return 0.1 + (2.4 - loss) / 20 + EXTRA[entry] + (seed - 1) / 500


def tails(entry):
    return SimpleNamespace(
        max_over_mean=10 + EXTRA[entry] * 50, max_over_median=None, kurtosis=1.0, feature_kurtosis=2.0
    )


def child(row, digest=None, crossings=()):
    lost = degradation(row.entry, row.score_loss, row.seed)
    measured = SimpleNamespace(
        mode_digest=digest or read_mode(MODE).digest, loss=row.score_loss + lost, degradation=lost,
        diagnosis=SimpleNamespace(weights=tails(row.entry), activations=tails(row.entry)),
    )  # fmt: skip
    return SimpleNamespace(modes={MODE: measured}, crossings=crossings)


@pytest.fixture
def rows(make_row):
    found = []
    for entry, means in {REF: MEANS, **ENTRIES}.items():
        for budget, mean in means.items():
            for seed in range(3):
                loss = mean + (seed - 1) / 400
                found.append(make_row(entry, budget, seed, loss, task=TASK, name="nano")._replace(epochs=0.5))
    return found


@pytest.fixture
def table(rows):
    return mode_table(rows, {row.run_id: child(row) for row in rows}, TASK, "tuned")


def row_of(table, entry, budget, mode=MODE):
    return next(row for row in table.rows[mode] if (row.cell.entry, row.cell.budget) == (entry, budget))


def test_what_an_entry_loses_beyond_its_loss_shows_at_equal_loss_and_not_at_equal_budget(table):
    for entry in ENTRIES:
        found = row_of(table, entry, 1.0).compared
        assert found.at_equal_loss.value == pytest.approx(EXTRA[entry], abs=2e-4)
        assert found.at_equal_loss.sure is (abs(EXTRA[entry]) > 0.015)
    lower = row_of(table, "muon", 1.0).compared
    assert lower.at_equal_budget.value == pytest.approx(0.02 + (1.9 - 1.72) / 20, abs=1e-6)


def test_ranks_and_speedups_are_those_of_the_losses_in_the_mode(table):
    places = [(row.float_rank, row.rank) for name in ENTRIES for row in [row_of(table, name, 1.0)]]
    assert places == [(1, 1), (2, 2), (3, 3)]
    muon, soap = (row_of(table, name, 1.0).speedup for name in ("muon", "soap"))
    assert muon.value > soap.value > 1 and row_of(table, REF, 1.0).speedup is None
    assert table.rows[MODE][0].cell.entry == REF


def test_ranks_change_where_rounding_costs_one_more(rows):
    heavy = {row.run_id: child(row) for row in rows}
    for row in rows:
        if row.entry == "muon":
            heavy[row.run_id].modes[MODE].loss += 0.1
            heavy[row.run_id].modes[MODE].degradation += 0.1
    table = mode_table(rows, heavy, TASK, "tuned")
    assert (row_of(table, "muon", 1.0).float_rank, row_of(table, "muon", 1.0).rank) == (1, 2)
    held = mode_table(rows, heavy, TASK, "tuned", controls={"soap"})
    assert row_of(held, "soap", 1.0).rank is None and row_of(held, "muon", 1.0).rank == 1


def test_training_runs_are_paired_with_their_twins_in_bf16(rows, make_row):
    mode = "qat-int8"
    trained = [
        row._replace(
            mode=mode,
            mode_digest=read_mode(mode).digest,
            run_id=f"{row.run_id[:-4]}qat0",
            score_loss=row.score_loss + 0.05,
        )
        for row in rows
        if row.budget in (0.25, 0.5, 1.0, 2.0) and row.seed < 3
    ]
    lone = make_row("sgd", 1.0, 0, 2.5, task=TASK, name="nano", mode=mode)
    table = mode_table([*rows, *trained, lone], {}, TASK, "tuned")
    assert set(table.rows) == {mode} and {row.cell.entry for row in table.rows[mode]} == {REF, *ENTRIES}
    assert all(row.cell.degradation == pytest.approx(0.05) for row in table.rows[mode])


def test_what_another_version_of_a_mode_measured_is_left_out_and_said(rows):
    children = {row.run_id: child(row, "0" * 64 if row.entry == "soap" else None) for row in rows}
    table = mode_table(rows, children, TASK, "tuned")
    assert "soap" not in {row.cell.entry for row in table.rows[MODE]}
    assert any("other versions of ptq-w4" in note for note in table.notes)


def test_without_measurements_there_is_one_clear_line(rows):
    with pytest.raises(BenchError, match="nothing was measured in any mode but bf16"):
        mode_table(rows, {}, TASK, "tuned")


def test_outliers_go_with_degradation_where_they_do(table):
    (link,) = [
        link for link in table.links if (link.side, link.measure, link.budget) == ("weights", "max_over_mean", 1.0)
    ]
    assert link.entries == 4 and link.value > 0.5 and link.low < 0 < link.high  # four are few
    assert not [link for link in table.links if link.measure in ("max_over_median", "kurtosis")]  # none, or no spread


def test_common_losses_stand_apart(rows):
    rounded = SimpleNamespace(degradation=0.2)
    crossing = SimpleNamespace(threshold=2.0, tokens=600_000, modes={MODE: rounded})
    children = {row.run_id: child(row, crossings=(crossing,)) for row in rows if row.budget == 1.0}
    table = mode_table(rows, children, TASK, "tuned")
    muon = next(one for one in table.crossed if one.entry == "muon")
    assert (muon.threshold, muon.tokens, muon.seeds) == (2.0, 600_000, 3) and muon.degradation == pytest.approx(0.2)
    assert "from the middle of schedules" in render_modes(table)


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_holds_every_row(table, format):
    text = render_modes(table, format)
    if format == "json":
        assert len(json.loads(text)["modes"][MODE]) == len(table.rows[MODE])
    elif format == "csv":
        lines = list(csv.DictReader(io.StringIO(text)))
        assert len(lines) == len(table.rows[MODE]) and float(lines[0]["degradation"]) > 0
    else:
        assert all(text.count(entry) >= 2 for entry in (REF, *ENTRIES))
        assert ("1 -> 1" if format != "latex" else r"1 -\ensuremath{>} 1") in text
    with pytest.raises(BenchError, match="no table format"):
        render_modes(table, "html")
