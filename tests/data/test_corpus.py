"""Documents come in the files' order, and whatever is wrong with a corpus is one clear line."""

import gzip
import json

import pytest

from bench.data.corpus import documents
from bench.errors import BenchError

TEXTS = [f"document {number}" for number in range(25)]


def lines(*rows: str) -> bytes:
    return gzip.compress("".join(row + "\n" for row in rows).encode())


def refusal(data) -> BenchError:
    with pytest.raises(BenchError) as caught:
        list(documents(data, "train"))
    assert "\n" not in caught.value.what
    assert caught.value.hint
    return caught.value


def test_documents_are_counted_over_all_files_in_order(corpus):
    data = corpus(TEXTS[:10], TEXTS[10:11], TEXTS[11:], first=8, last=15)
    assert list(documents(data, "train")) == TEXTS[8:15]


def test_a_range_without_an_end_goes_to_the_last_document(corpus):
    assert list(documents(corpus(TEXTS[:10], TEXTS[10:], first=9), "select")) == TEXTS[9:]


def test_a_range_reads_the_same_however_the_stream_is_cut(corpus, monkeypatch):
    data = corpus(TEXTS[:20], TEXTS[20:], first=3, last=24)
    for size in (1, 7, 20):
        monkeypatch.setattr("bench.data.corpus.TABLE_DOCUMENTS", size)
        assert list(documents(data, "train")) == TEXTS[3:24]


def test_files_after_the_range_are_not_opened(corpus):
    assert list(documents(corpus(TEXTS, b"not even gzip", last=25), "train")) == TEXTS


def test_text_comes_back_to_the_last_character(corpus):
    odd = ["", " \n\t", 'quotes " and \\ and \u2028', "\U0001f600 é", "a\u0000b", "2020-01-01", "12", "null"]
    assert list(documents(corpus(odd), "train")) == odd


def test_files_of_other_columns_read_alike(corpus):
    data = corpus(lines(json.dumps({"text": "a", "when": None})), lines(json.dumps({"when": [1], "text": "b"})))
    assert list(documents(data, "train")) == ["a", "b"]


def test_the_mirror_holds_the_c4_documents_that_tasks_name(mirror, c4):
    texts = list(documents(c4(), "train"))
    assert len(texts) == 1000
    assert sum(len(text.encode()) for text in texts) == 2_200_107
    assert sum(len(text.encode()) for text in documents(c4(last=900), "train")) == 2_021_896


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (gzip.compress(b'{"text": "words"}\n' * 10_000)[:-20], "0.json.gz: the file is cut short"),
        (b"no gzip at all", "0.json.gz: the file is damaged"),
        (b"", "0.json.gz: the file is empty"),
        (lines('{"text": "a"}', "{oops", '{"text": "b"}'), "0.json.gz: a line is not JSON"),
        (gzip.compress(b'{"text": "caf\xe9"}\n'), "0.json.gz: a line is not JSON"),
        (lines('{"text": "a"}', '{"words": "b"}'), "0.json.gz: document 2 has no text"),
        (lines('{"words": "a"}', '{"words": "b"}'), "0.json.gz: document 1 has no text"),
        (lines('{"text": 1}', '{"text": 2}'), "0.json.gz: document 1 has no text"),
    ],
    ids=["cut short", "not gzip", "empty", "not JSON", "not UTF-8", "one without text", "all without text", "numbers"],
)
def test_a_damaged_file_is_named_with_what_is_wrong(corpus, content, says):
    assert says in refusal(corpus(content)).what


def test_the_second_file_is_named_when_it_is_the_damaged_one(corpus):
    assert "1.json.gz: the file is cut short" in refusal(corpus(TEXTS, lines('{"text": "a"}')[:-6])).what


def test_fewer_documents_than_asked_for_are_refused(corpus):
    error = refusal(corpus(TEXTS[:10], TEXTS[10:], first=20, last=26))
    assert "data.train asks for documents 20..26, but its files hold 25" in error.what
    assert "hold 25" in refusal(corpus(TEXTS, first=25)).what


def test_a_missing_file_is_named_with_the_nearest_one(corpus):
    data = corpus(TEXTS)
    wrong = data.model_copy(update={"train": data.train.model_copy(update={"files": ("0.json",)})})
    assert "0.json: the mirror has no such file; did you mean 0.json.gz?" in refusal(wrong).what


def test_a_missing_mirror_is_named(corpus, monkeypatch, tmp_path):
    data = corpus(TEXTS)
    monkeypatch.setenv("BENCH_MIRROR", str(tmp_path / "gone"))
    assert "BENCH_MIRROR" in refusal(data).what


def test_a_hub_that_cannot_be_reached_is_one_line(corpus, elsewhere, tmp_path):
    code = f"""
from bench.data.corpus import documents
from bench.task import HubText
try:
    next(documents(HubText.model_validate_json({corpus(TEXTS).model_dump_json()!r}), "train"))
except Exception as error:
    print(type(error).__name__, error)
"""
    # Nothing listens on port 9 of this machine.
    nowhere = {"BENCH_MIRROR": "", "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path), "NO_PROXY": "*"}
    out, err = elsewhere(code, **nowhere).communicate(timeout=120)
    assert out.startswith("BenchError hf://datasets/some/text@abc/0.json.gz: the Hugging Face hub cannot be reached"), (
        err
    )
    assert "BENCH_MIRROR" in out.splitlines()[1]
