"""The page of modes: interactions from child records and from runs in a mode, and places that change."""

import dataclasses
import re

import pytest

from bench.pages.quantization import cells_of, quantization_pages, quantization_view
from bench.score.interaction import interaction


@pytest.fixture
def view(evidence):
    return quantization_view("small", "tuned", evidence)


def test_a_cell_is_the_child_records_degradation_by_seed(evidence):
    cells = cells_of("small", "tuned", evidence)
    runs = [r for r in evidence.records if (r.entry, r.inputs.track, r.inputs.budget) == ("muon", "tuned", 1.0)]
    wanted = {run.inputs.seed: evidence.quantized[run.run_id].modes["ptq-w3"].degradation for run in runs}
    assert cells["muon", "ptq-w3"].degradations == pytest.approx(wanted)


def test_a_run_in_a_mode_stands_against_its_own_float_run(evidence):
    floats = [r for r in evidence.records if r.inputs.track == "tuned" and r.inputs.budget == 1.0 and r.score_loss]
    rounded = [r.model_copy(update={"run_id": r.run_id[::-1], "score_loss": r.score_loss + 0.1,
                                    "inputs": r.inputs.model_copy(update={"mode": "qat-int8"})})
               for r in floats if r.entry in ("muon", "adamw-ref")]  # fmt: skip
    more = dataclasses.replace(evidence, records=(*evidence.records, *rounded))
    view = quantization_view("small", "tuned", more)
    assert "qat-int8" in view.modes and view.cells["muon", "qat-int8"].value == pytest.approx(0, abs=1e-12)
    assert view.cells["muon", "qat-int8"].degradation == pytest.approx(0.1)
    assert ("soap", "qat-int8") not in view.cells


def test_the_map_holds_every_interaction_and_frames_those_that_are_told(view, evidence):
    cells = cells_of("small", "tuned", evidence)
    assert set(view.cells) == {(entry, mode) for entry in view.entries for mode in view.modes}
    for (entry, mode), found in view.cells.items():
        assert found == interaction(cells[entry, mode], cells["adamw-ref", mode])
    assert len(re.findall(r'"told":1', view.chart.spec)) >= sum(cell.told for cell in view.cells.values()) > 0


def test_what_stands_rounding_better_gains_places(view):
    assert view.cells["muon", "ptq-w3"].value < 0 < view.cells["sgd", "ptq-w3"].value
    for mode in view.modes:
        there = [view.places[entry, mode] for entry in (view.reference, *view.entries)]
        assert min(p.rounded for p in there) == min(p.floating for p in there) == 1
        assert sum(p.moved for p in there) == 0
    assert {place.moved for place in view.places.values()} != {0}


def test_outliers_stand_beside_what_the_mode_cost(view, evidence):
    found = {(one.entry, one.mode): one for one in view.outlying}
    assert found["muon", "ptq-w4"].degradation == pytest.approx(view.cells["muon", "ptq-w4"].degradation)
    runs = [r for r in evidence.records if (r.entry, r.inputs.track, r.inputs.budget) == ("muon", "tuned", 1.0)]
    tails = [evidence.quantized[run.run_id].modes["ptq-w4"].diagnosis.weights.max_over_median for run in runs]
    assert found["muon", "ptq-w4"].weights[1] == pytest.approx(sum(tails) / len(tails))
    assert ("adamw-ref", "ptq-w4") in found and view.scatter is not None


def test_where_nothing_was_rounded_there_is_no_page(evidence):
    assert quantization_pages(dataclasses.replace(evidence, quantized={})) == []
