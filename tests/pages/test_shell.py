"""The frame of the pages: what leads where, what machines follow, and marks that say what they draw."""

import xml.etree.ElementTree as ElementTree

import pytest

from bench.errors import BenchError
from bench.pages.marks import SPAN, WIDTH, bar, bar_of, place
from bench.pages.shell import NAVIGATION, Page, render
from bench.score.speedup import Speedup

ATOM = "{http://www.w3.org/2005/Atom}"


def test_every_page_leads_to_every_page_of_the_navigation_and_says_where_it_is(site):
    there = [(title, path) for title, path in NAVIGATION if path in site]
    assert len(there) >= 3
    for path, text in site.items():
        if path.endswith(".html"):
            root = "../" * path.count("/")
            for title, target in there:
                assert f'href="{root}{target}"' in text, (path, title)
    assert '<a href="index.html" aria-current="page">Board</a>' in site["index.html"]
    assert '<a href="../tasks/index.html" aria-current="page">Tasks</a>' in site["tasks/nano.html"]
    folders = {"compare": "compare.html", "runs": "entries/index.html", "releases": "releases/index.html"}
    for folder, section in folders.items():
        for text in (text for path, text in site.items() if path.startswith(f"{folder}/") and path.endswith(".html")):
            assert f'<a href="../{section}" aria-current="page">' in text


def test_two_pages_at_one_place_are_refused(material, sources):
    twice = [Page("index.html", "entries.html")] * 2
    with pytest.raises(BenchError, match=r"two pages would lie at index\.html"):
        render(twice, material, sources, {})


def test_the_feed_is_atom_newest_first_and_names_every_record_once(site, material):
    feed = ElementTree.fromstring(site["feed.xml"])
    entries = feed.findall(f"{ATOM}entry")
    assert len(entries) == min(50, len(material.records))
    assert len({entry.find(f"{ATOM}id").text for entry in entries}) == len(entries)
    for part in ("title", "id", "updated", "link", "summary"):
        assert all(entry.find(f"{ATOM}{part}") is not None for entry in entries)
    times = [entry.find(f"{ATOM}updated").text for entry in entries]
    assert times == sorted(times, reverse=True) and all(time.endswith("Z") for time in times)
    assert all(entry.find(f"{ATOM}link").get("href") in site for entry in entries)


def test_a_sitemap_is_made_where_the_address_is_known(site, told):
    assert "sitemap.xml" not in site
    listed = [tag.text for tag in ElementTree.fromstring(told["sitemap.xml"]).iter() if tag.tag.endswith("loc")]
    assert listed == [f"https://board.example/{path}" for path in sorted(told) if path.endswith("html")]
    assert 'property="og:image" content="https://board.example/static/card.png"' in told["index.html"]


@pytest.mark.parametrize(
    ("low", "high", "left", "right"),
    [(1.1, 1.4, False, False), (None, 1.3, True, False), (1.2, None, False, True), (0.1, 9.0, True, True)],
)
def test_a_bar_lies_where_its_interval_does_and_ends_in_arrows_where_it_goes_on(low, high, left, right):
    found = Speedup(1.25, "=", low, high, None, None)
    drawn = bar_of(found)
    assert drawn.low < drawn.figure < drawn.high
    assert (drawn.left, drawn.right) == (left, right)
    assert bar(found).count("L") == 2 * (left + right)
    assert "1.25×, interval" in bar(found)


def test_a_bar_is_symmetric_in_the_log_and_is_missing_without_an_interval():
    assert place(1.0) == WIDTH / 2
    assert place(SPAN) + place(1 / SPAN) == pytest.approx(WIDTH)
    assert place(1.2) + place(1 / 1.2) == pytest.approx(WIDTH)
    assert bar_of(None) is None and bar(None) == ""
    assert bar_of(Speedup(1.0, "=", None, None, None, None, no_interval="one seed")) is None
