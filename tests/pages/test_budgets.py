"""Pages stay small: what a reader loads first does not grow with the number of records."""

import pytest
import synthetic

from bench.mode import modes_named
from bench.pages.boards import ROWS, _telling, files, sheet
from bench.pages.shell import Page, render
from bench.pages.views import board_view

INDEX, RUN = 150_000, 100_000  # bytes, without the charts' script that all pages share


@pytest.fixture(scope="module")
def crowded():
    return synthetic.many(300, entries=100, budgets=(0.5, 1.0, 2.0), seeds=1)


def test_the_first_page_stays_small_and_holds_a_bounded_number_of_rows(crowded, sources):
    sheets = [sheet(board_view(board, crowded), crowded) for board in crowded.boards]
    assert len(sheets[0].headline.lines) == 100
    first = Page("index.html", "index.html", {"sheets": sheets, "bound": ROWS, "newest": None})
    made = render([first], crowded, sources, {"files": files})
    assert made["index.html"].count("<tr>") == 1 + ROWS
    assert len(made["index.html"].encode()) < INDEX


def test_a_record_s_page_stays_small(site):
    runs = {path: len(text.encode()) for path, text in site.items() if path.startswith("runs/")}
    assert runs and max(runs.values()) < RUN, max(runs, key=runs.get)


def test_what_every_page_loads_is_small(sources):
    assert sum(len(text.encode()) for text in sources.static.values()) < 60_000


def test_columns_of_modes_that_round_to_few_bits_are_shown_and_the_rest_is_asked_for():
    assert [mode for mode in modes_named("all") if _telling(mode)] == [
        "qat-w4a4-absmax",
        "ptq-w3",
        "ptq-w4",
        "ptq-w4a4",
    ]
