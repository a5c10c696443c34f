"""Documents come in the files' order, and whatever is wrong with a corpus is one clear line."""

import gzip
import json
from hashlib import sha256

import pytest

from bench.data.corpus import Changed, batches
from bench.errors import BenchError

TEXTS = [f"document {number}" for number in range(25)]


def lines(*rows: str) -> bytes:
    return gzip.compress("".join(row + "\n" for row in rows).encode())


def refusal(data) -> BenchError:
    with pytest.raises(BenchError) as caught:
        list(batches(data, "train"))
    assert "\n" not in caught.value.what
    assert caught.value.hint
    return caught.value


def test_documents_are_counted_over_all_files_in_order(corpus, texts_of):
    data = corpus(TEXTS[:10], TEXTS[10:11], TEXTS[11:], first=8, last=15)
    assert texts_of(data) == TEXTS[8:15]


def test_a_range_without_an_end_goes_to_the_last_document(corpus, texts_of):
    assert texts_of(corpus(TEXTS[:10], TEXTS[10:], first=9), "select") == TEXTS[9:]


def test_a_range_reads_the_same_however_the_stream_is_cut(corpus, monkeypatch, texts_of):
    data = corpus(TEXTS[:20], TEXTS[20:], first=3, last=24)
    for size in (1, 7, 20):
        monkeypatch.setattr("bench.data.corpus.TABLE_DOCUMENTS", size)
        assert texts_of(data) == TEXTS[3:24]


def test_files_after_the_range_are_not_opened(corpus, texts_of):
    assert texts_of(corpus(TEXTS, b"not even gzip", last=25)) == TEXTS


def test_a_reading_goes_on_wherever_it_was_left_and_opens_no_file_that_was_read_whole(corpus, monkeypatch):
    data = corpus(TEXTS[:9], TEXTS[9:20], TEXTS[20:], first=3, last=23)
    monkeypatch.setattr("bench.data.corpus.TABLE_DOCUMENTS", 4)
    monkeypatch.setattr("bench.data.corpus.BATCH_DOCUMENTS", 5)
    whole = list(batches(data, "train"))
    assert len(whole) > 4
    corpus(b"read before and since lost", last=23)
    monkeypatch.setattr("bench.data.corpus.TABLE_DOCUMENTS", 3)
    for number, batch in enumerate(whole):
        if len(batch.sources) > 1:
            rest = list(batches(data, "train", batch.sources))
            left = [text for later in whole[number + 1 :] for text in later.documents]
            assert [text for later in rest for text in later.documents] == left
            assert not rest or rest[-1].sources == whole[-1].sources


def test_sources_tell_what_was_read_of_each_file(corpus):
    data = corpus(TEXTS[:10], TEXTS[10:], first=3, last=12)
    *_, last = batches(data, "train")
    assert [(source.path, source.documents) for source in last.sources] == [("0.json.gz", 10), ("1.json.gz", 2)]
    texts = [b"document 10", b"document 11"]
    assert last.sources[1].digest == sha256(b"".join(text + b"\xff" for text in texts)).hexdigest()


@pytest.mark.parametrize("now", [["other", *TEXTS[1:]], TEXTS[:11]], ids=["another text", "fewer texts"])
def test_a_file_that_changed_since_it_was_read_is_noticed(corpus, now):
    *_, last = batches(corpus(TEXTS, last=12), "train")
    with pytest.raises(Changed, match=r"0\.json\.gz"):
        list(batches(corpus(now), "train", last.sources))


def test_long_documents_come_in_small_batches(corpus, monkeypatch):
    monkeypatch.setattr("bench.data.corpus.BATCH_CHARACTERS", 1000)
    texts = ["book " * 150] * 7 + ["x"] * 3 + ["b" * 5000, "x"]
    assert [len(batch.documents) for batch in batches(corpus(texts), "train")] == [2, 2, 2, 5, 1]


def test_text_comes_back_to_the_last_character(corpus, texts_of):
    odd = ["", " \n\t", 'quotes " and \\ and \u2028', "\U0001f600 é", "a\u0000b", "2020-01-01", "12", "null"]
    assert texts_of(corpus(odd)) == odd


def test_files_of_other_columns_read_alike(corpus, texts_of):
    data = corpus(lines(json.dumps({"text": "a", "when": None})), lines(json.dumps({"when": [1], "text": "b"})))
    assert texts_of(data) == ["a", "b"]


def test_the_mirror_holds_the_c4_documents_that_tasks_name(mirror, c4, texts_of):
    texts = texts_of(c4())
    assert len(texts) == 1000
    assert sum(len(text.encode()) for text in texts) == 2_200_107
    assert sum(len(text.encode()) for text in texts_of(c4(last=900))) == 2_021_896


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (gzip.compress(b'{"text": "words"}\n' * 10_000)[:-20], "0.json.gz: the file is cut short"),
        (b"no gzip at all", "0.json.gz: the file is damaged"),
        (b"", "0.json.gz: the file is empty"),
        (lines('{"text": "a"}', "{oops", '{"text": "b"}'), "0.json.gz: a line is not JSON"),
        (gzip.compress(b'{"text": "caf\xe9"}\n'), "0.json.gz: a line is not JSON"),
        (lines('{"text": "a"}', '{"words": "b"}'), "0.json.gz: document 2 has no text"),
        (lines('{"text": "a"}', '{"text": "b'), "0.json.gz: a line is not JSON"),
        (lines('{"text": "a"}', "[1, 2]"), "0.json.gz: a line is not JSON"),
        (lines('{"text": null}', '{"text": "b"}'), "0.json.gz: document 1 has no text"),
        (lines('{"text": "a"}', '{"text": "\\ud800"}'), "0.json.gz: a line is not JSON"),
        (lines('{"words": "a"}', '{"words": "b"}'), "0.json.gz: document 1 has no text"),
        (lines('{"text": 1}', '{"text": 2}'), "0.json.gz: document 1 has no text"),
    ],
    ids=[
        "cut short",
        "not gzip",
        "empty",
        "not JSON",
        "not UTF-8",
        "one without text",
        "half a line",
        "no object",
        "null",
        "half a character",
        "all without text",
        "numbers",
    ],
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
from bench.data.corpus import batches
from bench.task import HubText
try:
    next(batches(HubText.model_validate_json({corpus(TEXTS).model_dump_json()!r}), "train"))
except Exception as error:
    print(type(error).__name__, error)
"""
    # Nothing listens on port 9 of this machine.
    nowhere = {"BENCH_MIRROR": "", "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path), "NO_PROXY": "*"}
    out, err = elsewhere(code, **nowhere).communicate(timeout=600)
    assert out.startswith("BenchError hf://datasets/some/text@abc/0.json.gz: the Hugging Face hub cannot be reached"), (
        err
    )
    assert "BENCH_MIRROR" in out.splitlines()[1]
