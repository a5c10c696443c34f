import csv
import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.score.board import make_board
from bench.score.table import FORMATS, render, sentences


@pytest.fixture
def board(task, ladder, make_runs, make_row):
    entries = [
        *make_runs("muon", {1.0: [3.409, 3.41, 3.411], 2.0: [3.2, 3.21, 3.22]}),
        *make_runs("sgd_|slow", {1.0: [3.69, 3.70, 3.71], 2.0: [4.1, 4.11, 4.12]}),
        *make_runs("twin", {1.0: [3.529, 3.53, 3.531]}),
        make_row("bad", 1.0, 0, outcome="diverged"),
    ]
    return make_board(ladder + entries, task, "adamw-ref")


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_shows_every_entry_failures_included(board, task, format):
    text = render(board, task, format)
    for entry in ("muon", "twin", "bad"):
        assert entry in text
    assert text.endswith("\n") and "nan" not in text.lower().replace("nano", "") and "None" not in text


def test_heading_ladder_figures_and_flags_are_shown(board, task):
    text = render(board, task, "plain")
    for part in (
        "smoke, mode bf16, track tuned; reference adamw-ref (tuned); machine kind",
        "seed noise 0.00",
        "1 diverged",
        "2.00x",
        ">= 2.00x",
        "<= 0.13x",
        "multi-epoch",
        "tuning noise is not in these",
    ):
        assert part in text, part


def test_sentences_keep_the_protocols_wording(board, task):
    said = dict(zip([row.entry for row in board.rows], sentences(board, task), strict=True))
    assert said["bad"] == "On smoke, bad finished no run."
    assert (
        "muon needed at least 2.00 (95% interval 2.00 to open) times fewer charged tokens than adamw-ref at 2x"
        in said["muon"]
    )
    assert "block parameters, a generated language, 2 passes over it, " in said["muon"]
    assert "a generated language, 1 pass over it, " in said["twin"]
    assert "it was tuned with" not in said["muon"]  # no ledger is known
    assert "needed at least 8.00 (95% interval 8.00 to open) times as many charged tokens as" in said["sgd_|slow"]
    assert "which includes 1) times" in said["twin"]
    for text in said.values():
        assert "faster" not in text and "better" not in text
    assert said["twin"].endswith("nothing is claimed beyond these rungs.")


def test_a_sentence_is_of_the_largest_ranked_rung_and_of_an_unstable_one_only_where_none_is_ranked(board, task):
    muon = next(row for row in board.rows if row.entry == "muon")
    ranked, blurred = (
        sentences(replace(board, rows=(muon,), unstable=rungs), task)[0] for rungs in ((2.0,), (1.0, 2.0))
    )
    assert "adamw-ref at 1x; " in ranked and "unstable" not in ranked
    assert "adamw-ref at 2x; this rung is unstable and not ranked; " in blurred


def test_beside_a_large_figure_stands_what_is_known_of_scale(board, task):
    """1.4 is the figure that protocol H names; the row's largest decides, at whatever budget the sentence is."""
    for row, said in zip(board.rows, sentences(board, task), strict=True):
        large = any(found.figure > 1.4 for found in row.speedups.values())
        assert ("arXiv 2509.02046; arXiv 2512.05620 disagrees" in said) is large
        assert said.endswith((" beyond these rungs.", " finished no run."))


def test_declared_values_are_said_to_be_untuned(task, ladder, make_runs):
    rows = ladder + make_runs("muon", {1.0: [3.4, 3.41]}, track="declared")
    assert "set by hand and not tuned" in sentences(make_board(rows, task, "adamw-ref", track="declared"), task)[0]


def test_json_is_whole_and_exact(board, task):
    table = json.loads(render(board, task, "json"))
    rows = {row["entry"]: row for row in table["rows"]}
    found = rows["muon"]["rungs"][0]["speedup"]
    assert found["value"] == board.rows[0].speedups[1.0].value and found["beats_reference"] is True
    assert rows["bad"]["rungs"][0]["mean_loss"] is None and rows["bad"]["rungs"][0]["speedup"] is None
    assert rows["bad"]["rungs"][0]["failures"][0]["cause"] == "diverged at step 7"
    assert rows["muon"]["rungs"][1]["multi_epoch"] is True
    assert [rung["budget"] for rung in table["ladder"]] == [0.25, 0.5, 1.0, 2.0, 4.0]


def test_csv_is_one_table_and_exact(board, task):
    lines = list(csv.DictReader(io.StringIO(render(board, task, "csv"))))
    assert len(lines) == 5 + 6
    muon = next(line for line in lines if line["entry"] == "muon" and line["budget"] == "1.0")
    assert float(muon["speedup"]) == board.rows[0].speedups[1.0].value and muon["beats_reference"] == "true"
    bad = next(line for line in lines if line["entry"] == "bad")
    assert (bad["mean_loss"], bad["speedup"], bad["charged_tokens"], bad["failures"]) == ("", "", "", "1")


def test_machines_are_told_which_rows_are_controls(task, ladder, make_runs):
    rows = ladder + make_runs("muon", {1.0: [3.409, 3.41]}) + make_runs("sweeper", {1.0: [3.409, 3.41]})
    board = make_board(rows, task, "adamw-ref", controls={"sweeper"})
    told = {row["entry"]: row["control"] for row in json.loads(render(board, task, "json"))["rows"]}
    assert told == {"muon": False, "sweeper": True}
    lines = csv.DictReader(io.StringIO(render(board, task, "csv")))
    assert {line["entry"]: line["control"] for line in lines} == {
        "adamw-ref": "false", "muon": "false", "sweeper": "true",
    }  # fmt: skip


def test_signs_of_the_format_are_escaped(board, task):
    assert r"sgd_\|slow" in render(board, task, "github")
    assert r"sgd\_|slow" in render(board, task, "latex")


def test_tie_groups_and_the_first_are_columns_where_entries_are_told_apart(task, ladder, make_runs, board):
    lines = render(board, task).splitlines()
    header = next(line for line in lines if line.startswith("entry"))
    assert "tie" in header and "P(first)" in header
    muon = next(line for line in lines if line.startswith("muon"))
    assert muon.split()[8:11] == ["1.96x", "a", "1.00"]
    alone = make_board(ladder + make_runs("muon", {1.0: [3.409, 3.41]}), task, "adamw-ref")
    assert "P(first)" not in render(alone, task) and "tie" not in render(alone, task).split("On smoke")[0]


def test_tables_of_one_pass_fit_a_hundred_columns(task, ladder, make_runs):
    entries = [row for number in range(12) for row in make_runs(
        f"entry-no-{number:02}", {1.0: [3.53 - number / 500 + d for d in (-0.002, 0.0, 0.002)]})]  # fmt: skip
    board = make_board([row._replace(epochs=0.5) for row in ladder + entries], task, "adamw-ref")
    assert max(len(row.standings[1.0].letters) for row in board.rows) > 1
    for line in render(board, task).splitlines():
        if not line.startswith(("smoke,", "On smoke", "note:")):
            assert len(line) <= 100, line


def test_an_unknown_format_names_the_known(board, task):
    with pytest.raises(BenchError, match="did you mean latex"):
        render(board, task, "latx")


def test_a_ladder_alone_is_a_board(task, ladder):
    board = make_board(ladder, task, "adamw-ref")
    for format in FORMATS:
        assert render(board, task, format)


def test_a_bound_is_rounded_so_that_it_stays_true(task, ladder, make_runs):
    rows = ladder + make_runs("sgd", {2.0: [4.1, 4.11]}) + make_runs("sam", {1.0: [3.1, 3.11]}, passes=1.5)
    text = render(make_board(rows, task, "adamw-ref"), task)
    assert "<= 0.13x" in text and ">= 2.66x" in text  # 0.125, 2.667


def test_a_reading_beyond_one_pass_is_said_to_be(task, ladder, make_runs):
    board = make_board(ladder + make_runs("muon", {1.0: [3.409, 3.41], 0.5: [3.69, 3.7]}), task, "adamw-ref")
    rungs = json.loads(render(board, task, "json"))["rows"][0]["rungs"]
    assert [rung["speedup"]["read_multi_epoch"] for rung in rungs] == [False, True]
    assert "the reference read beyond one pass" in sentences(board, task)[0]


def test_scoring_starts_without_torch_and_without_scipy():
    code = "import sys, bench.score.table, bench.index; sys.exit(bool({'torch', 'scipy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0
