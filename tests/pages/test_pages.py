"""The pages are the records' alone: same bytes, whole links, nothing loaded from elsewhere, text escaped."""

import dataclasses
import os
import posixpath
import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
import typer

from bench.cli import boards
from bench.errors import BenchError
from bench.pages.boards import ROWS, files, sheet
from bench.pages.build import LIST, drawn_files, pages, write_site
from bench.pages.drawing import BUNDLE, bundle
from bench.pages.shell import Page, render
from bench.pages.views import board_view, shown_rows

VOID = {"meta", "link", "br", "img", "hr", "input", "wbr"}


class Parsed(HTMLParser):
    """Tags, links, ids and text of a page; tags must close in order."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.ids, self.words = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        facts = dict(attrs)
        self.tags.append((tag, facts))
        if "id" in facts:
            self.ids.append(facts["id"])
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def parsed(site):
    return {path: Parsed(text) for path, text in site.items() if path.endswith(".html")}


def run_page(parsed, start):
    return next(page for path, page in parsed.items() if path.startswith("runs/") and page.text.startswith(start))


def test_another_process_with_its_work_spread_over_cores_gives_the_same_bytes(bench, site, sources, tmp_path, python):
    code = ("import sys; from functools import partial; from pathlib import Path\n"
            "from bench.pages import shell; from bench.pages.build import build_site\n"
            "shell.spread = partial(shell.spread, few=0)\n"
            "records, tasks, baselines, out = map(Path, sys.argv[1:]); "
            "build_site([records], tasks, baselines, records.parent, out)")  # fmt: skip
    command = [python, "-c", code, bench / "records", bench / "tasks", bench / "baselines", tmp_path]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": "1", "TZ": "UTC+7"})
    there = {path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    here = {path: text.encode() for path, text in site.items()} | drawn_files(sources) | {BUNDLE: bundle().encode()}
    assert there.pop(LIST).decode().splitlines() == sorted(here) and there.keys() == here.keys()
    assert [path for path in here if there[path] != here[path]] == []
    assert len(here) > 40


def test_tags_are_balanced_and_ids_unique(parsed):
    for path, page in parsed.items():
        assert len(page.ids) == len(set(page.ids)), path


def test_every_internal_link_leads_to_a_page_and_its_place(site, parsed):
    for path, page in parsed.items():
        for _, facts in page.tags:
            target = facts.get("href") or facts.get("src")
            if target is None or re.match(r"https?:|data:", target):
                continue
            file, _, anchor = target.partition("#")
            found = posixpath.normpath(posixpath.join(posixpath.dirname(path), file)) if file else path
            assert found in site, f"{path} -> {target}"
            assert not anchor or anchor in parsed[found].ids, f"{path} -> {target}"


def test_nothing_is_loaded_from_elsewhere_and_no_script_stands_in_a_page(site, parsed):
    for path, page in parsed.items():
        policy = next(facts["content"] for tag, facts in page.tags if "http-equiv" in facts)
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'"), path
        assert "unsafe" not in policy, path
        for tag, facts in page.tags:
            assert tag != "script" or facts.get("type") == "application/json" or "src" in facts, path
            assert "style" not in facts, path
            assert not any(name.startswith("on") for name in facts), path
            if tag != "a":
                assert not re.match(r"(https?:)?//", facts.get("href") or facts.get("src") or ""), path
    assert not re.search(r"url\(|@import|https?:", site["static/style.css"])


def test_text_of_an_entry_is_text(site, parsed):
    assert "<script>alert" not in "".join(site.values())
    assert '<script>alert(1)</script> & "quotes"' in parsed["entries/strange.html"].text
    assert "the warm-up is <ours>" in parsed["entries/quick.html"].text


def test_each_page_says_what_a_reader_without_sight_needs(parsed):
    for path, page in parsed.items():
        tags = [tag for tag, _ in page.tags]
        assert ("html", {"lang": "en"}) in page.tags
        assert tags.count("h1") == 1 and tags.count("main") == 1, path
        assert tags.count("table") == tags.count("caption"), path
        assert all("scope" in facts for tag, facts in page.tags if tag == "th"), path
        assert any(facts.get("name") == "viewport" for _, facts in page.tags), path
        for tag, facts in page.tags:
            if tag == "svg":
                assert facts.get("role") == "img" or facts.get("aria-hidden") == "true"
                assert "role" not in facts or "aria-label" in facts or "aria-labelledby" in facts
                assert set(facts.get("aria-labelledby", "").split()) <= set(page.ids)


def test_a_run_that_failed_is_a_row_with_its_cause(parsed):
    for path in ("tasks/nano.html", "entries/slow.html"):
        assert "diverged" in parsed[path].text
        assert "loss nan and gradient norm <nan> at step 7" in parsed[path].text
    assert " 2 of 9 " in parsed["index.html"].text
    page = run_page(parsed, "slow on nano, 2x, seed 1")
    assert "This run is diverged" in page.text
    assert "Scoring loss – nats" in page.text


def test_declared_values_are_marked_and_stand_in_no_order_of_merit(site, parsed):
    text = parsed["index.html"].text
    assert "declared: values set by hand, not tuned, not ranked" in text
    places = [site["index.html"].index(f'href="entries/{name}.html"') for name in ("gone", "quick", "slow", "strange")]
    assert places == sorted(places)


def test_results_are_said_in_the_protocols_words(parsed):
    text = parsed["tasks/nano.html"].text
    assert re.search(r"quick needed 1\.\d\d \(95% interval .*?\) times fewer charged tokens than base", text)
    assert "nothing is claimed beyond these rungs" in text
    assert not re.search(r"\bfaster\b|better optimizer", " ".join(page.text for page in parsed.values()))


def test_the_arithmetic_of_a_speedup_can_be_done_by_hand(parsed):
    found = re.search(
        r"2x: .*?quick 2\.\d{4} (?:multi-epoch )?([\d,]+) ([\d,]+) ([\d.]+)× ", parsed["tasks/nano.html"].text
    )
    reference, charged, speedup = (float(number.replace(",", "")) for number in found.groups())
    assert reference / charged == pytest.approx(speedup, abs=0.0051)


def test_a_run_shows_its_lint_and_how_to_make_it_again(parsed):
    page = run_page(parsed, "quick on nano, 1x, seed 0")
    assert re.search(r"bench replay \S*/nano/declared/[0-9a-f]{64}\.json", page.text)
    for rule in ("A1", "A2", "A3", "A4", "A5", "A6", "A7"):
        assert f" {rule} " in page.text
    broken_in_caption = 1
    assert "✓ holds" in page.text
    assert page.text.count("✗ broken") == broken_in_caption


def test_rungs_beyond_one_pass_over_the_text_are_headed_so(parsed):
    text = parsed["tasks/nano.html"].text
    assert "1x: 1,024,000 tokens in 500 steps; 0.56 passes over the text" in text
    assert "2x: 2,048,000 tokens in 1,000 steps; multi-epoch, 1.1 passes over the text" in text
    assert "multi-epoch" in parsed["entries/quick.html"].text


def test_a_board_that_cannot_be_made_says_why(parsed):
    for path in ("index.html", "tasks/small.html"):
        assert re.search(r"[Mm]ode fp8, declared: .*? no board yet\. small: base has no records", parsed[path].text)


def test_without_noise_no_interval_is_shown_and_the_page_says_so(parsed):
    text = parsed["tasks/small.html"].text
    assert "Noise between seeds: –" in text
    assert "no interval" in text
    assert re.search(r"× – ", text)


def test_a_name_that_is_no_file_name_is_refused(material, sources, make_record):
    for name in ("../../etc", "a/b", ".hidden", "", "<b>"):
        bad = dataclasses.replace(material, records=(make_record(inputs={"entry": name}),), boards=())
        with pytest.raises(BenchError, match="cannot be the name of a page"):
            pages(bad, sources)


def test_a_placebo_has_a_page_by_its_own_name(material, sources, make_record):
    placebo = make_record(inputs={"entry": "quick@1"})
    made = pages(dataclasses.replace(material, records=(placebo,), boards=()), sources)
    assert "quick@1" in Parsed(made["entries/quick@1.html"]).text
    assert 'href="../entries/quick@1.html"' in made[f"runs/{placebo.run_id}.html"]


def test_a_ranked_board_stands_in_order_with_controls_and_then_placebos_last(material):
    board = material.boards[0]
    kinds = {"b@1": {"placebo_of": "b"}, "c": {"control": True}, "a": {}, "b": {}}
    rows = [dataclasses.replace(board.rows[0], entry=entry, **kind) for entry, kind in kinds.items()]
    shown = shown_rows(dataclasses.replace(board, rows=tuple(rows)))
    assert [row.entry for row in shown] == ["a", "b", "c", "b@1"]
    assert [material.tag(row) for row in shown] == ["", "", "control", "placebo"]


def test_a_batch_controller_says_that_it_is_not_ranked_and_why(evidence, told):
    label = {name: evidence.label(name) for name in ("adadagrad", "adamw-ref", "muon", "nobody")}
    assert label == {"adadagrad": "own batches", "adamw-ref": "control", "muon": "", "nobody": ""}
    row = dataclasses.replace(evidence.boards[0].rows[0], entry="adadagrad", control=True)
    assert evidence.tag(row) == "own batches" and evidence.tag(dataclasses.replace(row, control=False)) == ""
    assert "its token order is its own: run and shown, and never ranked" in told["entries/adadagrad.html"]
    assert 'adadagrad</a> <span class="tag">own batches</span>' in told["entries/index.html"]


def test_a_placebo_that_differs_fails_the_build_once_the_pages_are_written(evidence, monkeypatch, capsys, tmp_path):
    """The board of `bench score` is the pages' too (tests/score/test_score_command.py has one that fails)."""
    why = "placebo adamw@1 differs from its twin adamw at 1x"
    board = dataclasses.replace(evidence.boards[0], failing=(why,))
    failing = dataclasses.replace(evidence, boards=(board,)).failing
    assert failing == (f"small, mode bf16, track tuned: {why}",) and evidence.failing == ()
    monkeypatch.setattr("bench.pages.build.build_site", lambda *_: (3, failing))
    with pytest.raises(typer.Exit) as stop:
        boards.site(out=tmp_path, address="")
    said = capsys.readouterr()
    assert (
        stop.value.exit_code == 1 and said.out.startswith("3 pages") and f"this build fails: {failing[0]}" in said.err
    )


def test_the_folder_holds_the_site_and_only_what_changed_is_written(tmp_path):
    folder = tmp_path / "site"
    assert write_site({"index.html": "a", "runs/1.html": "b"}, folder) == ["index.html", "runs/1.html"]
    (folder / "notes.txt").write_text("the user's own")
    assert write_site({"index.html": "a", "runs/1.html": "b"}, folder) == []
    assert write_site({"index.html": "c"}, folder) == ["index.html", "runs/1.html"]
    assert (folder / LIST).read_text() == "index.html\n"
    assert not (folder / "runs" / "1.html").exists()
    assert (folder / "notes.txt").exists()


def test_a_disk_that_was_full_leaves_a_folder_that_the_next_build_goes_on_with(tmp_path, monkeypatch):
    whole = Path.write_bytes

    def full(path, data):
        whole(path, data[: 0 if path.name == "b.html" else None])
        if path.name == "b.html":
            raise OSError(28, "No space left on device")

    folder = tmp_path / "site"
    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr(Path, "write_bytes", full)
        write_site({"a.html": "a", "b.html": "b"}, folder)
    assert write_site({"b.html": "b", "c.html": "c"}, folder) == ["b.html", "c.html", "a.html"]
    assert sorted(path.name for path in folder.iterdir()) == ["b.html", "c.html", LIST]


def test_a_folder_of_other_things_is_left_alone(tmp_path):
    (tmp_path / "thesis.html").write_text("years of work")
    with pytest.raises(BenchError, match="not a folder of pages"):
        write_site({"index.html": "a"}, tmp_path)


def test_a_list_that_points_outside_removes_nothing_there(tmp_path):
    folder, outside = tmp_path / "site", tmp_path / "outside.txt"
    outside.write_text("mine")
    write_site({"index.html": "a"}, folder)
    (folder / LIST).write_text(f"../outside.txt\n{outside}\nindex.html\n")
    write_site({"index.html": "a"}, folder)
    assert outside.exists()


def test_the_first_page_says_that_the_yardstick_is_undertuned_where_five_seeds_held(material, sources, site):
    said = "undertuned baseline: 5 seeds of trial 3 of adamw at 1x end 0.0200 nats below adamw-ref"
    boards = (dataclasses.replace(material.boards[0], undertuned=(said,)), *material.boards[1:])
    changed = dataclasses.replace(material, boards=boards)
    sheets = [sheet(board_view(board, changed), changed) for board in boards]
    first = Page("index.html", "index.html", {"sheets": sheets, "bound": ROWS, "newest": None})
    page = render([first], changed, sources, {"files": files})["index.html"]
    assert said in page and "Speedups on this board are too high" in page and said not in site["index.html"]
