"""The files of a bundle, read from a folder or an archive that nobody trusts. Nothing is written here."""

import gzip
import os
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path, PurePosixPath
from typing import IO

from bench.errors import BenchError

ENTRY, ALGORITHM, PLAN, RUN = r"[a-z0-9]+(?:-[a-z0-9]+)*", r"[a-z0-9_]+", r"[0-9a-f]{16}", r"[0-9a-f]{64}"
KINDS: dict[str, tuple[str, int]] = {  # what a submission may hold: its name, and the most bytes it may have
    "source": (rf"baselines/({ALGORITHM})/optimizer\.py", 40_000),
    "entry": (rf"baselines/({ALGORITHM})/({ENTRY})\.toml", 20_000),
    "tuned": (rf"baselines/({ALGORITHM})/tuned/({ENTRY})/({ENTRY}(?:@\d+)?)\.toml", 40_000),
    "test": (rf"tests/baselines/test_({ALGORITHM})\.py", 40_000),
    "plan": (rf"leaderboard/plans/({ENTRY})/({ENTRY}(?:@\d+)?)-({PLAN})\.json", 20_000),
    "ledger": (rf"leaderboard/ledgers/({ENTRY})/({ENTRY}(?:@\d+)?)-({PLAN})\.jsonl", 1_000_000),
    "record": (rf"leaderboard/records/({ENTRY})/({PLAN})/({RUN})\.json", 4_096),
    "log": (rf"leaderboard/records/({ENTRY})/({PLAN})/({RUN})\.log\.gz", 200_000),
    "downstream": (rf"leaderboard/records/({ENTRY})/({PLAN})/({RUN})\.downstream\.json", 64_000),
    "quantized": (rf"leaderboard/records/({ENTRY})/({PLAN})/({RUN})\.quantized\.json", 64_000),
    "diagnosis": (rf"leaderboard/records/({ENTRY})/({PLAN})/({RUN})\.diagnosis\.json\.gz", 100_000),
}
FILES, TOTAL_BYTES = 5_000, 50_000_000
NAME_CHARACTERS = 120  # of a file or folder: file systems hold 255 bytes
MEMBERS = 2 * FILES  # of an archive, folders among them
LOG_BYTES = 4_000_000  # of a log or a diagnosis, unpacked
LONG_HEADER_BYTES = 4_096  # of a tar's header for a long name, which tarfile reads into memory as a whole
BLOCK = 512  # bytes of a tar
STRANGE = "is no file of a submission"


@dataclass(frozen=True, order=True)
class Finding:
    """Why a bundle does not stand."""

    file: str
    key: str  # empty where the whole file is meant
    reason: str

    def __str__(self) -> str:
        """Return one line; what cannot be printed, or would move the cursor, stands as its escape."""
        text = ": ".join(part for part in (self.file, self.key, self.reason) if part)
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


Files = dict[str, bytes]


def read_bundle(path: Path) -> tuple[Files, list[Finding]]:
    """Return what can be read safely, by name, and what is wrong with the rest; an unreadable bundle is refused."""
    if (path / ".git").exists():
        raise BenchError(f"{path}: is a clone, no bundle: bench bundle makes one of it")
    if path.is_dir():
        members = _of_folder(path)
    elif not path.is_file():
        raise BenchError(f"{path}: no such bundle", "a folder or an archive, as bench bundle writes it")
    else:
        members = _of_archive(path)
    files: Files = {}
    found: list[Finding] = []
    total = 0
    try:
        for name, size, wrong, opened in members:
            reason = wrong or _refusal(name, size, files)
            total += size
            if len(files) + len(found) >= FILES or total > TOTAL_BYTES:
                found.append(Finding(name, "", f"one too many: at most {FILES:,} files and {TOTAL_BYTES:,} bytes"))
                break
            if reason:
                found.append(Finding(name, "", reason))
                continue
            data = opened.read(size + 1)
            if len(data) != size:
                found.append(Finding(name, "", "is not of the size that the archive says"))
                continue
            files[name] = data
    except (OSError, EOFError, RuntimeError, ValueError, zlib.error, tarfile.TarError, zipfile.BadZipFile) as error:
        # RuntimeError: also a recursion too deep, as long headers of long headers are
        raise BenchError(f"{path}: the bundle is damaged: {error}") from None
    if not files and len(found) > 1 and {finding.reason for finding in found} == {STRANGE}:
        raise BenchError(f"{path}: is no bundle: none of its {len(found):,} files is one of a submission")
    return files, found + [f for name, data in files.items() for f in _content(name, data)]


def kind_of(name: str) -> str | None:
    return next((kind for kind, (form, _) in KINDS.items() if re.fullmatch(form, name)), None)


def parts_of_name(name: str) -> tuple[str, ...]:
    """Return what the name of a file says: its algorithm, task, entry, plan and run, as far as its kind has them."""
    found = re.fullmatch(KINDS[kind_of(name) or "source"][0], name)
    return found.groups() if found else ()


def _refusal(name: str, size: int, there: Files) -> str | None:
    if name in there:
        return "stands twice in the archive"
    parts = PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts or "\\" in name or ":" in name or "\0" in name:
        return "its path climbs out of the bundle"
    kind = kind_of(name)
    if kind is None:
        return STRANGE
    if any(len(part) > NAME_CHARACTERS for part in parts):
        return f"has a name of more than {NAME_CHARACTERS} characters"
    limit = KINDS[kind][1]
    return f"has {size:,} bytes, expected at most {limit:,}" if size > limit else None


def _content(name: str, data: bytes) -> Iterator[Finding]:
    if name.endswith(".gz"):
        unpacker = zlib.decompressobj(wbits=31)  # gzip
        try:
            data = unpacker.decompress(data, LOG_BYTES + 1)
        except zlib.error as error:
            yield Finding(name, "", f"is damaged: {error}")
            return
        if len(data) > LOG_BYTES:
            yield Finding(name, "", f"unpacks to more than {LOG_BYTES:,} bytes")
            return
        if not unpacker.eof or unpacker.unused_data:
            yield Finding(name, "", "is cut short" if not unpacker.eof else "goes on behind its end")
            return
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        yield Finding(name, "", f"is not UTF-8 text: {error.reason} at byte {error.start:,}")


Member = tuple[str, int, str | None, "_Opened"]  # name, size, what is wrong with it, its bytes


@dataclass(frozen=True)
class _Opened:
    """A member whose bytes are read only where its name and size are in order."""

    open: "object"

    def read(self, most: int) -> bytes:
        assert callable(self.open)
        stream: IO[bytes] = self.open()
        with stream:
            return stream.read(most)


def _of_folder(root: Path) -> Iterator[Member]:
    for folder, folders, names in os.walk(root):
        folders.sort()
        for name in sorted([*names, *(f for f in folders if (Path(folder) / f).is_symlink())]):
            path = Path(folder) / name
            mode, size = path.lstat().st_mode, path.lstat().st_size
            wrong = "is a link" if stat.S_ISLNK(mode) else None if stat.S_ISREG(mode) else "is no plain file"
            yield path.relative_to(root).as_posix(), size, wrong, _Opened(lambda path=path: path.open("rb"))


class _Short(tarfile.TarInfo):
    """A member whose name cannot be a bomb: tarfile reads long names before it hands the member out."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str | None, errors: str) -> "_Short":
        found = super().frombuf(buf, encoding or "utf-8", errors)
        if found.type not in (*tarfile.REGULAR_TYPES, tarfile.DIRTYPE) and found.size > LONG_HEADER_BYTES:
            raise ValueError(f"a header of {found.size:,} bytes, expected at most {LONG_HEADER_BYTES:,}")
        return found


class _Bounded:
    """A stream that ends in an error where an archive goes on past all that a bundle may hold, headers counted."""

    def __init__(self, stream: gzip.GzipFile | BufferedReader) -> None:
        self._stream, self._left = stream, TOTAL_BYTES + 6 * BLOCK * FILES  # a header, a long name's two, padding

    def read(self, most: int) -> bytes:
        data = self._stream.read(min(most, self._left + 1))
        self._left -= len(data)
        if self._left < 0:
            raise ValueError(f"it unpacks to more than {TOTAL_BYTES:,} bytes")
        return data


def _of_archive(path: Path) -> Iterator[Member]:
    if zipfile.is_zipfile(path):
        yield from _of_zip(path)
        return
    with path.open("rb") as raw, gzip.open(raw, "rb") as unpacked:  # nothing is unpacked but gzip (RFC 1952)
        packed = raw.peek(2)[:2] == b"\x1f\x8b"
        bounded = _Bounded(unpacked if packed else raw)
        yield from _of_tar(bounded)


def _of_tar(stream: "_Bounded") -> Iterator[Member]:
    with tarfile.open(fileobj=stream, mode="r|", tarinfo=_Short) as tar:  # type: ignore[call-overload]
        for number, member in enumerate(tar):
            if number == MEMBERS:
                raise ValueError(f"more than {MEMBERS:,} members")
            tar.members = []  # it keeps all that it has read otherwise
            if member.isdir():
                continue
            link = "is a link" if member.issym() or member.islnk() else None
            wrong = link or (None if member.isreg() else "is no plain file")
            yield member.name, member.size, wrong, _Opened(lambda member=member: tar.extractfile(member))


def _of_zip(path: Path) -> Iterator[Member]:
    size = path.stat().st_size
    if size > TOTAL_BYTES or path.read_bytes().count(b"PK\x01\x02") > MEMBERS:  # its list is read as a whole
        raise ValueError(f"more than {MEMBERS:,} members, or than {TOTAL_BYTES:,} bytes")
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.is_dir():
                continue
            mode = member.external_attr >> 16
            wrong = "is a link" if stat.S_ISLNK(mode) else "is encrypted" if member.flag_bits & 1 else None
            yield member.filename, member.file_size, wrong, _Opened(lambda member=member: archive.open(member))
