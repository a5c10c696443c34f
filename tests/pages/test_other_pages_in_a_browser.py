"""The pages beside the board in Chromium: they fit, a pair is kept in the address, and all is read without script."""

import pytest
from chromium import browsers, page_of, serious

from bench.pages.build import write_site

pytestmark = pytest.mark.browser
browser = pytest.fixture(scope="module")(browsers)
PATHS = ["compare.html", "pareto.html", "scale.html", "failures.html", "method.html", "quantization.html",
         "releases/index.html", "entries/muon.html", "run"]  # fmt: skip


@pytest.fixture(scope="module")
def folder(told, tmp_path_factory):
    target = tmp_path_factory.mktemp("others")
    write_site(told, target)
    return target


@pytest.mark.parametrize("path", PATHS)
def test_a_page_fits_a_phone_and_a_desk_and_loads_whole(browser, folder, path):
    target = folder / path if path != "run" else min(folder.glob("runs/*.html"))
    with page_of(browser, target) as page:
        for width in (1440, 1024, 390):
            page.set_viewport_size({"width": width, "height": 844})
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (path, width)


def cells(page, table):
    return page.eval_on_selector_all(
        f"#{table} tbody tr", "rows => rows.map(r => [...r.cells].map(c => c.textContent))"
    )


def test_the_script_shows_of_the_default_pair_what_the_page_shows_without_it(browser, folder):
    with page_of(browser, folder / "compare.html") as page:
        before = {table: cells(page, table) for table in ("tests", "sides", "seeds")}
        pair = page.eval_on_selector_all("#pick select", "lists => lists.map(list => list.value)")
        page.select_option("#one", pair[1])
        page.select_option("#other", pair[0])
        assert cells(page, "tests") != before["tests"]
        page.click("#turn")
        assert {table: cells(page, table) for table in before} == before


def test_a_pair_is_kept_in_the_address_and_read_from_it(browser, folder):
    with page_of(browser, folder / "compare.html") as page:
        page.select_option("#one", "sgd")
        page.select_option("#other", "adamw")
        assert page.url.endswith("#sgd/adamw") and page.title().startswith("sgd against adamw")
        shown = cells(page, "tests")
        assert page.get_attribute("#sides a[data-side='0']", "href") == "entries/sgd.html"
        page.goto(page.url.partition("#")[0] + "#sgd/adamw")
        page.reload()
        assert cells(page, "tests") == shown
        page.goto(page.url.partition("#")[0] + "#nobody/%E0%A4%A")  # what it does not know, it leaves
        page.reload()
        assert page.eval_on_selector("#one", "list => list.selectedIndex") == 0


def test_the_link_to_the_content_leaves_the_pair_in_the_address(browser, folder):
    with page_of(browser, folder / "compare.html", "#sgd/adamw") as page:
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.wait_for_url("**#sgd/adamw")
        assert page.title().startswith("sgd against adamw")


def test_an_entry_against_itself_and_one_that_is_not_ranked_say_so(browser, folder):
    with page_of(browser, folder / "compare.html") as page:
        page.select_option("#one", "muon")
        page.select_option("#other", "muon")
        assert {row[-1] for row in cells(page, "tests")} == {"no test: an entry against itself"}
        page.select_option("#other", "muon@1")
        assert {row[-1] for row in cells(page, "tests")} == {"no test: not ranked at this budget"}


def test_without_script_the_first_two_are_compared_and_nothing_asks_for_one(browser, folder):
    with page_of(browser, folder / "compare.html", java_script_enabled=False) as page:
        assert not page.is_visible("#pick") and page.is_visible("#tests") and page.is_visible("noscript p")
    with page_of(browser, folder / "quantization.html", java_script_enabled=False) as page:
        assert page.is_visible("figure.chart svg")


@pytest.mark.parametrize("path", PATHS)
def test_a_scan_for_accessibility_finds_nothing_serious(browser, folder, path):
    target = folder / path if path != "run" else min(folder.glob("runs/*.html"))
    for scheme in ("light", "dark"):
        with page_of(browser, target, color_scheme=scheme) as page:
            assert not serious(page), scheme
