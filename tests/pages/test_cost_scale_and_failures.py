"""What entries cost, where evidence ends, what did not finish: counted from records and ledgers, nothing imputed."""

import dataclasses
import json
import re

import pytest

from bench.pages import words
from bench.pages.boards import sheet
from bench.pages.compare import QUANTITIES, compare_view
from bench.pages.failures import failures_view
from bench.pages.pareto import pareto_view
from bench.pages.scale import leading, scale_view
from bench.pages.tasks import forest
from bench.score.speedup import Speedup

BOUND = Speedup(None, ">=", 1.2, None, None, None, limit=1.997)  # off the ladder, its interval open above


@pytest.fixture
def bounded(boards):
    """The first board with a bound for muon at every budget."""
    view = boards[0]
    rows = {row.entry: dataclasses.replace(row, speedups=dict.fromkeys(row.speedups, BOUND))
            if row.entry == "muon" else row for row in view.board.rows}  # fmt: skip
    lines = [dataclasses.replace(line, row=rows[line.row.entry]) for line in view.headline]
    lines = [dataclasses.replace(x, speedup=BOUND) if x.row.entry == "muon" else x for x in lines]
    return dataclasses.replace(
        view, board=dataclasses.replace(view.board, rows=tuple(rows.values())), headline=tuple(lines)
    )


def test_a_bound_stays_one_and_true_wherever_it_is_written(evidence, bounded):
    """What is worked out from a bound is one; 1.997 is at least 1.99, and 2.00 would be false."""
    assert words.speedup(BOUND) == "≥ 1.99×" and words.beside(2.567, BOUND) == "≥ 2.56×"
    below = dataclasses.replace(BOUND, bound="<=", limit=0.501)
    assert words.speedup(below) == "≤ 0.51×" and words.beside(None, below) == words.MISSING
    sides = {side.entry: side.cells for side in compare_view(bounded, evidence, "compare.html").sides}
    told = dict(zip(QUANTITIES, sides["muon"], strict=True))
    for name in ("Speedup", "Speedup in time", "Speedup with its tuning"):
        assert told[name].removeprefix("≈ ").startswith("≥ "), name
    assert not told["Step time over the reference’s"].startswith("≥ ")
    board = sheet(bounded, evidence)
    keys = [column.key for column in board.columns]
    line = next(line for line in board.headline.lines if line.cells[keys.index("entry")].value == "muon")
    texts = [line.cells[keys.index(key)].text for key in ("speedup", "time", "inclusive")]
    assert all(text.removeprefix("≈ ").startswith("≥ ") for text in texts)


def test_an_interval_says_its_level_where_a_look_has_moved_it():
    assert words.interval(BOUND) == "1.20 to open"
    assert words.interval(dataclasses.replace(BOUND, level=0.0125)) == "1.20 to open (98.75%)"


def test_a_figure_that_rests_on_repeated_text_is_headed_so_wherever_it_stands(evidence, boards, told):
    view = boards[0]
    assert 2.0 in view.board.multi_epoch and {line.repeats for line in view.headline} == {"multi-epoch"}
    read = ["", "reference read multi-epoch", "multi-epoch"]  # muon at 1x ends where the reference does beyond one pass
    assert [cell.repeats for cell in scale_view("bf16", "tuned", evidence, boards).rows["muon"][0]] == read
    side = next(side for side in compare_view(view, evidence, "compare.html").sides if side.entry == "muon")
    assert dict(zip(QUANTITIES, side.cells, strict=True))["Read at"] == "2x, multi-epoch"
    assert pareto_view(view).budgets == "2x (multi-epoch)"
    assert re.search(r"muon \d\.\d\d× at 2x \(multi-epoch\)", forest(view, "n").svg)
    tag = '<span class="tag">{}</span>'
    assert tag.format(read[1]) in told["scale.html"] and "small<br>2x<br>multi-epoch</th>" in told["scale.html"]
    assert all(tag.format("multi-epoch") in told[page] for page in ("pareto.html", "tasks/small.html"))
    assert "The dashed line is the reference. Read at 2x (multi-epoch)." in told["tasks/small.html"]
    assert tag.format(read[1]) in told["entries/muon.html"]
    tags = [
        {line.cells[1].value: line.cells[1].tags for line in rows.lines}["muon"]
        for rows in sheet(view, evidence).budgets
    ]
    assert tags == [(), (read[1],), ()]  # the heading of 2x says it for all


def test_a_control_takes_no_place_among_the_leading(evidence, boards):
    view = boards[0]
    (size,) = scale_view("bf16", "tuned", evidence, boards).sizes
    first = leading(size)[0]
    lines = [dataclasses.replace(line, row=dataclasses.replace(line.row, control=line.row.entry == first))
             for line in view.headline]  # fmt: skip
    held = dataclasses.replace(size, view=dataclasses.replace(view, headline=tuple(lines)))
    assert leading(held) == leading(size)[1:]


def test_a_chart_s_words_say_that_a_bound_is_one(evidence, bounded):
    (size,) = scale_view("bf16", "tuned", evidence, [bounded]).charts
    for drawn in (size, pareto_view(bounded).chart):
        assert '"said": "≥ 1.99×"' in json.dumps(json.loads(drawn.spec), ensure_ascii=False)


def test_costs_are_the_boards_and_an_unmeasured_entry_is_named(evidence, boards):
    view = pareto_view(boards[0])
    assert {one.line.row.entry for one in view.lines} >= {"muon", "soap"}
    for one in view.lines:
        assert one.beside.time == one.line.row.beside[one.line.rung.budget].time
    bare = [dataclasses.replace(line, row=dataclasses.replace(line.row, beside={})) for line in boards[0].headline]
    nothing = pareto_view(dataclasses.replace(boards[0], headline=tuple(bare)))
    assert nothing.chart is None and set(nothing.unmeasured) == {line.row.entry for line in boards[0].headline}


def test_who_is_on_the_front_is_dominated_by_nobody_and_placebos_are_never_there(boards):
    for one in pareto_view(boards[0]).lines:
        standing = one.line.row.standings.get(one.line.rung.budget)
        assert one.on_front == (standing is not None and standing.dominated_by == ())
        assert not (one.on_front and one.line.row.placebo_of)


def test_evidence_ends_where_the_last_speedup_is(evidence, boards):
    view = scale_view("bf16", "tuned", evidence, boards)
    (size,) = view.sizes
    assert size.budgets == (0.5, 1.0, 2.0) and "none beyond 2x on small" in view.beyond
    assert size.parameters == evidence.tasks["small"].matrix_parameters
    cells = view.rows["muon"][0]
    row = next(row for row in boards[0].board.rows if row.entry == "muon")
    assert [cell.speedup for cell in cells] == [row.speedups[budget] for budget in size.budgets]
    assert "muon@1" not in leading(size) and "muon@1" in view.rows
    assert "no evidence beyond" in view.charts[0].svg


def test_a_mode_without_a_board_has_no_scale(evidence, boards):
    assert scale_view("qat-int8", "tuned", evidence, boards) is None


def test_every_failure_is_counted_once_with_its_cause(evidence):
    view = failures_view(evidence)
    assert len(view.failed) == sum(record.outcome != "finished" for record in evidence.records) > 0
    assert all(record.cause for record in view.failed)
    (rate,) = [rate for rate in view.rates if rate.entry == "sgd"]
    assert rate.failed == len(view.failed) and rate.runs == sum(r.entry == "sgd" for r in evidence.records)
    assert rate.failed_trial_runs == len(view.trials) > 0
    assert rate.outcomes == f"{len(view.failed) + len(view.trials)} diverged"


def test_a_trial_in_the_ledgers_of_two_looks_counts_once(evidence):
    twice = {task: [*studies, *studies] for task, studies in evidence.studies.items()}
    assert failures_view(dataclasses.replace(evidence, studies=twice)) == failures_view(evidence)
