"""Pages by the parser of the HTML standard: nothing to mend, numbers sorted as numbers, a table behind every chart."""

import re
from collections import defaultdict

import html5lib
import pytest

MANY = 12  # pages of a folder, of which no more are parsed
QUANTITY = re.compile(r"[\d.,]+ ?(x|ms|s|min|[KMGT]iB|[kMB])( .*)?")  # which would sort as text


@pytest.fixture(scope="module")
def trees(site, told):
    """Of every folder the pages that hold least and most, as trees with the errors that the standard counts."""
    folders = defaultdict(list)
    for name, of in (("site", site), ("told", told)):
        for path in sorted(of, key=lambda path: (len(of[path]), path)):
            if path.endswith(".html"):
                folders[name, path.rpartition("/")[0]].append((f"{name}/{path}", of[path]))
    parsed = {}
    for found in folders.values():
        for path, text in found if len(found) <= MANY else (*found[:2], *found[2 - MANY :]):
            parser = html5lib.HTMLParser(namespaceHTMLElements=False)
            parsed[path] = (parser.parse(text), [(place, code, facts) for place, code, facts in parser.errors])
    return parsed


def test_the_standard_s_parser_finds_nothing_to_mend(trees):
    assert {path: errors[:3] for path, (_, errors) in trees.items() if errors} == {}
    assert {path.split("/")[1] for path in trees} >= {"runs", "entries", "tasks", "releases", "index.html"}


def words(cell):
    return " ".join("".join(cell.itertext()).split())


def test_what_a_table_sorts_as_a_number_says_which(trees):
    wrong = []
    for path, (tree, _) in trees.items():
        for table in tree.iter("table"):
            if "sortable" not in table.get("class", ""):
                continue
            heads = table.findall("thead/tr")[-1]
            for row in table.findall("tbody/tr"):
                for head, cell in zip(heads, row, strict=True):
                    key = cell.get("data-value", words(cell))
                    number = re.fullmatch(r"[-+]?\d+(\.\d+)?(e[-+]?\d+)?", re.sub("[,×%]", "", key))
                    figure = "n" in head.get("class", "").split() and re.match(r"\W?\s?\d", key)
                    if (figure or QUANTITY.fullmatch(key)) and not number:
                        wrong.append((path, words(head), key))
    assert not wrong, wrong[:8]


def test_a_table_stands_behind_every_chart(trees):
    charts = 0
    for path, (tree, _) in trees.items():
        for part in tree.iter("section"):
            drawn = [figure for figure in part.iter("figure") if figure.get("class") == "chart"]
            assert not drawn or part.find(".//table") is not None, path
            charts += len(drawn)
    assert charts
