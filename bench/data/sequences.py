"""Training and validation sequences: windows of a token set, in an order that is a function of the seed alone."""

from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from bench.data.shards import TokenSet
from bench.errors import BenchError

Integers = NDArray[np.int64]
Bits = NDArray[np.uint64]

ROUNDS = 8  # of the Feistel network; four already look random to those who may not choose inputs (Luby, Rackoff 1988)


class Sequences:
    """Windows of context + 1 tokens, side by side; the tail that fills none is dropped. len() is windows in a pass."""

    def __init__(self, tokens: TokenSet, context: int) -> None:
        self.tokens, self.window = tokens, context + 1
        if len(tokens) < self.window:
            raise BenchError(
                f"{tokens.folder}: {len(tokens)} tokens are fewer than one sequence of {self.window}",
                "name more documents in the task, or shorten training.context",
            )

    def __len__(self) -> int:
        return len(self.tokens) // self.window

    def shuffled(self, seed: int, first: int, count: int) -> Integers:
        """Return sequences first..first+count-1 of the global order, a pure function of the arguments.

        The order is a fresh permutation of all windows in each pass. It knows of no ranks: each reads the whole batch
        and takes its part.
        """
        assert first >= 0, first
        return self._gather(order(seed, first, count, len(self)))

    def in_order(self, first: int, count: int) -> Integers:
        """Return windows first..first+count-1 as they lie in the text."""
        if first + count > len(self):
            raise BenchError(
                f"{self.tokens.folder}: sequences {first}..{first + count} were asked of a text of {len(self)}",
                "name more documents in the task, or evaluate on fewer sequences",
            )
        return self._gather(np.arange(first, first + count))

    def _gather(self, index_B: Integers) -> Integers:
        tokens_BT = np.empty((len(index_B), self.window), np.int64)
        for row_T, start in zip(tokens_BT, (index_B * self.window).tolist(), strict=True):
            row_T[:] = self.tokens.read(start, start + self.window)
        return tokens_BT


def order(seed: int, first: int, count: int, windows: int) -> Integers:
    """Return the windows at global positions first..first+count-1; costs O(count) wherever first is."""
    parts = []
    while count > 0:
        number, offset = divmod(first, windows)
        here = min(count, windows - offset)
        place = np.arange(offset, offset + here, dtype=np.uint64)
        parts.append(permuted(place, windows, pass_keys(seed, number)).astype(np.int64))
        first, count = first + here, count - here
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


def pass_keys(seed: int, number: int) -> Bits:
    """Return the round keys of one pass, 32 bits each."""
    return np.frombuffer(sha256(f"{seed}/{number}".encode()).digest(), "<u4").astype(np.uint64)[:ROUNDS]


def permuted(place: Bits, size: int, keys: Bits) -> Bits:
    """Return the images of places 0..size-1 under a permutation of them that the keys choose.

    A Feistel network permutes the next power of four; an image outside is sent through again until it lies inside,
    which keeps it a permutation and takes four turns at most on average.
    """
    half = np.uint64(max(1, -(-(size - 1).bit_length() // 2)))
    image = _feistel(place, half, keys)
    outside = np.flatnonzero(image >= size)
    while len(outside):
        image[outside] = _feistel(image[outside], half, keys)
        outside = outside[image[outside] >= size]
    return image


def _feistel(place: Bits, half: np.uint64, keys: Bits) -> Bits:
    mask = (np.uint64(1) << half) - np.uint64(1)
    left, right = place >> half, place & mask
    for key in keys:
        left, right = right, left ^ (_mixed(right | key << np.uint64(32)) & mask)
    return left << half | right


def _mixed(bits: Bits) -> Bits:
    """Return well-mixed bits: the finaliser of SplitMix64 (Steele, Lea, Flood 2014)."""
    bits = (bits ^ bits >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ bits >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return bits ^ bits >> np.uint64(31)
