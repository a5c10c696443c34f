"""A generated language whose entropy is known: Zipf frequencies, few successors per word, and copies from further back.

A document's first word follows Zipf's law. Each later word is, with copy_probability, the word copy_distance before it
(where the document reaches that far back), else it is drawn from the successor law of the word before it. After each
word the document ends with probability 1 / document_words: lengths are geometric, so how near the end is cannot be
known from the past, by a reader of any context.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from bench.data.corpus import Split
from bench.errors import BenchError
from bench.task import SyntheticText

Floats = NDArray[np.float64]
Words = NDArray[np.int32]

FITTING_ROUNDS = 20  # all words but the one or two with too rare a predecessor then follow Zipf's law within 1%
BLOCK_WORDS = 2**20  # on average, of the documents made together
ENTROPY_WORDS = 2**20  # on average, of the text that entropy_rate averages over
CACHED_WORDS = 2**14  # whose laws fit a processor's cache

# Shapes: W words, K successors, D documents, N tokens in a row.


@dataclass(frozen=True)
class Language:
    frequency_W: Floats
    followers_WK: Words
    weights_WK: Floats  # rows sum to 1
    ladder_WK: Floats  # word + cumulative weight, rising over all rows: one search draws a follower


@lru_cache(maxsize=4)
def language(data: SyntheticText) -> Language:
    """Return the laws of a language, a pure function of data."""
    if data.successors > data.words:
        raise BenchError(f"data.successors: {data.successors} successors are more than the {data.words} words")
    frequency_W = _zipf(data.words, data.zipf_exponent)
    followers_WK = _followers(data, frequency_W)
    falling_K = _zipf(data.successors, data.zipf_exponent)
    weights_WK = _fit(np.tile(falling_K, (data.words, 1)), followers_WK, frequency_W)
    ladder_WK = np.arange(data.words)[:, None] + weights_WK.cumsum(axis=1)
    ladder_WK[:, -1] = np.arange(1, data.words + 1)  # exactly, whatever the sum rounded to
    return Language(frequency_W, followers_WK, weights_WK, ladder_WK)


def documents(data: SyntheticText, split: Split, after: int = 0) -> Iterator[Words]:
    """Yield the split's documents but the first so many, as word ids, without the end token, whose id is data.words."""
    count: int = getattr(data, f"{split}_documents")
    block = max(1, BLOCK_WORDS // data.document_words)
    for number in range(after // block, -(-count // block)):
        start = number * block
        made = _block(data, min(block, count - start), _generator(data, split, number))
        yield from islice(made, max(0, after - start), None)


def entropy_rate(data: SyntheticText) -> float:
    """Return the entropy of the process in nats per token, end tokens counted: the floor of any model's loss.

    For each token of a generated text of about a million, the entropy of its exact law given all before it in its
    document is computed in closed form, and averaged. Only which pasts occur is sampled: for smoke's language the
    standard error is 0.0005.
    """
    return entropy_rate_and_error(data)[0]


@lru_cache(maxsize=4)
def entropy_rate_and_error(data: SyntheticText) -> tuple[float, float]:
    """Return entropy_rate and its standard error, from the spread over documents."""
    entropies, lengths = [], []
    block = max(1, BLOCK_WORDS // data.document_words)
    for number in range(-(-ENTROPY_WORDS // (block * data.document_words))):
        made = _block(data, block, _generator(data, "entropy", number))
        while texts := list(islice(made, max(1, CACHED_WORDS // data.document_words))):
            entropies.append(_document_entropies(data, texts))
            lengths.append(np.array([len(text) + 1 for text in texts]))
    entropy_D, length_D = np.concatenate(entropies), np.concatenate(lengths)
    rate = entropy_D.sum() / length_D.sum()
    spread_D = entropy_D - rate * length_D  # of a ratio of means, to first order
    error = np.sqrt(np.square(spread_D).sum()) / length_D.sum()
    return float(rate), float(error)


def _generator(data: SyntheticText, *purpose: str | int) -> np.random.Generator:
    """Return a generator of its own for each purpose; only its random() is used, whose bits numpy keeps stable."""
    name = "/".join(map(str, (data.language_seed, *purpose)))
    return np.random.Generator(np.random.PCG64(int.from_bytes(sha256(name.encode()).digest()[:16], "little")))


def _followers(data: SyntheticText, frequency_W: Floats) -> Words:
    """Return each word's successors, drawn without replacement by frequency; every word follows at least one."""
    generator = _generator(data, "language")
    must_W = np.argsort(generator.random(data.words))  # a permutation: the word that must follow each word
    followers_WK = np.empty((data.words, data.successors), np.int32)
    for word, must in enumerate(must_W):
        arrival_W = -np.log1p(-generator.random(data.words)) / frequency_W  # an exponential race draws by frequency
        chosen_K = np.argsort(arrival_W)[: data.successors]
        if must not in chosen_K:
            chosen_K[-1] = must
        followers_WK[word] = chosen_K
    return followers_WK


def _zipf(count: int, exponent: float) -> Floats:
    falling: Floats = np.power(np.arange(1, count + 1, dtype=np.float64), -exponent)
    falling /= falling.sum()
    return falling


def _fit(weights_WK: Floats, followers_WK: Words, frequency_W: Floats) -> Floats:
    """Return weights scaled by follower until frequency_W is stationary, as near as the successors allow."""
    for _ in range(FITTING_ROUNDS):
        weights_WK = np.divide(weights_WK, weights_WK.sum(axis=1, keepdims=True))
        arriving_WK = frequency_W[:, None] * weights_WK
        arriving_W = np.bincount(followers_WK.ravel(), arriving_WK.ravel(), len(frequency_W))
        weights_WK = weights_WK * (frequency_W / arriving_W)[followers_WK]
    fitted_WK: Floats = np.divide(weights_WK, weights_WK.sum(axis=1, keepdims=True))
    return fitted_WK


def _block(data: SyntheticText, count: int, generator: np.random.Generator) -> Iterator[Words]:
    """Yield count documents, made one position at a time, the longest first so that those still going are a prefix."""
    laws = language(data)
    length_D = _lengths(data, generator.random(count))
    order_D = np.argsort(-length_D, kind="stable")
    going = np.searchsorted(-length_D[order_D], -np.arange(length_D.max()), side="left")  # documents at each position
    word_DT = np.empty((count, length_D.max()), np.int32)
    word_DT[:, 0] = np.searchsorted(laws.frequency_W.cumsum()[:-1], generator.random(count), side="right")
    followers, ladder = laws.followers_WK.ravel(), laws.ladder_WK.ravel()
    for t in range(1, length_D.max()):
        before_D = word_DT[: going[t], t - 1]
        found_D = np.searchsorted(ladder, before_D + generator.random(going[t]), side="right")
        word_D = followers[np.minimum(found_D, (before_D + 1) * data.successors - 1)]  # the sum may round up
        if t >= data.copy_distance:
            copies_D = generator.random(going[t]) < data.copy_probability
            word_D = np.where(copies_D, word_DT[: going[t], t - data.copy_distance], word_D)
        word_DT[: going[t], t] = word_D
    row_D = np.argsort(order_D)
    for row, length in zip(row_D, length_D, strict=True):
        yield word_DT[row, :length].copy()


def _lengths(data: SyntheticText, uniform_D: Floats) -> NDArray[np.int64]:
    """Return geometric lengths of at least 1 and of mean document_words."""
    if data.document_words == 1:
        return np.ones(len(uniform_D), np.int64)
    more_D: Floats = np.log1p(-uniform_D) / np.log1p(-1 / data.document_words)
    length_D: NDArray[np.int64] = np.floor(more_D).astype(np.int64) + 1
    return length_D


def _document_entropies(data: SyntheticText, texts: list[Words]) -> Floats:
    """Return each document's sum of conditional entropies over its words and its end."""
    laws, copy = language(data), data.copy_probability
    length_D = np.array([len(text) for text in texts])
    start_D = np.concatenate([[0], np.cumsum(length_D + 1)[:-1]])  # one more slot per document, for its end
    word_N = np.concatenate([np.append(text, 0) for text in texts])
    position_N = np.arange(len(word_N)) - np.repeat(start_D, length_D + 1)
    before_N = np.roll(word_N, 1)
    earlier_N = np.roll(word_N, data.copy_distance)

    row_entropy_W = _entropy(laws.weights_WK)
    drawn_N = row_entropy_W[before_N]
    # The copied word's two chances add up; the rest of the row is only scaled by 1 - copy.
    met_NK = laws.followers_WK[before_N] == earlier_N[:, None]
    met_N = (1 - copy) * np.where(met_NK, laws.weights_WK[before_N], 0).sum(axis=1)
    mixed_N = (1 - copy) * (drawn_N - np.log1p(-copy)) - _plogp(copy + met_N) + _plogp(met_N)
    entropy_N = np.where(position_N >= data.copy_distance, mixed_N, drawn_N)

    end = 1 / data.document_words
    entropy_N = _plogp(np.array([end, 1 - end])).sum() * -1 + (1 - end) * entropy_N
    entropy_N[start_D] = _entropy(laws.frequency_W)  # no document is empty
    return np.add.reduceat(entropy_N, start_D)


def _entropy(chances: Floats) -> Floats:
    """Return the entropy in nats of each row."""
    return np.asarray(-_plogp(chances).sum(axis=-1))


def _plogp(chances: Floats) -> Floats:
    return np.where(chances > 0, chances * np.log(np.where(chances > 0, chances, 1)), 0)
