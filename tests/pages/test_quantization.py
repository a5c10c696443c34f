"""The page of modes: interactions from child records and from runs in a mode, and places that change."""

import dataclasses
import math
import re

import pytest

from bench.children import Failed
from bench.mode import read_mode
from bench.pages import words
from bench.pages.quantization import DRAWN, Gap, ends, heat_map, quantization_pages, quantization_view
from bench.score.degradation import Estimate

RUNG = 0.5  # of small: the lowest that is compared


@pytest.fixture
def view(evidence):
    return quantization_view("small", "tuned", evidence)


def test_a_cell_is_the_child_records_degradation_by_seed(view, evidence):
    runs = [r for r in evidence.records if (r.entry, r.inputs.track, r.inputs.budget) == ("muon", "tuned", RUNG)]
    wanted = [evidence.quantized[run.run_id].modes["ptq-w3"].degradation
              for run in sorted(runs, key=lambda run: run.inputs.seed)]  # fmt: skip
    assert view.cells["muon", "ptq-w3"].cell.degradations == pytest.approx(wanted)


def test_a_run_in_a_mode_stands_against_its_own_float_run(evidence):
    floats = [r for r in evidence.records if r.inputs.track == "tuned" and r.inputs.budget == RUNG and r.score_loss]
    digest = read_mode("qat-int8").digest
    rounded = [r.model_copy(update={"run_id": r.run_id[::-1], "score_loss": r.score_loss + 0.1,
                                    "inputs": r.inputs.model_copy(update={"mode": "qat-int8",
                                                                              "mode_digest": digest})})
               for r in floats if r.entry in ("muon", "adamw-ref")]  # fmt: skip
    more = dataclasses.replace(evidence, records=(*evidence.records, *rounded))
    view = quantization_view("small", "tuned", more)
    row = view.cells["muon", "qat-int8"]
    assert "qat-int8" in view.modes and row.compared.at_equal_budget.value == pytest.approx(0, abs=1e-12)
    assert row.cell.degradation == pytest.approx(0.1) and ("soap", "qat-int8") not in view.cells


def test_a_row_holds_the_loss_in_the_mode_and_a_speedup_as_everywhere(view, told):
    page = " ".join(told["quantization.html"].split())
    for row in view.cells.values():
        said = f'{words.loss(row.cell.loss)} <span class="seed">perplexity {math.exp(row.cell.loss):.2f}</span>'
        assert said in page
        if row.speedup:
            assert f'{words.speedup(row.speedup)} <span class="seed">{words.interval(row.speedup)}</span>' in page
    assert any(row.speedup for row in view.cells.values())


def test_the_map_holds_every_figure_of_its_basis_and_frames_those_that_are_told(view):
    assert view.basis == "loss"
    figures = [row.compared.at_equal_loss for (entry, _), row in view.cells.items() if entry != view.reference]
    there = [found for found in figures if found is not None]
    assert there and len(re.findall(r'"told":1', view.chart.spec)) >= sum(found.sure for found in there) > 0


def test_the_map_draws_so_many_entries_and_puts_a_long_name_of_a_mode_on_two_lines(view):
    cells = {(f"e{i}", mode): Estimate(0.1 * i, 0.0, 1.0) for i in range(4) for mode in ("ptq-w3", "ptq-w4a4-hadamard")}
    chart = heat_map("small", "tuned", ["e0", "e2"], ["ptq-w3", "ptq-w4a4-hadamard"], cells, "loss")
    assert set(re.findall(r'"entry":"(e\d)"', chart.spec)) == {"e0", "e2"}
    assert "? ['ptq-w3'] " in chart.spec and "? ['ptq-w4a4', 'hadamard'] " in chart.spec
    many = dataclasses.replace(view, entries=tuple(f"e{i}" for i in range(DRAWN + 3)))
    assert len(many.drawn) == DRAWN and view.drawn == view.entries


def test_places_change_where_rounding_costs_some_more_than_others(view, told):
    for mode in view.modes:
        rows = [row for (entry, other), row in view.cells.items() if other == mode and row.rank is not None]
        assert sorted(row.rank for row in rows)[0] == sorted(row.float_rank for row in rows)[0] == 1
    ranked = [row for row in view.cells.values() if row.rank is not None]
    assert any(row.rank != row.float_rank for row in ranked)
    page = " ".join(told["quantization.html"].split())
    for row in ranked:
        assert row.letters and f">{row.float_rank} → {row.rank} {''.join(row.letters)}</td>" in page


def test_an_interval_is_said_in_words():
    assert (
        ends(Estimate(0.1, 0.05, 0.15)) == "+0.0500 to +0.1500" and ends(Estimate(0.1)) == ends(None) == "no interval"
    )


def test_outliers_stand_beside_what_the_mode_cost(view, evidence):
    found = {(one.entry, one.mode): one for one in view.measures}
    assert found["muon", "ptq-w4"].degradation == pytest.approx(view.cells["muon", "ptq-w4"].cell.degradation)
    runs = [r for r in evidence.records if (r.entry, r.inputs.track, r.inputs.budget) == ("muon", "tuned", RUNG)]
    diagnoses = [evidence.quantized[run.run_id].modes["ptq-w4"].diagnosis for run in runs]
    wanted = {("weights", "max_over_median"): [one.weights.max_over_median for one in diagnoses],
              ("network", "error"): [one.error for one in diagnoses]}  # fmt: skip
    for key, values in wanted.items():
        assert found["muon", "ptq-w4"].value(*key) == pytest.approx(sum(values) / len(values))
    assert ("adamw-ref", "ptq-w4") in found and view.scatter is not None and view.links


def test_what_cannot_be_shown_says_why_and_a_failed_entry_is_named(evidence):
    muon = {r.run_id for r in evidence.records if r.entry == "muon"}
    failed = {
        run_id: child.model_copy(update={"modes": {}, "failed": {
            name: Failed(mode_digest=one.mode_digest, cause="groups of 7", machine=one.machine, made=one.made)
            for name, one in child.modes.items()}}) if run_id in muon else child
        for run_id, child in evidence.quantized.items()
    }  # fmt: skip
    seen = quantization_view("small", "tuned", dataclasses.replace(evidence, quantized=failed))
    assert {one.entry for one in seen.lost} == {"muon"} and all("groups of 7" in one.why for one in seen.lost)
    only = dataclasses.replace(evidence, quantized={key: failed[key] for key in muon & failed.keys()})
    gap = quantization_view("small", "tuned", only)
    assert isinstance(gap, Gap) and any("muon in ptq-w4: no seed came through" in why for why in gap.why)
    broken = tuple(r for r in evidence.records if r.entry != "adamw-ref")
    (page,) = quantization_pages(dataclasses.replace(evidence, records=broken))
    assert any("adamw-ref has no records" in why for gap in page.make_facts()["gaps"] for why in gap.why)


def test_training_modes_are_shown_at_the_rung_where_plans_run_them(evidence):
    task = evidence.tasks["small"]
    other = task.model_copy(update={"budget": task.budget.model_copy(update={"compared": (1.0,)})})
    moved = dataclasses.replace(evidence, tasks={**evidence.tasks, "small": other})
    assert other.digest == task.digest and quantization_view("small", "tuned", moved).rung == "1x"


def test_where_nothing_was_rounded_there_is_no_page(evidence):
    assert quantization_pages(dataclasses.replace(evidence, quantized={})) == []
