"""In a browser, from file://: nothing overflows, nothing fails to load, on a desk and on a phone."""

from pathlib import Path

import pytest

from bench.pages.build import write_site

CHROMIUM = Path("/usr/bin/chromium")
pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser():
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not installed")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def folder(site, tmp_path_factory):
    target = tmp_path_factory.mktemp("site")
    write_site(site, target)
    return target


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("path", ["index.html", "tasks/nano.html", "entries/strange.html", "run"])
def test_a_page_fits_and_loads_whole(browser, folder, path, width):
    target = folder / path if path != "run" else min(folder.glob("runs/*.html"))
    page = browser.new_page(viewport={"width": width, "height": 844})
    failed, said = [], []
    page.on("requestfailed", lambda request: failed.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.goto(target.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("document.styleSheets.length") == 1
    assert page.evaluate("getComputedStyle(document.body).margin") == "0px", "the style sheet was not applied"
    assert (failed, said) == ([], [])
    page.close()
