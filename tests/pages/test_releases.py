"""A release is made once, says what changed and why, comes back byte for byte, and tells when it does not."""

import ast
import csv
import dataclasses
import shutil
from pathlib import Path

import pytest

import bench.release
import bench.releasing
from bench.children import Crossing, Failed, Rounded
from bench.errors import BenchError
from bench.pages.build import pages
from bench.pages.rebuild import kept_of, release, unlike
from bench.pages.releases import read_releases
from bench.record import write_atomically
from bench.release import MADE, NAME, READ, Kept, latest, read_release
from bench.releasing import changes

FINDINGS = """# What it says

Muon needs {speedup small-bf16-tuned muon 1x} fewer tokens, and its
three-bit weights lose {lost small-tuned ptq-w3 muon 1x} nats.
"""


@pytest.fixture
def folder(evidence, tmp_path):
    release("1.0", ["The first board."], FINDINGS, evidence, tmp_path)
    return tmp_path


def fewer(material, entry):
    """The material before an entry came."""
    kept = tuple(record for record in material.records if record.entry != entry)
    return dataclasses.replace(material, records=kept, boards=tuple(
        dataclasses.replace(board, rows=tuple(row for row in board.rows if row.entry != entry))
        for board in material.boards))  # fmt: skip


def test_it_comes_back_byte_for_byte(folder, evidence):
    assert unlike("1.0", evidence, folder) == []
    kinds = ("json", "csv")
    boards = {f"boards/small-bf16-{track}.{kind}" for track in ("tuned", "transfer") for kind in kinds}
    modes = {f"modes/small-tuned.{kind}" for kind in kinds}
    assert read_release(folder / "1.0").files.keys() == {*boards, *modes, "findings.md"}


def test_it_comes_back_where_ledgers_and_records_have_grown_since(evidence, tmp_path):
    before = {task: [dataclasses.replace(study, trials=study.trials[: len(study.trials)]) for study in studies[:-1]]
              for task, studies in evidence.studies.items()}  # fmt: skip
    from bench.score.boards import make_boards

    boards, searches, _ = make_boards(evidence.records, evidence.logs, evidence.tasks, before, evidence.timings)
    early = dataclasses.replace(evidence, studies=before, boards=boards, searches=searches)
    release("1.0", ["Early."], None, early, tmp_path)
    assert unlike("1.0", evidence, tmp_path) == []


def test_a_board_whose_build_fails_is_not_released(evidence, tmp_path):
    board = dataclasses.replace(evidence.boards[0], failing=("placebo adamw@1 differs from its twin adamw at 1x",))
    with pytest.raises(BenchError, match=r"no release 1\.0: small, mode bf16, track tuned: placebo adamw@1 differs"):
        release("1.0", ["The first board."], None, dataclasses.replace(evidence, boards=(board,)), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_byte_that_differs_is_named(folder, evidence):
    board = folder / "1.0" / "boards" / "small-bf16-tuned.csv"
    board.write_text(board.read_text().replace("muon", "moon"))
    with pytest.raises(BenchError, match=r"small-bf16-tuned\.csv: it was changed after the release"):
        unlike("1.0", evidence, folder)


def test_a_list_that_was_edited_or_a_file_too_many_is_refused(folder, evidence):
    (folder / "1.0" / "extra.txt").write_text("x")
    with pytest.raises(BenchError, match=r"not part of release 1\.0"):
        read_release(folder / "1.0")
    (folder / "1.0" / "extra.txt").unlink()
    path = folder / "1.0" / NAME
    path.write_text(path.read_text().replace("The first board.", "The best board."))
    with pytest.raises(BenchError, match="changed after it was written"):
        read_release(folder / "1.0")


def test_a_record_that_is_gone_is_named(folder, evidence):
    less = dataclasses.replace(evidence, records=evidence.records[1:])
    with pytest.raises(BenchError, match=f"its record {evidence.records[0].run_id[:16]} is not here"):
        unlike("1.0", less, folder)


def test_code_that_changed_since_is_said(folder, evidence, monkeypatch):
    monkeypatch.setattr("bench.releasing.source_digest", lambda: "0" * 64)
    assert "the code that computes boards has changed since" in " ".join(unlike("1.0", evidence, folder))


@pytest.mark.parametrize(
    ("version", "why", "said"),
    [("1.0", ["x"], "never rewritten"), ("0.9", ["x"], "would not come after"),
     ("01.0", ["x"], "would not come after"), ("../2", ["x"], "no version"), ("1.1", [], "nothing says why")],
)  # fmt: skip
def test_what_may_not_be_released(folder, evidence, version, why, said):
    with pytest.raises(BenchError, match=said):
        release(version, why, None, evidence, folder)
    assert latest(folder) == "1.0"


def test_empty_findings_are_refused(evidence, tmp_path):
    with pytest.raises(BenchError, match="its findings are empty"):
        release("1.0", ["x"], " \n", evidence, tmp_path)
    assert not list(tmp_path.iterdir())


def test_of_two_made_at_once_one_stands_whole_and_the_other_is_told(evidence, tmp_path, monkeypatch):
    def overtaken(path, data):
        monkeypatch.undo()
        release("1.0", ["The other."], None, evidence, tmp_path)
        write_atomically(path, data)

    monkeypatch.setattr("bench.releasing.write_atomically", overtaken)
    with pytest.raises(BenchError, match=r"1\.0: a release is never rewritten"):
        release("1.0", ["Mine."], None, evidence, tmp_path)
    assert read_release(tmp_path / "1.0").why == ("The other.",) and unlike("1.0", evidence, tmp_path) == []
    assert [path.name for path in tmp_path.iterdir()] == ["1.0"]


def test_one_that_was_killed_halfway_is_made_again(evidence, tmp_path, monkeypatch):
    written = []

    def killed(path, data):
        if written:
            raise KeyboardInterrupt
        written.append(path)
        write_atomically(path, data)

    monkeypatch.setattr("bench.releasing.write_atomically", killed)
    with pytest.raises(KeyboardInterrupt):
        release("1.0", ["The first board."], None, evidence, tmp_path)
    assert latest(tmp_path) is None and not (tmp_path / "1.0").exists()
    monkeypatch.undo()
    release("1.0", ["The first board."], None, evidence, tmp_path)
    assert unlike("1.0", evidence, tmp_path) == [] and [path.name for path in tmp_path.iterdir()] == ["1.0"]


def test_what_changed_is_computed_and_both_are_on_pages(evidence, sources, tmp_path):
    release("1.9", ["Without it."], None, fewer(evidence, "soap"), tmp_path)
    release("1.10", ["Soap came."], FINDINGS, evidence, tmp_path)
    views = read_releases(tmp_path)
    assert [view.release.version for view in views] == ["1.10", "1.9"]
    what = views[0].release.what
    runs = sum(record.entry == "soap" for record in evidence.records)
    assert what[0].startswith(f"{runs} new records, 0 gone") and "small-bf16-tuned: new: soap." in what
    bare = dataclasses.replace(evidence, releases=tuple(views), records=(), boards=(), studies={}, entries={})
    made = pages(bare, sources)
    assert "Soap came." in made["releases/index.html"] and "bench release 1.10 --check" in made["releases/1.10.html"]
    assert "soap" not in made["releases/1.9.html"]


def test_a_board_that_is_gone_and_a_figure_that_comes_goes_or_turns_a_bound_are_said(folder, evidence):
    def changed(row):
        found = dict(row.speedups)
        bounded, gone = sorted(found)[:2]
        found[bounded] = dataclasses.replace(found[bounded], value=None, bound=">=", limit=found[bounded].figure)
        del found[gone]
        return dataclasses.replace(row, speedups={**found, 9.0: found[bounded]})

    tuned = next(board for board in evidence.boards if board.track == "tuned")
    muon = next(row for row in tuned.rows if row.entry == "muon")
    rows = tuple(changed(row) if row is muon else row for row in tuned.rows)
    less = Kept({"small-bf16-tuned": (dataclasses.replace(tuned, rows=rows), [])}, kept_of(evidence).tables)
    told = changes(read_release(folder / "1.0"), folder, {}, less)
    assert told[-1] == "small-bf16-transfer: this board is gone."
    first, second = (f"{budget:g}x" for budget in sorted(muon.speedups)[:2])
    was = [f"{muon.speedups[budget].figure:.2f}×" for budget in sorted(muon.speedups)[:2]]
    assert f"small-bf16-tuned: muon at {first} went from {was[0]} to >= " in told[1]
    bound = told[1].rpartition(" to ")[2]
    assert told[2:-1] == [
        f"small-bf16-tuned: muon at {second} went from {was[1]} to nothing.",
        f"small-bf16-tuned: muon at 9x went from nothing to {bound}",
    ]


def crossing(threshold, *modes):
    rounded = Rounded(mode_digest="0" * 64, loss=2.1, degradation=0.1, layers=28)
    return Crossing(threshold=threshold, tokens=1000, curve_loss=threshold, weights="1" * 64, float_loss=2.0,
                    modes=dict.fromkeys(modes, rounded))  # fmt: skip


def measured(material, modes, *crossings):
    """The material with so many modes of each checkpoint, and with these common losses."""
    children = {run_id: child.model_copy(update={"modes": dict(list(child.modes.items())[:modes]),
                                                 "crossings": crossings})
                for run_id, child in material.quantized.items()}  # fmt: skip
    return dataclasses.replace(material, quantized=children)


def test_modes_that_came_since_are_left_out_and_are_said_by_the_next_one(evidence, tmp_path):
    early = measured(evidence, -1, crossing(2.2, "ptq-w3"))
    later = measured(evidence, None, crossing(2.4, "ptq-w3"), crossing(2.2, "ptq-w3", "ptq-w4"))
    release("1.0", ["Early."], None, early, tmp_path)
    assert unlike("1.0", later, tmp_path) == []
    release("1.1", ["Later."], None, later, tmp_path)
    before, now = (len(list(csv.reader((tmp_path / name / "modes/small-tuned.csv").open()))) - 1
                   for name in ("1.0", "1.1"))  # fmt: skip
    said = f"small-tuned: degradations: {now - before} new, {now} in all."
    assert said in read_release(tmp_path / "1.1").what and now > before
    less = Kept(kept_of(evidence).boards, {})
    assert (
        changes(read_release(tmp_path / "1.1"), tmp_path, {}, less)[-1] == "small-tuned: this table of modes is gone."
    )


def test_a_checkpoint_that_was_measured_otherwise_or_is_gone_is_named(folder, evidence):
    run_id, child = sorted(evidence.quantized.items())[0]
    one = {name: mode.model_copy(update={"loss": 1.0}) for name, mode in child.modes.items()}
    for other in ({run_id: child.model_copy(update={"modes": one})}, {}):
        moved = dataclasses.replace(evidence, quantized={**evidence.quantized, **other} if other else {})
        with pytest.raises(BenchError, match=f"what rounding did to {run_id[:16]} is not here as it was"):
            unlike("1.0", moved, folder)


def test_declared_values_are_in_no_release(evidence):
    told = [dataclasses.replace(board, track="declared") for board in evidence.boards]
    held = dataclasses.replace(evidence, boards=(*evidence.boards, *told))
    assert kept_of(held).boards.keys() == kept_of(evidence).boards.keys() and told


def test_a_table_of_modes_that_all_failed_has_no_lines(evidence, tmp_path):
    failed = {
        run_id: child.model_copy(update={"modes": {}, "failed": {
            name: Failed(mode_digest=mode.mode_digest, cause="it broke", machine="0" * 64, made=mode.made)
            for name, mode in child.modes.items()}})
        for run_id, child in evidence.quantized.items()
    }  # fmt: skip
    release("1.0", ["All failed."], None, dataclasses.replace(evidence, quantized=failed), tmp_path)
    (view,) = read_releases(tmp_path)
    assert view.tables == () and "modes/small-tuned.json" in view.release.files


def test_findings_are_filled_in_from_the_boards_and_lead_the_pages(folder, evidence, sources):
    text = (folder / "1.0" / "findings.md").read_text()
    row = next(row for row in kept_of(evidence).boards["small-bf16-tuned"][0].rows if row.entry == "muon")
    assert f"{row.speedups[1.0].value:.2f}× ({row.speedups[1.0].low:.2f} to {row.speedups[1.0].high:.2f}" in text
    lost = next(row for row in kept_of(evidence).tables["small-tuned"].rows["ptq-w3"]
                if (row.cell.entry, row.cell.budget) == ("muon", 1.0)).compared.degradation  # fmt: skip
    assert f"{lost.value:+.4f} ({lost.low:+.4f} to {lost.high:+.4f}) nats" in text
    made = pages(dataclasses.replace(evidence, releases=tuple(read_releases(folder))), sources)
    page = made["releases/1.0.html"]
    assert page.index("What it says") < page.index("The first board.") and "{" not in page.partition("<h2>")[2][:300]
    assert ">what release 1.0 found</a>" in made["index.html"]
    assert "small, what modes cost at " in page and f"{lost.value:+.4f}" in page


def test_all_that_the_scoring_code_imports_is_in_the_digest_of_its_source():
    """A change in any of it can change a board; a release made again must say that the code has changed."""
    root = Path(bench.release.__file__).parent
    made = {root / f"{name}.py" for name in MADE}
    held = root / "pages" / "views.py"  # the pages' material: it holds what others compute
    found = set(root.glob("score/*.py"))
    todo = [*found, *made]
    while todo:
        nodes = [node for node in ast.walk(ast.parse(todo.pop().read_text())) if isinstance(node, ast.ImportFrom)]
        names = {node.module for node in nodes if node.module and node.module.startswith("bench.")}
        more = {path for name in names if (path := root.parent / f"{name.replace('.', '/')}.py").exists()}
        more -= found | made | {held}
        found, todo = found | more, [*todo, *more]
    assert {path.stem for path in found if path.parent == root} == set(READ)
    assert {path.parent.name for path in found} == {"bench", "score"}


def test_a_release_that_was_cut_short_is_none(folder):
    shutil.copytree(folder / "1.0", folder / "2.0")
    (folder / "2.0" / NAME).unlink()
    assert latest(folder) == "1.0"
