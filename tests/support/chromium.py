"""The system's Chromium through Playwright, for tests of pages; one browser for all of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

CHROMIUM = Path("/usr/bin/chromium")


def browsers() -> Iterator[object]:
    """Yield a browser; skip where there is none."""
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not installed")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield opened
        opened.close()


@contextmanager
def page_of(browser, target: Path, hash: str = "", **context):
    """Yield an open page that must load whole and say nothing to the console."""
    own = browser.new_context(**{"viewport": {"width": 1280, "height": 844}, **context})
    page, said = own.new_page(), []
    page.on("requestfailed", lambda request: said.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(target.as_uri() + hash)
    yield page
    assert not said, said
    own.close()
