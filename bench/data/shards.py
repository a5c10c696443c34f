"""Token shards on disk: fixed-size files of ids, each with the digests of its MiBs beside it."""

import os
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bench.data.corpus import Split
from bench.data.encoding import Tokens
from bench.errors import BenchError
from bench.spec import Spec

SHARD_TOKENS = 2**26
MIB = 2**20  # bytes that one digest covers; shards but the last are whole MiBs
DIGEST_BYTES = 32

Dtype = Literal["<u2", "<u4"]


class Shard(Spec):
    name: str
    tokens: int
    sidecar: str  # digest of the file of digests


class SplitFacts(Spec):
    shards: tuple[Shard, ...]
    tokens: int
    documents: int
    largest: int  # token id


def sidecar_path(shard: Path) -> Path:
    return shard.with_suffix(".sha256")


class ShardWriter:
    """Writes one split's shards into a folder; append runs of ids, then close."""

    def __init__(self, folder: Path, split: Split, dtype: Dtype) -> None:
        self.folder, self.split, self.dtype = folder, split, np.dtype(dtype)
        self.shards: list[Shard] = []
        self.tokens = self.documents = self.largest = 0
        self._pending: list[bytes] = []  # less than a MiB, not yet written
        self._pending_bytes = 0
        self._file: Any = None
        self._digests = bytearray()

    def append(self, ids: Tokens, documents: int) -> None:
        if len(ids) == 0:
            return
        self.tokens += len(ids)
        self.documents += documents
        self.largest = max(self.largest, int(ids.max()))
        self._pending.append(ids.astype(self.dtype, copy=False).tobytes())
        self._pending_bytes += len(self._pending[-1])
        if self._pending_bytes >= MIB:
            data = memoryview(b"".join(self._pending))
            whole = len(data) // MIB * MIB
            for start in range(0, whole, MIB):
                self._write(data[start : start + MIB])
            self._pending, self._pending_bytes = [bytes(data[whole:])], len(data) - whole

    def close(self) -> SplitFacts:
        rest = b"".join(self._pending)
        if rest:
            self._write(memoryview(rest))
        self._end_shard()
        return SplitFacts(shards=tuple(self.shards), tokens=self.tokens, documents=self.documents, largest=self.largest)

    def discard(self) -> None:
        if self._file is not None:
            self._file.close()

    def _path(self) -> Path:
        return self.folder / f"{self.split}-{len(self.shards):05d}.bin"

    def _write(self, mib: memoryview) -> None:
        if self._file is None:
            self._file = self._path().open("wb")
        self._file.write(mib)
        self._digests += sha256(mib).digest()
        if self._file.tell() >= SHARD_TOKENS * self.dtype.itemsize:
            self._end_shard()

    def _end_shard(self) -> None:
        if self._file is None:
            return
        path, tokens = self._path(), self._file.tell() // self.dtype.itemsize
        _finish(self._file)
        with sidecar_path(path).open("wb") as sidecar:
            sidecar.write(self._digests)
            _finish(sidecar)
        self.shards.append(Shard(name=path.name, tokens=tokens, sidecar=sha256(self._digests).hexdigest()))
        self._file, self._digests = None, bytearray()


def _finish(file: Any) -> None:
    """Have the file on disk before anything that refers to it."""
    file.flush()
    os.fsync(file.fileno())
    file.close()


class TokenSet:
    """One split's tokens, memory-mapped; each MiB is checked against its digest when first touched."""

    def __init__(self, folder: Path, dtype: Dtype, facts: SplitFacts) -> None:
        self.folder, self.facts = folder, facts
        self._shards = [_OpenShard(folder / shard.name, np.dtype(dtype), shard) for shard in facts.shards]
        self._starts = np.cumsum([0, *(shard.tokens for shard in facts.shards)])

    def __len__(self) -> int:
        return self.facts.tokens

    @cached_property
    def digest(self) -> str:
        """The digest of the tokens, by way of their sidecars' digests."""
        return sha256(b"".join(bytes.fromhex(shard.sidecar) for shard in self.facts.shards)).hexdigest()

    def read(self, start: int, stop: int) -> Tokens:
        """Return tokens start..stop-1, checked."""
        assert 0 <= start <= stop <= len(self), (start, stop, len(self))
        index = int(np.searchsorted(self._starts, start, side="right")) - 1
        parts = []
        while start < stop:
            begin, end = int(self._starts[index]), min(stop, int(self._starts[index + 1]))
            parts.append(self._shards[index].read(start - begin, end - begin))
            start, index = end, index + 1
        return parts[0] if len(parts) == 1 else np.concatenate(parts or [np.empty(0, np.uint16)])


class _OpenShard:
    def __init__(self, path: Path, dtype: np.dtype[Any], facts: Shard) -> None:
        self.path, self.dtype, self.facts = path, dtype, facts
        wanted = facts.tokens * dtype.itemsize
        try:
            found = path.stat().st_size
        except OSError as error:
            raise self._damaged(f"cannot be read: {error.strerror}") from None
        if found != wanted:
            raise self._damaged(f"holds {found} bytes instead of {wanted}")

    def read(self, start: int, stop: int) -> Tokens:
        size = self.dtype.itemsize
        first, last = start * size // MIB, -(-stop * size // MIB)
        if not self._checked[first:last].all():
            self._check(first, last)
        return self._tokens[start:stop]

    @cached_property
    def _tokens(self) -> Tokens:
        try:
            mapped: Tokens = np.memmap(self.path, self.dtype, mode="r")
        except (OSError, ValueError) as error:
            raise self._damaged(f"cannot be read: {error}") from None
        return mapped.view(np.ndarray)

    @cached_property
    def _digests(self) -> bytes:
        sidecar = sidecar_path(self.path)
        try:
            digests = sidecar.read_bytes()
        except OSError as error:
            raise self._damaged(f"its sidecar {sidecar.name} cannot be read: {error.strerror}") from None
        if sha256(digests).hexdigest() != self.facts.sidecar:
            raise self._damaged(f"its sidecar {sidecar.name} was changed after it was written")
        return digests

    @cached_property
    def _checked(self) -> NDArray[np.bool_]:
        return np.zeros(len(self._digests) // DIGEST_BYTES, np.bool_)

    def _check(self, first: int, last: int) -> None:
        data = self._tokens.view(np.uint8).data
        for mib in range(first, last):
            if self._checked[mib]:
                continue
            digest = self._digests[mib * DIGEST_BYTES : (mib + 1) * DIGEST_BYTES]
            if sha256(data[mib * MIB : (mib + 1) * MIB]).digest() != digest:
                raise self._damaged(f"MiB {mib} was changed after it was written (its digest does not fit)")
            self._checked[mib] = True

    def _damaged(self, how: str) -> BenchError:
        return BenchError(f"{self.path}: {how}", f"delete the folder {self.path.parent} and run `bench data` again")
