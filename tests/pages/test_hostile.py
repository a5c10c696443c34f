"""Whatever a submission says in its names, its TOML and its records is text on a page, and never more than that."""

import dataclasses
import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from bench.errors import BenchError
from bench.pages.build import gather, pages
from bench.pages.words import FORBIDDEN, paper_link

HOSTILE = [
    "<script>alert(1)</script>",
    "</script><script>alert(2)</script>",
    "</title><img src=x onerror=alert(3)>",
    '"><svg onload=alert(4)>',
    "' onmouseover='alert(5)",
    "javascript:alert(6)",
    "{{ 7 * 7 }}{% raw %}",
    "<!-- --><style>*{display:none}</style>",
    "&lt;b&gt; &amp; &#60;",
    "]]><![CDATA[ <iframe src=//evil.example>",
    "\u202egpj.exe\u202c",
    "=HYPERLINK(\"http://evil.example\")",
    "<a href=data:text/html,alert(8)>x</a>",
    "\\u003cscript\\u003e</textarea></style>",
    "\x1b[31mred\x00\x0b\x7f\x9f\ufffe",  # what neither a feed nor a page may hold
]  # fmt: skip
LOADS = {"src", "srcset", "data", "action", "formaction", "poster", "background", "ping"}
ALLOWED = {"html", "head", "meta", "title", "link", "script", "body", "a", "header", "nav", "ul", "li", "svg", "path",
           "main", "h1", "h2", "h3", "p", "dl", "div", "dt", "dd", "section", "table", "caption", "span", "thead", "tr",
           "th", "tbody", "td", "footer", "figure", "figcaption", "details", "summary", "pre", "code", "em", "strong",
           "form", "label", "select", "option", "input", "button", "fieldset", "legend", "g", "text", "circle", "desc",
           "rect", "line", "br", "defs", "clippath", "tspan", "ol", "polyline", "polygon", "i", "sup", "sub", "use",
           "marker", "symbol", "var", "small", "abbr", "time", "h4", "b", "noscript"}  # fmt: skip


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found, self.scripts, self._in_script = [], [], False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        self._in_script = tag == "script"

    def handle_endtag(self, tag):
        self._in_script = False

    def handle_data(self, data):
        if self._in_script and data.strip():
            self.scripts.append(data)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory, bench, sources, write):
    folder = tmp_path_factory.mktemp("hostile")
    home = folder / "baselines" / "evil"
    home.mkdir(parents=True)
    (home / "optimizer.py").write_text(
        '"""A toy."""\n\n\nclass Hyperparameters:\n    lr: float\n\n\ndef build(roles, hp, run):\n    return []\n'
    )
    words, title = (json.dumps(text).replace("\x7f", "\\u007f") for text in (HOSTILE, " ".join(HOSTILE)))  # as TOML
    (home / "evil.toml").write_text(
        f"title = {title}\nfamily = 'element-wise'\n"
        f"paper = 'javascript:alert(9)'\nauthors = {words}\nscope = 'hidden'\ndeviations = {words}\n"
        "[schedule]\nkind = 'decay'\nwarmup_fraction = 0.1\n"
        "[search.lr]\ndefault = 0.02\nlow = 0.0025\nhigh = 0.16\nscale = 'log'\n"
    )
    for seed, text in enumerate(HOSTILE):
        write(folder / "records", entry="quick", seed=seed + 50, outcome="crashed", cause=text, who=text)
        values = {"lr": 0.02, text: text}
        write(folder / "records", entry="quick", seed=seed + 80, who=text, inputs={"entry": "evil", "values": values})
    material = gather([bench / "records", folder / "records"], bench / "tasks", folder / "baselines", bench)
    return pages(material, sources)


def test_pages_of_hostile_records_hold_no_tag_and_no_handler_of_theirs(hostile):
    for path, text in hostile.items():
        if path.endswith(".html"):
            tags = Tags(text)
            assert {tag for tag, _ in tags.found} <= ALLOWED, path
            for tag, facts in tags.found:
                assert not [name for name in facts if name.startswith("on") or name == "style"], (path, tag)
                for name in LOADS & set(facts):
                    assert tag == "script" and not re.match(r"[a-z]+:|//", facts[name]), (path, tag, name)
                assert not re.match(r"\s*(javascript|data|vbscript):", facts.get("href", ""), re.I), path
            for script in tags.scripts:
                json.loads(script)  # data, and nothing that runs


def test_their_words_stand_on_the_page_as_they_were_written(hostile):
    page = re.sub(r"\s+", " ", hostile["entries/evil.html"])
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page and "{{ 7 * 7 }}" in page
    assert page.count("&lt;iframe src=//evil.example&gt;") >= 2  # authors and deviations


def test_the_feed_is_xml_and_no_page_holds_what_none_may(hostile):
    for path, text in hostile.items():
        assert not path.endswith((".html", ".xml")) or not FORBIDDEN.search(text), path
    names = [author.text for author in ElementTree.fromstring(hostile["feed.xml"]).findall(".//{*}author/{*}name")]
    assert "\ufffd[31mred" + 5 * "\ufffd" in names


def test_a_board_of_hostile_records_is_one_call_with_data(hostile):
    for path, text in hostile.items():
        if path.startswith("boards/"):
            assert text.startswith("isoloss.show(") and text.endswith(");\n")
            json.loads(text[len("isoloss.show(") : -len(");\n")])


@pytest.mark.parametrize("name", [*HOSTILE, "con/../x", "a b", "..", ""])
def test_a_hostile_name_makes_no_file(name, sources, make_record, material):
    bad = dataclasses.replace(material, records=(make_record(inputs={"entry": name}),), boards=())
    with pytest.raises(BenchError, match="cannot be the name of a page"):
        pages(bad, sources)


@pytest.mark.parametrize(
    "paper",
    [*HOSTILE, "https://x.example/ onclick=alert(1)", 'https://x"onx=1', "JAVASCRIPT:alert(1)", "//evil.example"],
)
def test_only_a_plain_web_address_becomes_a_link(paper):
    assert paper_link(paper) is None
