"""Pages by the parser of the HTML standard: nothing to mend, numbers sorted as numbers, a table behind every chart."""

import re

import html5lib
import pytest

QUANTITY = re.compile(r"[\d.,]+ ?(x|ms|s|min|[KMGT]iB|[kMB])( .*)?")  # which would sort as text


@pytest.fixture(scope="module")
def trees(site, told):
    """One page of every template and more, as trees with the errors that the standard counts."""
    both = [(f"{name}/{path}", text) for name, of in (("site", site), ("told", told)) for path, text in of.items()]
    parsed = {}
    runs = 0
    for path, text in both:
        runs += "/runs/" in path
        if path.endswith(".html") and not ("/runs/" in path and runs % 20 != 1):
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
