"""The order of sequences is a function of the seed: the same for any calls and resumption."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.data.sequences import Sequences, order, pass_keys, permuted
from bench.data.tokens import prepare
from bench.errors import BenchError

CONTEXT = 32


@pytest.fixture(scope="module")
def tokens(generated, tmp_path_factory):
    return prepare(generated(), 257, tmp_path_factory.mktemp("data"))["train"]


@pytest.fixture(scope="module")
def sequences(tokens):
    return Sequences(tokens, CONTEXT)


@given(st.integers(1, 5000), st.integers(0, 2**63), st.integers(0, 2**40))
def test_each_pass_is_a_permutation(windows, seed, number):
    places = np.arange(windows, dtype=np.uint64)
    assert sorted(permuted(places, windows, pass_keys(seed, number)).tolist()) == list(range(windows))


@given(st.integers(2, 2**50), st.integers(0, 1000), st.integers(0, 2**55))
def test_a_window_far_into_a_huge_text_is_found_at_once(windows, seed, first):
    index = order(seed, first, 3, windows)
    assert ((index >= 0) & (index < windows)).all()


def test_passes_and_seeds_have_orders_of_their_own():
    size = 1000
    orders = [order(seed, number * size, size, size) for seed in range(3) for number in range(3)]
    for one in range(len(orders)):
        for other in range(one):
            assert (orders[one] == orders[other]).sum() < 10  # one place is expected to agree by chance


def test_windows_land_everywhere_with_equal_chance():
    size, seeds = 20, 2000
    landed = np.zeros((size, size))
    for seed in range(seeds):
        landed[np.arange(size), order(seed, 0, size, size)] += 1
    expected = seeds / size
    chi_squared = (np.square(landed - expected) / expected).sum()
    free = (size - 1) ** 2
    assert abs(chi_squared - free) < 5 * np.sqrt(2 * free)


def test_neighbours_in_the_text_are_no_neighbours_in_the_order():
    index = order(0, 0, 100_000, 100_000)
    assert (np.abs(np.diff(index)) == 1).sum() < 15  # two are expected by chance
    assert abs(np.corrcoef(index[1:], index[:-1])[0, 1]) < 0.02


@given(data=st.data())
def test_any_cut_into_calls_gives_the_same_order(data):
    windows, seed, first = 37, 5, data.draw(st.integers(0, 100))
    whole = order(seed, first, 120, windows)
    cuts = sorted(data.draw(st.lists(st.integers(0, 120), max_size=5)))
    parts = [order(seed, first + a, b - a, windows) for a, b in zip([0, *cuts], [*cuts, 120], strict=True)]
    assert np.array_equal(np.concatenate(parts), whole)


def test_a_pass_holds_each_window_of_the_text_once(sequences, tokens):
    count = len(sequences)
    shuffled = sequences.shuffled(0, count, count)  # the second pass
    text = tokens.read(0, count * (CONTEXT + 1)).astype(np.int64).reshape(count, CONTEXT + 1)
    assert not np.array_equal(shuffled, text)
    assert sorted(map(tuple, shuffled.tolist())) == sorted(map(tuple, text.tolist()))


def test_in_order_is_the_text_without_its_tail(sequences, tokens):
    flat = sequences.in_order(0, len(sequences)).ravel()
    assert flat.dtype == np.int64
    assert np.array_equal(flat, tokens.read(0, len(flat)))
    assert len(tokens) - len(flat) <= CONTEXT
    assert np.array_equal(sequences.in_order(3, 2), sequences.in_order(0, 5)[3:])


def test_resuming_deep_costs_nothing(sequences):
    start = time.process_time()
    deep = sequences.shuffled(0, 10**15, 8)
    assert time.process_time() - start < 0.5
    assert np.array_equal(deep, sequences.shuffled(0, 10**15 - 8, 16)[8:])


def test_a_text_shorter_than_one_window_is_refused(tokens):
    assert len(Sequences(tokens, len(tokens) - 1)) == 1
    with pytest.raises(BenchError, match="fewer than one sequence"):
        Sequences(tokens, len(tokens))


def test_more_windows_than_the_text_has_are_refused_in_order(sequences):
    with pytest.raises(BenchError, match="were asked of a text of"):
        sequences.in_order(0, len(sequences) + 1)
