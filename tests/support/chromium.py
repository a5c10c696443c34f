"""A Chromium through Playwright, for tests of pages; one browser for all of them."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import pytest

CUT_OFF = "net::ERR_ABORTED"  # by a test's own reload, which on a busy machine comes before the page's icon
PATIENCE = 180_000  # milliseconds: of a browser that hangs, not of one on a busy machine
CHROMIUM = Path("/usr/bin/chromium")  # Debian's package; else the one that `playwright install chromium` brings


def browsers() -> Iterator[object]:
    """Yield a browser; skip where there is none, and fail there under CI."""
    playwright = needed("playwright.sync_api")
    with playwright.sync_playwright() as started:
        own = Path(started.chromium.executable_path)
        found = next((path for path in (CHROMIUM, own) if path.exists()), None)
        if found is None:
            absent(f"neither {CHROMIUM} nor Playwright's own Chromium is installed")
        opened = started.chromium.launch(executable_path=str(found), args=["--no-sandbox"], timeout=PATIENCE)
        yield opened
        opened.close()


def needed(module: str):
    """Return a module that the test extra brings."""
    try:
        return import_module(module)
    except ImportError:
        absent(f"{module} is not installed")


def absent(what: str, environment: Mapping[str, str] = os.environ) -> None:
    """Skip; under CI fail, since what is skipped there is never run."""
    if environment.get("CI", "").lower() in ("true", "1"):
        pytest.fail(what)
    pytest.skip(what)


@contextmanager
def page_of(browser, target: Path, hash: str = "", **context):
    """Yield an open page that must load whole and say nothing to the console."""
    own = browser.new_context(**{"viewport": {"width": 1280, "height": 844}, **context})
    own.set_default_timeout(PATIENCE)
    page, said = own.new_page(), []
    page.on("requestfailed", lambda request: said.append(request.url) if request.failure != CUT_OFF else None)
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(target.as_uri() + hash)
    yield page
    assert not said, said
    own.close()


def serious(page) -> list[tuple[str, str]]:
    """Return what a scan for accessibility (axe) finds serious: the rule and where it is broken."""
    axe = needed("axe_playwright_python.sync_playwright")
    found = axe.Axe().run(page, options={"preload": False}).response["violations"]  # the policy forbids fetching
    return [(one["id"], one["nodes"][0]["html"][:200]) for one in found if one["impact"] in ("serious", "critical")]
