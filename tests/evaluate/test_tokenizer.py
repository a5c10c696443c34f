"""The tokenizer that the evaluation harness gets makes the ids of training, of any text."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small import ROOT

from bench.data.encoding import tokenizer_of
from bench.errors import BenchError
from bench.evaluate.tokenizer import END, harness_tokenizer
from bench.task import read_task

NANO = read_task(ROOT / "tasks" / "nano.toml").data
BYTES = harness_tokenizer(NANO)


@settings(max_examples=300, deadline=None)
@given(st.text())
def test_any_text_goes_to_its_bytes_and_back(text):
    ids = BYTES.encode(text, add_special_tokens=False)
    assert ids == list(text.encode()) == tokenizer_of(NANO).pack([text]).tolist()[:-1]
    assert BYTES.decode(ids) == text


@pytest.mark.parametrize("text", [END, f"a{END}b", "<0x41>", " a  b\n\t ", "\x00\ufeff\u202e", "e\u0301\U0001f600"])
def test_what_looks_like_a_token_is_bytes(text):
    ids = BYTES.encode(text, add_special_tokens=False)
    assert ids == list(text.encode()) and BYTES.decode(ids) == text


def test_the_end_is_the_token_that_closed_documents_in_training():
    assert BYTES.eos_token_id == tokenizer_of(NANO).end == 256


@pytest.mark.parametrize("task", ["gpt2-124m", "llama-60m"])
def test_a_tokenizer_of_the_hub_gives_the_ids_of_training(mirror, task):
    data = read_task(ROOT / "tasks" / f"{task}.toml").data
    made, known = harness_tokenizer(data), tokenizer_of(data)
    for text in ("Hello, world!", "naïve café\n\n  x", f"a{END}b", "Answer: 42"):
        assert made.encode(text, add_special_tokens=False) == known.pack([text]).tolist()[:-1]
    assert made.eos_token_id == known.end


def test_generated_words_have_none():
    with pytest.raises(BenchError, match="generated words"):
        harness_tokenizer(read_task(ROOT / "tasks" / "smoke.toml").data)
