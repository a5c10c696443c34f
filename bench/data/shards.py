"""Token shards on disk: fixed-size files of ids, each with the digests of its MiBs beside it."""

import os
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bench.data.corpus import Batch, Changed, Source, Split
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
    sources: tuple[Source, ...] = ()  # none of a generated text


class Mark(Spec):
    """How far a split is on disk. Of its tokens, those beyond the closed shards lie in one that is still open."""

    facts: SplitFacts
    tail: str  # digest of the open shard's digests


NOTHING = Mark(facts=SplitFacts(shards=(), tokens=0, documents=0, largest=0), tail=sha256().hexdigest())


def sidecar_path(shard: Path) -> Path:
    return shard.with_suffix(".sha256")


class ShardWriter:
    """Writes one split's shards into a folder; append runs of ids, then close. What a mark holds, a kill leaves."""

    def __init__(self, folder: Path, split: Split, dtype: Dtype, mark: Mark = NOTHING) -> None:
        """Begin where the mark was set; raise Changed where the folder does not hold what the mark says."""
        self.folder, self.split, self.dtype = folder, split, np.dtype(dtype)
        self.facts = mark.facts  # of all that was appended, closed shards aside
        self.shards = list(mark.facts.shards)
        self._pending: list[bytes] = []  # less than a MiB, which a digest does not cover yet
        self._pending_bytes = 0
        self._file: Any = None
        self._digests = bytearray()
        self._reopen(mark)

    def append(self, ids: Tokens, batch: Batch) -> None:
        self.facts = SplitFacts(
            shards=(),
            tokens=self.facts.tokens + len(ids),
            documents=self.facts.documents + len(batch.documents),
            largest=max(self.facts.largest, int(ids.max(initial=0))),
            sources=batch.sources,
        )
        self._pending.append(ids.astype(self.dtype, copy=False).tobytes())
        self._pending_bytes += len(self._pending[-1])
        if self._pending_bytes >= MIB:
            data = memoryview(b"".join(self._pending))
            whole = len(data) // MIB * MIB
            for start in range(0, whole, MIB):
                self._write(data[start : start + MIB])
            self._pending, self._pending_bytes = [bytes(data[whole:])], len(data) - whole

    def mark(self) -> Mark:
        """Return how far the split is, with all of it on disk."""
        rest = b"".join(self._pending)
        if self._file is not None or rest:
            place = self._open().tell()
            self._file.write(rest)
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.seek(place)  # the MiB will be written whole
        return Mark(facts=self._facts(), tail=self._tail(rest))

    def close(self) -> SplitFacts:
        rest = b"".join(self._pending)
        if rest:
            self._write(memoryview(rest))
        self._end_shard()
        return self._facts()

    def discard(self) -> None:
        if self._file is not None:
            self._file.close()

    def _facts(self) -> SplitFacts:
        return self.facts.model_copy(update={"shards": tuple(self.shards)})

    def _tail(self, rest: bytes) -> str:
        return sha256(self._digests + (sha256(rest).digest() if rest else b"")).hexdigest()

    def _reopen(self, mark: Mark) -> None:
        check_sidecars(self.folder, self.dtype, mark.facts)
        size = (mark.facts.tokens - sum(shard.tokens for shard in self.shards)) * self.dtype.itemsize
        if size == 0:
            return
        path = self._path()
        if not path.is_file() or path.stat().st_size < size:
            raise Changed(f"{path} is cut short")
        self._file = path.open("r+b")
        self._file.truncate(size)  # the rest was written after the mark
        for _ in range(size // MIB):
            self._digests += sha256(self._file.read(MIB)).digest()
        self._pending = [self._file.read()]
        self._pending_bytes = len(self._pending[0])
        self._file.seek(size - self._pending_bytes)
        if self._tail(self._pending[0]) != mark.tail:
            self.discard()
            raise Changed(f"{path} was changed after it was written")

    def _path(self) -> Path:
        return self.folder / f"{self.split}-{len(self.shards):05d}.bin"

    def _open(self) -> Any:
        if self._file is None:
            self._file = self._path().open("wb")
        return self._file

    def _write(self, mib: memoryview) -> None:
        file = self._open()
        file.write(mib)
        self._digests += sha256(mib).digest()
        if file.tell() >= SHARD_TOKENS * self.dtype.itemsize:
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


def check_sidecars(folder: Path, dtype: np.dtype[Any], facts: SplitFacts) -> None:
    """Raise Changed where a closed shard is not whole; its tokens are checked when they are read."""
    try:
        for shard in facts.shards:
            _OpenShard(folder / shard.name, dtype, shard).read_digests()
    except BenchError as error:
        raise Changed(error.what) from None


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
        return self.read_digests()

    def read_digests(self) -> bytes:
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
