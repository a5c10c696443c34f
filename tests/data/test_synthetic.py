"""The generated language is what its docstring says, and its entropy rate is the loss of whoever knows it."""

import time
from itertools import pairwise

import numpy as np
import pytest

from bench.data.synthetic import documents, entropy_rate, entropy_rate_and_error, language
from bench.errors import BenchError

SPLITS = ("train", "select", "score")


def transitions(data) -> np.ndarray:
    """Return the (W, W) matrix of the successor law."""
    laws = language(data)
    dense = np.zeros((data.words, data.words))
    np.put_along_axis(dense, laws.followers_WK.astype(np.int64), laws.weights_WK, axis=1)
    return dense


def surprise(data, text) -> float:
    """Return -log of the chance of one document, by the definition, a word at a time."""
    follows, copy, end = transitions(data), data.copy_probability, 1 / data.document_words
    chances = [language(data).frequency_W[text[0]]]
    for t, (before, word) in enumerate(pairwise(text), start=1):
        chance = follows[before, word]
        if t >= data.copy_distance:
            chance = (1 - copy) * chance + copy * (text[t - data.copy_distance] == word)
        chances.append((1 - end) * chance)
    return -np.log([*chances, end]).sum()


@pytest.mark.parametrize("copy", [0.0, 0.25, 0.8])
def test_the_entropy_rate_is_the_mean_surprise_of_fresh_text(generated, copy):
    data = generated(
        copy_probability=copy, copy_distance=3, words=40, successors=5, document_words=30, train_documents=3000
    )
    surprises = np.array([surprise(data, text) for text in documents(data, "train")])
    tokens = np.array([len(text) + 1 for text in documents(data, "train")])
    rate, error = entropy_rate_and_error(data)
    spread = np.sqrt(np.square(surprises - rate * tokens).sum()) / tokens.sum()
    assert surprises.sum() / tokens.sum() == pytest.approx(rate, abs=4 * np.hypot(spread, error))
    assert spread < 0.02


def test_without_copies_the_rate_is_that_of_a_markov_chain(generated):
    data = generated(copy_probability=0.0, document_words=50)
    law, end = transitions(data), 1 / data.document_words
    row_entropy = -np.where(law > 0, law * np.log(np.where(law > 0, law, 1)), 0).sum(axis=1)
    first = language(data).frequency_W
    end_entropy = -end * np.log(end) - (1 - end) * np.log1p(-end)
    total, chance, alive = -(first * np.log(first)).sum(), first, 1.0
    for _ in range(5000):  # positions; the chance that a document gets so far is 1e-44
        total += alive * (end_entropy + (1 - end) * chance @ row_entropy)
        chance, alive = chance @ law, alive * (1 - end)
    rate, error = entropy_rate_and_error(data)
    assert error < 2e-3
    assert rate == pytest.approx(total / (data.document_words + 1), abs=4 * error)


def test_one_successor_and_no_copies_leave_only_starts_and_ends(generated):
    data = generated(words=8, successors=1, copy_probability=0.0, document_words=10)
    first, end = language(data).frequency_W, 1 / 10
    per_document = -(first * np.log(first)).sum() - (10 * ((1 - end) * np.log1p(-end) + end * np.log(end)))
    assert entropy_rate(data) == pytest.approx(per_document / 11, rel=0.01)


def test_words_follow_zipfs_law(generated):
    data = generated(train_documents=9000)
    law = language(data).frequency_W
    assert law == pytest.approx(1 / np.arange(1, 257) / (1 / np.arange(1, 257)).sum())
    found = np.bincount(np.concatenate(list(documents(data, "train"))), minlength=256)
    assert np.abs(found / found.sum() / law - 1).max() < 0.2
    assert np.abs(found / found.sum() - law).sum() < 0.02


@pytest.mark.parametrize("seed", range(5))
def test_every_word_has_that_many_successors_and_follows_some_word(generated, seed):
    law = transitions(generated(language_seed=seed))
    assert ((law > 0).sum(axis=1) == 16).all()
    assert (law > 0).any(axis=0).all()
    assert law.sum(axis=1) == pytest.approx(np.ones(256))


def test_words_are_copies_as_often_as_said(generated):
    data = generated(copy_probability=0.5, copy_distance=4, train_documents=2000)
    texts = [text for text in documents(data, "train") if len(text) > 4]
    same = np.concatenate([text[4:] == text[:-4] for text in texts]).mean()
    near = np.concatenate([text[3:] == text[:-3] for text in texts]).mean()
    assert 0.5 < same < 0.6 and near < 0.15  # by chance alone words repeat in 5%


def test_documents_have_the_mean_length_and_are_never_empty(generated):
    lengths = np.array([len(text) for text in documents(generated(train_documents=9000), "train")])
    assert lengths.min() >= 1
    assert lengths.mean() == pytest.approx(200, abs=4 * 200 / np.sqrt(9000))
    assert np.corrcoef(lengths[1:], lengths[:-1])[0, 1] == pytest.approx(0, abs=0.05)


def test_texts_are_a_function_of_the_seed_and_differ_between_splits(generated):
    data = generated()
    again = generated(train_documents=300)
    texts = {split: np.concatenate(list(documents(data, split))) for split in SPLITS}
    assert np.array_equal(texts["train"], np.concatenate(list(documents(again, "train"))))
    heads = {tuple(text[:100]) for text in texts.values()}
    assert len(heads) == 3
    other = generated(language_seed=1)
    assert not np.array_equal(language(other).followers_WK, language(data).followers_WK)


def test_the_bits_are_those_that_records_rest_on(generated):
    text = next(documents(generated(), "train"))
    assert text[:8].tolist() == [18, 16, 37, 96, 38, 39, 229, 47]


def test_more_successors_than_words_are_refused(generated):
    with pytest.raises(BenchError, match=r"data\.successors: 16 successors are more than the 8 words"):
        next(documents(generated(words=8), "train"))


def test_a_language_of_one_word_a_document_works(generated):
    data = generated(document_words=1)
    assert {len(text) for text in documents(data, "train")} == {1}
    law = language(data).frequency_W
    assert entropy_rate(data) == pytest.approx(-(law * np.log(law)).sum() / 2)


def test_the_text_of_a_smoke_run_takes_about_a_second(generated):
    start = time.process_time()
    assert len(list(documents(generated(train_documents=9000), "train"))) == 9000
    assert time.process_time() - start < 5  # 0.3 s on a quiet machine
