"""Entries by modes: cells from child records and from training runs, speedups and ranks within a mode."""

import csv
import dataclasses
import io
import json
import re
from types import SimpleNamespace

import pytest
from in_modes import ENTRIES, EXTRA, MEANS, MODE, REF, child, crossing_of, row_of, runs, trained
from planned import TASK

from bench.errors import BenchError
from bench.mode import read_mode
from bench.score.board import make_board
from bench.score.mode_text import render_modes
from bench.score.modes import mode_table
from bench.score.placebo import Tau
from bench.score.table import FORMATS

LETTERS = {"muon": "a", "soap": "b", "lion": "c", REF: ""}

rows = pytest.fixture(runs)


@pytest.fixture
def table(rows):
    return mode_table(rows, {row.run_id: child(row) for row in rows}, TASK, "tuned")


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
    assert {name: "".join(row_of(table, name, 1.0).letters) for name in LETTERS} == LETTERS
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
    assert [row_of(table, name, 1.0).letters for name in ENTRIES] == [("a",), ("a",), ("b",)]
    held = mode_table(rows, heavy, TASK, "tuned", controls={"soap"})
    assert row_of(held, "soap", 1.0).rank is None and row_of(held, "muon", 1.0).rank == 1
    assert row_of(held, "soap", 1.0).letters == () and row_of(held, "muon", 1.0).letters == ("a",)
    assert row_of(table, "soap", 1.0).speedup.p_holm is not None
    assert row_of(held, "soap", 1.0).speedup.p_holm is None  # a control makes no claim


def test_training_runs_are_paired_with_their_twins_in_bf16(rows, make_row):
    mode = "qat-int8"
    lone = make_row("sgd", 1.0, 0, 2.5, task=TASK, name="nano", mode=mode)
    table = mode_table([*rows, *trained(rows), lone], {}, TASK, "tuned")
    assert set(table.rows) == {mode} and {row.cell.entry for row in table.rows[mode]} == {REF, *ENTRIES}
    assert all(row.cell.degradation == pytest.approx(0.05) for row in table.rows[mode])
    assert "left out: 1 runs in qat-int8 without a run of the same seed in bf16" in table.notes


def test_an_entry_that_no_seed_came_through_with_is_a_row_with_its_cause(rows, make_row):
    runs = trained(rows)
    for i, row in enumerate(runs):
        if row.entry == "lion" and row.budget == 1.0:
            runs[i] = row._replace(outcome="diverged", cause="loss nan at step 7", score_loss=None)
    children = {row.run_id: child(row) for row in rows}
    for row in rows:
        if row.entry == "soap" and row.budget == 1.0:
            children[row.run_id] = SimpleNamespace(modes={}, crossings=(), failed={
                MODE: SimpleNamespace(mode_digest=read_mode(MODE).digest, cause="groups of 7 do not fit")})  # fmt: skip
    table = mode_table([*rows, *runs], children, TASK, "tuned")
    told = [(one.mode, one.entry, one.budget, one.failed, one.why) for one in table.lost]
    assert told == [(MODE, "soap", 1.0, 3, "3 groups of 7 do not fit"), ("qat-int8", "lion", 1.0, 3, "3 diverged")]
    assert "3 diverged" in render_modes(table) and len(json.loads(render_modes(table, "json"))["failed"]) == 2
    lines = list(csv.DictReader(io.StringIO(render_modes(table, "csv"))))
    assert [line["failed"] for line in lines if line["loss"] == ""] == ["3", "3"]
    alone = mode_table([*rows, *(run for run in runs if not run.finished or run.entry == REF)], {}, TASK, "tuned")
    assert alone.modes == ["qat-int8"] and [one.entry for one in alone.lost] == ["lion"]


def test_runs_of_another_machine_kind_are_no_pairs_of_those_in_bf16(rows):
    elsewhere = [row._replace(machine_kind="f" * 64) for row in trained(rows) if row.entry in ("muon", REF)]
    here = [row for row in trained(rows) if row.entry in ("soap", REF)]
    table = mode_table([*rows, *elsewhere, *here], {}, TASK, "tuned")
    assert {row.cell.entry for row in table.rows["qat-int8"]} == {REF, "soap"}
    assert f"left out: {len(elsewhere)} runs in qat-int8 on another kind of machine than those in bf16" in table.notes


def test_tuning_noise_that_placebos_show_in_bf16_is_in_speedups_of_every_mode(rows, make_row):
    placebos = [
        make_row(f"{twin}@{number}", budget, seed, MEANS[1.0] - share + (seed - 1) / 400, task=TASK, name="nano")
        ._replace(epochs=0.5)
        for twin in ("adamw", "muon")
        for number, share in ((1, 0.0), (2, 0.012), (3, 0.02))
        for budget in (1.0,)
        for seed in range(3)
    ]  # fmt: skip
    twins = {row.entry: row.entry.partition("@")[0] for row in placebos}
    children, qat = {row.run_id: child(row) for row in rows}, trained(rows, budgets=MEANS)
    quiet = mode_table([*rows, *qat], children, TASK, "tuned", twins={})
    noisy = mode_table([*rows, *qat, *placebos], children, TASK, "tuned", twins=twins)
    board = make_board([*rows, *placebos], TASK, REF, twins=twins)
    assert 0 < board.tau < 0.05 and board.tau_df == 4
    for mode in (MODE, "qat-int8"):
        narrow, wide = (row_of(table, "muon", 1.0, mode).speedup for table in (quiet, noisy))
        assert wide.value == pytest.approx(narrow.value)
        assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)
    told = next(row for row in make_board([*rows, *qat, *placebos], TASK, REF, "qat-int8", twins=twins,
                                          tau=Tau(board.tau, board.tau_df)).rows if row.entry == "muon")  # fmt: skip
    assert told.speedups[1.0] == row_of(noisy, "muon", 1.0, "qat-int8").speedup
    looked = mode_table([*rows, *qat, *placebos], children, TASK, "tuned", twins=twins, looks={"muon": 2})
    assert row_of(looked, "muon", 1.0, "qat-int8").speedup.level == 0.0125


def test_a_speedup_in_a_mode_is_headed_as_on_a_board_and_an_unstable_rung_has_no_places(rows):
    """Two rungs beyond one pass over the text, the reference's at 2x too noisy to rank by."""
    wild = {(REF, 2.0, seed): shift for seed, shift in enumerate((-0.09, 0.0, 0.09))}
    rows = [
        row._replace(epochs=1.5 if row.budget >= 1.5 else 0.5,
                     score_loss=row.score_loss + wild.get((row.entry, row.budget, row.seed), 0.0))
        for row in rows
    ]  # fmt: skip
    table = mode_table(rows, {row.run_id: child(row) for row in rows}, TASK, "tuned")
    once, twice = row_of(table, "muon", 1.0), row_of(table, "muon", 2.0)
    assert once.caveats == ("reference read multi-epoch",) and once.rank == 1
    assert (
        "unstable" in twice.caveats and "multi-epoch" in twice.caveats and (twice.rank, twice.float_rank) == (None,) * 2
    )
    told = json.loads(render_modes(table, "json"))["modes"][MODE]
    assert [row["caveats"] for row in told if (row["entry"], row["budget"]) == ("muon", 1.0)] == [list(once.caveats)]
    assert "reference read multi-epoch" in render_modes(table) and ",reference read multi-epoch\n" in render_modes(
        table, "csv"
    )


def test_what_another_version_of_a_mode_measured_is_left_out_of_everything_and_said(rows):
    old = "0" * 64
    children = {
        row.run_id: child(row, old if row.entry == "soap" else None, (crossing_of(row, 0.2, old),)) for row in rows
    }
    children[rows[0].run_id].modes["ptq-w5"] = children[rows[0].run_id].modes[MODE]
    table = mode_table(rows, children, TASK, "tuned")
    assert "soap" not in {row.cell.entry for row in table.rows[MODE]}
    assert "soap" not in {one.entry for one in table.measures} and table.measures
    assert not table.links and not table.crossed  # three entries are left
    assert any("other versions of ptq-w4 measured" in note for note in table.notes)
    assert "left out: what was measured in ptq-w5: no such mode here" in table.notes


def test_where_all_is_of_other_versions_the_refusal_says_so(rows):
    with pytest.raises(BenchError, match="nothing was measured") as said:
        mode_table(rows, {row.run_id: child(row, "0" * 64) for row in rows}, TASK, "tuned")
    assert "other versions of ptq-w4" in said.value.hint


def test_a_run_in_a_mode_that_is_gone_is_left_out_and_said(rows):
    gone = rows[0]._replace(mode="qat-w5", mode_digest="0" * 64, run_id="f" * 64)
    table = mode_table([*rows, gone, *trained(rows)], {}, TASK, "tuned")
    assert set(table.rows) == {"qat-int8"} and any("no mode qat-w5" in note for note in table.notes)


def test_without_measurements_there_is_one_clear_line(rows):
    with pytest.raises(BenchError, match="nothing was measured in any mode but bf16"):
        mode_table(rows, {}, TASK, "tuned")


@pytest.mark.parametrize("key", [("weights", "max_over_mean"), ("network", "error")])
def test_measures_go_with_degradation_where_they_do(table, key):
    (link,) = [link for link in table.links if (link.side, link.measure, link.budget) == (*key, 1.0)]
    assert link.entries == 4 and link.value > 0.5 and link.low < 0 < link.high  # four are few
    assert not [link for link in table.links if link.measure in ("max_over_median", "kurtosis")]  # none, or no spread
    muon = next(one for one in table.measures if (one.entry, one.budget) == ("muon", 1.0))
    assert muon.value("network", "error") == pytest.approx(0.52) and muon.value("weights", "max_over_median") is None
    assert muon.degradation == pytest.approx(row_of(table, "muon", 1.0).cell.degradation)


def test_correlations_are_listed_where_they_are_told_from_nothing(table):
    few = render_modes(table)
    assert f"of {len(table.links)} rank correlations 0 are told from 0" in few and "network  error" not in few
    sure = dataclasses.replace(table.links[0], low=0.1)
    text = render_modes(dataclasses.replace(table, links=(sure, *table.links[1:])))
    assert f"of {len(table.links)} rank correlations 1 are told from 0" in text
    assert sure.measure.replace("_", " ") in text
    assert len(json.loads(render_modes(table, "json"))["outliers"]) == len(table.links) > 1


def test_common_losses_stand_apart(rows):
    lost = {REF: 0.1, "muon": 0.2, "soap": 0.1, "lion": 0.1}
    children = {row.run_id: child(row, crossings=(crossing_of(row, lost[row.entry] + (row.seed - 1) / 500),))
                for row in rows if row.budget == 1.0}  # fmt: skip
    table = mode_table(rows, children, TASK, "tuned")
    found = {one.entry: one for one in table.crossed}
    muon = found["muon"]
    assert (muon.threshold, muon.tokens, muon.seeds) == (2.0, 600_000, 3) and muon.degradation == pytest.approx(0.2)
    assert muon.float_loss == pytest.approx(1.95) and muon.beyond.value == pytest.approx(0.1) and muon.beyond.sure
    assert not found["soap"].beyond.sure and found[REF].beyond is None
    assert "from the middle of schedules" in render_modes(table)


def test_a_speedup_that_is_a_bound_is_one_in_every_format_and_a_look_moves_its_level(rows, make_row):
    beyond = [make_row("sam", 1.0, seed, 1.5 + seed / 400, task=TASK, name="nano")._replace(epochs=0.5)
              for seed in range(3)]  # fmt: skip
    runs = [*rows, *beyond]
    table = mode_table([*runs, *trained(runs, budgets=MEANS)], {}, TASK, "tuned", looks={"sam": 2})
    line = next(one for one in csv.DictReader(io.StringIO(render_modes(table, "csv"))) if one["entry"] == "sam")
    assert (line["speedup"], line["speedup_bound"], float(line["speedup_limit"])) == ("", ">=", 4.0)
    assert ">= 4.00x 4.00 to open (98.75%)" in render_modes(table)


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_holds_every_row(table, format):
    text = render_modes(table, format)
    if format == "json":
        lines = json.loads(text)["modes"][MODE]
        assert len(lines) == len(table.rows[MODE])
        assert {line["entry"]: "".join(line["letters"]) for line in lines if line["budget"] == 1} == LETTERS
    elif format == "csv":
        lines = list(csv.DictReader(io.StringIO(text)))
        assert len(lines) == len(table.rows[MODE]) and float(lines[0]["degradation"]) > 0
        assert {line["entry"]: line["letters"] for line in lines if float(line["budget"]) == 1} == LETTERS
    else:
        assert all(text.count(entry) >= 2 for entry in (REF, *ENTRIES))
        assert ("1 -> 1" if format != "latex" else r"1 -\ensuremath{>} 1") in text
        assert re.search(r"\btie\b", text)
    with pytest.raises(BenchError, match="no table format"):
        render_modes(table, "html")
