"""An entry's page draws where the error of its rounded models comes from, from the diagnosis beside its record."""

import pytest
import synthetic

from bench.children import Failed, Quantized
from bench.diagnosis import Diagnosed, diagnosis_path, write_diagnosis
from bench.errors import BenchError
from bench.pages.build import FUNCTIONS, OTHERS
from bench.pages.entries import entry_view
from bench.pages.propagation import error_views
from bench.pages.runs import run_pages
from bench.pages.shell import Page, render
from bench.pages.views import Material

MODULES = ["0.input_layernorm", "0.self_attn.q_proj", "0.self_attn.core", "1.input_layernorm", "1.self_attn.q_proj",
           "1.self_attn.core", "norm", "head"]  # fmt: skip
COLUMNS = {
    "R": [0.0, 0.1, 0.2, 0.1, 0.3, 0.2, 0.1, 0.05], "A": [0.0, 0.0, 0.2, 0.1, 0.2, 0.2, 0.1, 0.05],
    "B": [0.0, 0.1, 0.0, 0.0, 0.05, 0.0, 0.0, 0.0], "C": [0.0, 0.0, 0.0, 0.0, 0.05, 0.0, 0.0, 0.0],
    "gain": [None, None, 2.0, 1.0, 1.5, 1.0, 0.5, 0.5], "spectral": [None, None, None, None, 1.1, None, None, 1.0],
    "alignment": [None, None, None, None, 1.4, None, None, 0.5],
}  # fmt: skip


@pytest.fixture
def material(tmp_path):
    """One run of muon, with the diagnosis of one mode, another of older code, and one that failed."""
    run = synthetic.record("muon", "a" * 64, synthetic.NANO.budget.compared[0], 0)
    told = Diagnosed(tokens=2040, block=0, weights={}, activations={}, propagation={"module": MODULES, **COLUMNS})
    child = synthetic.rounded(run)
    path = tmp_path / f"{run.run_id}.json"
    modes = {}
    for name, digest in (("ptq-w4", child.modes["ptq-w4"].mode_digest), ("ptq-w3", "0" * 64)):
        summary = child.modes[name].diagnosis.model_copy(update={"digest": told.digest})
        modes[name] = child.modes[name].model_copy(update={"diagnosis": summary, "mode_digest": digest})
        write_diagnosis(diagnosis_path(path), run.run_id, child.weights, name, told)
    failed = {"ptq-w8a8": Failed(mode_digest="0" * 64, cause="groups of 7 <b>", machine="0" * 64, made="now")}
    child = Quantized.model_validate(child.model_dump(by_alias=True) | {"modes": modes, "failed": failed})
    return Material({"nano": synthetic.NANO}, {}, (run,), (), paths={run.run_id: path}, quantized={run.run_id: child})


def test_what_each_module_passes_on_and_adds_is_drawn_with_a_table_behind(material, sources):
    (view,) = error_views(material, material.records)
    (found,) = view.modes  # what older code measured is left out
    assert (view.task, view.tokens, found.mode) == ("nano", 2040, "ptq-w4")
    lines = {line.part: line.means for line in found.lines}
    assert list(lines) == ["input_layernorm", "self_attn.q_proj", "self_attn.core", "norm", "head"]
    assert lines["self_attn.q_proj"] == pytest.approx((0.2, 0.1, 0.075, 0.025, 1.5, 1.1, 1.4))
    assert lines["norm"][-2:] == (None, None)
    assert "The network&#39;s is 0.05." in found.errors and "block 1" in found.errors and "head" in found.gains
    page = Page("entries/muon.html", "entry.html", {"view": entry_view("muon", material, [], material.records)})
    made = render([page, *run_pages(material)], material, sources, FUNCTIONS | OTHERS)
    html = made["entries/muon.html"]
    assert html.count('class="plot"') == 2 and "its alignment factor" in html and "2,040 tokens" in html
    assert "ptq-w8a8 failed: groups of 7 &lt;b&gt;" in made[f"runs/{view.run.run_id}.html"]


def test_a_diagnosis_that_is_not_the_child_records_is_refused(material):
    (run,) = material.records
    other = Diagnosed(tokens=1, block=0, weights={}, activations={}, propagation={"module": MODULES, **COLUMNS})
    path = diagnosis_path(material.paths[run.run_id])
    write_diagnosis(path, run.run_id, material.quantized[run.run_id].weights, "ptq-w4", other)
    with pytest.raises(BenchError, match="has not the diagnosis of ptq-w4"):
        error_views(material, material.records)
    path.unlink()
    assert error_views(material, material.records) == []
