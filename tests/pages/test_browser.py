"""In a browser, from file://: nothing overflows, nothing fails to load, on a desk and on a phone."""

import pytest
from chromium import browsers, page_of

from bench.pages.build import write_site

pytestmark = pytest.mark.browser
browser = pytest.fixture(scope="module")(browsers)


@pytest.fixture(scope="module")
def folder(site, tmp_path_factory):
    target = tmp_path_factory.mktemp("site")
    write_site(site, target)
    return target


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("path", ["index.html", "tasks/nano.html", "entries/strange.html", "run"])
def test_a_page_fits_and_loads_whole(browser, folder, path, width):
    target = folder / path if path != "run" else min(folder.glob("runs/*.html"))
    with page_of(browser, target, viewport={"width": width, "height": 844}) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate("document.styleSheets.length") == 1
        assert page.evaluate("getComputedStyle(document.body).margin") == "0px", "the style sheet was not applied"
