"""Token sets come back as they were encoded, whole or not at all."""

import gzip
import json

import numpy as np
import pytest

from bench.data import shards
from bench.data.corpus import BATCH_DOCUMENTS, Batch
from bench.data.encoding import tokenizer_of
from bench.data.shards import MIB, ShardWriter, TokenSet, sidecar_path
from bench.data.tokens import prepare
from bench.errors import BenchError

TEXTS = ["Hello", "", "é \U0001f600", "a\u0000b", "<|endoftext|>", "last \n"]


def whole(tokens: TokenSet) -> np.ndarray:
    return tokens.read(0, len(tokens))


def home_of_prepared(data, tmp_path):
    return prepare(data, 257, tmp_path / "data")["train"].folder


def test_bytes_come_back_as_the_texts(corpus, tmp_path):
    ids = whole(prepare(corpus(TEXTS), 257, tmp_path / "data")["train"])
    ends = np.flatnonzero(ids == 256)
    texts = [part[part != 256].astype(np.uint8).tobytes().decode() for part in np.split(ids, ends + 1)[:-1]]
    assert texts == TEXTS
    assert ids[-1] == 256


def test_more_documents_than_a_batch_are_one_run_of_tokens(corpus, tmp_path):
    texts = [f"{number} " * (number % 7) for number in range(2 * BATCH_DOCUMENTS + 5)]
    ids = whole(prepare(corpus(texts), 257, tmp_path / "data")["train"])
    assert ids.tolist() == [i for text in texts for i in (*text.encode(), 256)]


def test_generated_words_are_their_own_tokens(generated, tmp_path):
    from bench.data.synthetic import documents as texts

    data = generated()
    for split, tokens in prepare(data, 257, tmp_path).items():
        assert whole(tokens).tolist() == [i for text in texts(data, split) for i in (*text.tolist(), 256)]


def test_the_c4_documents_are_485006_gpt2_tokens_and_1000_ends(mirror, c4, tmp_path):
    ids = whole(prepare(c4("gpt2"), 50257, tmp_path)["train"])
    assert (ids == 50256).sum() == 1000
    assert len(ids) == 485_006 + 1000  # the mirror's README counts without end tokens


@pytest.mark.parametrize(("name", "vocabulary", "end"), [("gpt2", 50257, 50256), ("t5-base", 32100, 1)])
def test_hub_tokenizers_end_documents_and_nothing_else(mirror, c4, texts_of, name, vocabulary, end):
    from tokenizers import Tokenizer

    data = c4(name, last=50)
    tokenizer = tokenizer_of(data)
    texts = [*texts_of(data), ""]
    ids = tokenizer.pack(texts)
    assert (tokenizer.vocabulary, tokenizer.end, ids.dtype) == (vocabulary, end, np.uint16)
    parts = [part[:-1].tolist() for part in np.split(ids, np.flatnonzero(ids == end) + 1)[:-1]]
    plain = Tokenizer.from_file(str(mirror / name / "tokenizer.json"))
    assert parts == [plain.encode(text, add_special_tokens=False).ids for text in texts]


def test_a_text_that_spells_the_end_token_out_does_not_end(mirror, c4):
    tokenizer = tokenizer_of(c4("gpt2"))
    assert (tokenizer.pack(["a<|endoftext|>b"]) == tokenizer.end).sum() == 1


def test_large_vocabularies_take_four_bytes(generated, tmp_path):
    tokenizer = tokenizer_of(generated(words=70_000))
    writer = ShardWriter(tmp_path, "train", "<u4")
    documents = [np.array([69_999, 5]), np.array([0])]
    writer.append(tokenizer.pack(documents), Batch(documents))
    tokens = TokenSet(tmp_path, "<u4", writer.close())
    assert whole(tokens).dtype == np.uint32
    assert whole(tokens).tolist() == [69_999, 5, 70_000, 0, 70_000]
    assert tokens.facts.largest == 70_000


def test_a_second_call_opens_what_the_first_one_built(corpus, tmp_path):
    data, lines = corpus(TEXTS), []
    first = prepare(data, 257, tmp_path / "data", lines.append)
    built = len(lines)
    assert built >= 3
    second = prepare(data, 257, tmp_path / "data", lines.append)
    assert len(lines) == built
    assert {split: tokens.digest for split, tokens in first.items()} == {
        split: tokens.digest for split, tokens in second.items()
    }


def test_the_manifest_tells_what_was_read_of_each_file(corpus, tmp_path):
    data = corpus(TEXTS[:4], TEXTS[4:], last=5)
    manifest = json.loads((home_of_prepared(data, tmp_path) / "manifest.json").read_text())
    for split in ("train", "select", "score"):
        facts = manifest["splits"][split]
        assert [(source["path"], source["documents"]) for source in facts["sources"]] == [
            ("0.json.gz", 4),
            ("1.json.gz", 1),
        ]


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("tokenizer", "0" * 64, "its tokens are of a tokenizer 0000000000000000, and bytes is "),
        ("format", 1, "it is of another text or format than its folder's name says"),
        ("dtype", "<u4", "it is of another text or format than its folder's name says"),
    ],
)
def test_a_manifest_of_other_tokens_than_the_folder_promises_is_one_line(corpus, tmp_path, key, value, says):
    data = corpus(TEXTS)
    manifest = home_of_prepared(data, tmp_path) / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), key: value}))
    with pytest.raises(BenchError) as caught:
        prepare(data, 257, tmp_path / "data")
    assert caught.value.what.startswith(f"{manifest}: {says}")
    assert caught.value.hint == f"delete the folder {manifest.parent} and run `bench data` again"


def test_another_range_is_another_set(corpus, tmp_path):
    one = prepare(corpus(TEXTS, last=4), 257, tmp_path / "data")["train"]
    other = prepare(corpus(TEXTS, last=5), 257, tmp_path / "data")["train"]
    assert one.digest != other.digest and len(other) > len(one)


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(shards, "MIB", 64)
    monkeypatch.setattr(shards, "SHARD_TOKENS", 96)  # three digests a shard


def test_reads_span_shards(corpus, tmp_path, small_shards):
    texts = ["".join(chr(97 + (i * i) % 26) for i in range(n)) for n in (500, 3, 212)]
    tokens = prepare(corpus(texts), 257, tmp_path / "data")["train"]
    expected = np.array([i for text in texts for i in (*text.encode(), 256)])
    assert len(tokens.facts.shards) == -(-len(expected) // 96) > 3
    assert np.array_equal(whole(tokens), expected)
    for start, stop in [(0, 0), (95, 97), (96, 192), (10, 400), (len(tokens) - 1, len(tokens))]:
        assert np.array_equal(tokens.read(start, stop), expected[start:stop])


def test_the_shard_size_holds_for_a_text_that_fills_it(corpus, tmp_path, small_shards):
    tokens = prepare(corpus(["x" * 191]), 257, tmp_path / "data")["train"]
    assert [shard.tokens for shard in tokens.facts.shards] == [96, 96]


def test_a_flipped_bit_is_found_where_it_lies(corpus, tmp_path):
    data = corpus(["x" * (2 * MIB)])  # two bytes a token: four whole MiB and the end token
    tokens = prepare(data, 257, tmp_path / "data")["train"]
    path = tokens.folder / "train-00000.bin"
    assert path.stat().st_size == 4 * MIB + 2 and len(sidecar_path(path).read_bytes()) == 5 * 32
    with path.open("r+b") as file:
        file.seek(2 * MIB + 12346)
        file.write(b"y")  # one bit from x
    again = prepare(data, 257, tmp_path / "data")["train"]
    assert (again.read(0, MIB) == ord("x")).all()
    with pytest.raises(BenchError, match=r"train-00000\.bin: MiB 2 was changed") as caught:
        again.read(MIB - 1, MIB + 1)
    assert f"delete the folder {tokens.folder} and run `bench data` again" in caught.value.hint
    again.read(3 * MIB // 2, len(again))
    with pytest.raises(BenchError, match="MiB 2"):
        again.read(MIB, MIB + 1)  # still, when asked again


def test_a_changed_sidecar_is_found(corpus, tmp_path):
    tokens = prepare(corpus(TEXTS), 257, tmp_path / "data")["train"]
    sidecar_path(tokens.folder / "train-00000.bin").write_bytes(b"0" * 32)
    with pytest.raises(BenchError, match=r"sidecar train-00000\.sha256 was changed"):
        whole(tokens)


def test_a_truncated_or_missing_shard_is_found_when_opened(corpus, tmp_path):
    data = corpus(TEXTS)
    path = home_of_prepared(data, tmp_path) / "score-00000.bin"
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(BenchError, match=r"score-00000\.bin: holds \d+ bytes instead of"):
        prepare(data, 257, tmp_path / "data")
    path.unlink()
    with pytest.raises(BenchError, match=r"score-00000\.bin: cannot be read"):
        prepare(data, 257, tmp_path / "data")


@pytest.mark.parametrize("left", ["half a manifest", "no manifest", "another schema"])
def test_a_folder_without_a_whole_manifest_is_built_anew(corpus, tmp_path, left):
    data = corpus(TEXTS)
    manifest = home_of_prepared(data, tmp_path) / "manifest.json"
    text = manifest.read_text()
    manifest.unlink()
    if left != "no manifest":
        manifest.write_text(text[: len(text) // 2] if left == "half a manifest" else json.dumps({"dtype": "<u2"}))
    tokens = prepare(data, 257, tmp_path / "data")["train"]
    assert manifest.read_text() == text
    assert len(whole(tokens)) == sum(len(text.encode()) + 1 for text in TEXTS)
    assert not list((tmp_path / "data").glob(".*.partial"))


def test_a_token_outside_the_vocabulary_is_refused(corpus, tmp_path):
    data = corpus(TEXTS)
    with pytest.raises(BenchError, match=r"token id 256, and the model's vocabulary is 256"):
        prepare(data, 256, tmp_path / "data")
    assert not [path for path in (tmp_path / "data").iterdir() if path.suffix != ".lock"]
    prepare(data, 257, tmp_path / "data")
    with pytest.raises(BenchError, match="at least 257"):
        prepare(data, 100, tmp_path / "data")


def test_a_broken_corpus_leaves_nothing_behind(corpus, tmp_path):
    data = corpus(TEXTS, gzip.compress(b'{"text": "a"}\n{oops\n'))
    with pytest.raises(BenchError, match="not JSON"):
        prepare(data, 257, tmp_path / "data")
    assert not [path for path in (tmp_path / "data").iterdir() if path.suffix != ".lock"]


def test_a_folder_that_cannot_be_written_is_one_line(corpus, tmp_path):
    data = corpus(TEXTS)
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(BenchError, match="tokens cannot be written") as caught:
        prepare(data, 257, tmp_path / "file" / "data")
    assert caught.value.hint


def test_an_unknown_tokenizer_is_one_line(corpus, tmp_path):
    data = corpus(TEXTS).model_copy(update={"tokenizer": "gtp2"})
    with pytest.raises(BenchError, match=r"gtp2/tokenizer\.json: the mirror has no such file"):
        prepare(data, 257, tmp_path / "data")
    (tmp_path / "mirror" / "gtp2").mkdir()
    (tmp_path / "mirror" / "gtp2" / "tokenizer.json").write_text("{}")
    with pytest.raises(BenchError, match="cannot be loaded"):
        prepare(data, 257, tmp_path / "data")
