"""`bench entries`: what it measures is what a run's record says, and what it says of proof is there."""

import ast
import csv
import io
import json
from pathlib import Path

import pytest
from small import ROOT, make, write_entry, write_task

from bench.entry import Entry, find_entries
from bench.errors import BenchError
from bench.inventory import entries_at, inventory, proof, render
from bench.record import read_record
from bench.task import read_task

BASELINES = ROOT / "baselines"
ENTRIES = find_entries(BASELINES)
METHODS = [entry for entry in ENTRIES if entry.facts.family != "control"]


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return write_task(tmp_path_factory.mktemp("inventory"))


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_state_and_passes_are_those_of_a_run_s_record_which_tells_how_far_each_role_moved(entry, task):
    (line,) = inventory([entry], read_task(task))
    facts = read_record(make(task, entry.path, task.parent, budget=0.25)).facts
    assert line.state_bytes_with_rest == facts.state_bytes_per_parameter
    few = 1 / 8 if facts.probe else 0.0  # of so few steps: the first may ask for less, or more, than the others
    assert line.extra_passes == pytest.approx(facts.passes - 1, abs=few)
    still = {role for role, moved in facts.update_rms.items() if moved == 0}
    assert set(facts.update_rms) == {"hidden", "embedding", "vectors"}  # the head is tied
    assert still == ({"hidden"} if entry.name == "frozen-hidden" else set())
    if entry.facts.scope == "full":
        assert line.state_bytes_per_parameter == line.state_bytes_with_rest


def test_state_is_told_of_what_an_entry_claims_and_of_the_whole_model(task):
    muon, adamw = (Entry(BASELINES / name / f"{name}.toml") for name in ("muon", "adamw"))
    first, second = inventory([muon, adamw], read_task(task))
    assert (first.entry, first.state_bytes_per_parameter, first.state_bytes_with_rest) == ("adamw", 8, 8)
    assert (second.entry, second.state_bytes_per_parameter) == ("muon", 4)
    assert 4 < second.state_bytes_with_rest < 8


def names_used(path: Path) -> set[str]:
    """Return the dotted names of all that a file reads, with what it imports under its full name."""
    tree, full = ast.parse(path.read_text()), {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            full |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom):
            full |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute):
            first, dot, others = ast.unparse(node).partition(".")
            found.add(full.get(first, first) + dot + others)
    return found


@pytest.mark.parametrize("folder", sorted({entry.path.parent for entry in METHODS}), ids=lambda folder: folder.name)
def test_every_algorithm_has_a_test_that_compares_with_what_its_entries_name(folder):
    tests = sorted((Path(__file__).parent / "baselines").glob("test_*.py"))
    own = [path for path in tests if path.stem == f"test_{folder.name}" or f"{folder.name}/" in path.read_text()]
    assert own, folder
    used = {name for path in own for name in names_used(path)}
    named = {name for entry in METHODS if entry.path.parent == folder for name in entry.facts.compared_with}
    assert not named - used


def test_proof_counts_libraries_and_says_what_was_rebuilt():
    facts = Entry(BASELINES / "muon" / "muon.toml").facts
    names = ("torch.optim.Muon", "pytorch_optimizer.Muon", "torch.optim.AdamW")
    assert proof(facts.model_copy(update={"compared_with": names})) == "compared with 2 libraries"
    assert proof(facts.model_copy(update={"compared_with": names[:1]})) == "compared with 1 library"
    rebuilt = {"compared_with": (), "deviations": ("a reconstruction from the abstract",)}
    assert proof(facts.model_copy(update=rebuilt)) == "invariants, reconstruction"


@pytest.mark.parametrize("form", ["plain", "github", "latex", "csv", "json"])
def test_every_form_has_every_entry_and_what_it_deviates_in(task, form):
    entries = entries_at(BASELINES / "sgd") + entries_at(BASELINES / "frozen_hidden" / "frozen-hidden.toml")
    text = render(inventory(entries, read_task(task)), form)
    assert text.index("sgd") < text.index("frozen-hidden"), "controls come last"
    assert "torch.optim.SGD" in text.replace("\\_", "_")
    if form == "json":
        assert [line["control"] for line in json.loads(text)] == [False, True]
    if form == "csv":
        assert {line["state_bytes_per_parameter"] for line in csv.DictReader(io.StringIO(text))} == {"4.0", "0.0"}


def test_an_entry_whose_steps_fail_is_named(tmp_path, task):
    body = (
        "class Bad(SGD):\n    def step(self):\n        raise ValueError('no')\n\n\n"
        "def build(roles, hp, run):\n    return Bad(roles.matrices, lr=0.1)\n"
    )
    with pytest.raises(BenchError, match=r"strange\.toml: its first steps raised ValueError: no"):
        inventory([Entry(write_entry(tmp_path, body))], read_task(task))
    with pytest.raises(BenchError, match="no entries here"):
        entries_at(ROOT / "tasks")
