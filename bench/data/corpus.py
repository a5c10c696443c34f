"""Documents of a hub dataset, streamed from the hub or from a mirror folder with the same layout."""

import gzip
import logging
import os
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, Literal

from bench.errors import BenchError, did_you_mean
from bench.spec import Spec
from bench.task import Documents, HubText

Split = Literal["train", "select", "score"]

TABLE_DOCUMENTS = 32  # taken out of the stream at a time; more are hardly faster, and each may be a book
BATCH_DOCUMENTS = 1000  # encoded at a time, or fewer where
BATCH_CHARACTERS = 2**20  # are reached: an encoding takes 60 bytes for a character, until its ids are copied out
GAP = b"\xff"  # a byte that UTF-8 never uses


class Source(Spec):
    """What was read of one file: its first documents, among them those before the split's range."""

    path: str
    documents: int
    digest: str  # sha256 of their texts, each closed by GAP


@dataclass(frozen=True)
class Batch:
    documents: list[Any]
    sources: tuple[Source, ...] = ()  # all that was read up to the last of the documents


class Changed(Exception):
    """What a killed build left does not fit what is there now: it has to start anew."""


def batches(data: HubText, split: Split, read: tuple[Source, ...] = ()) -> Iterator[Batch]:
    """Yield the split's documents first..last-1, counted over its files in order, but for those that were read before.

    Of the files read before, only the last is opened again, to pass over what was read; the others were read whole.
    """
    wanted: Documents = getattr(data, split)
    sources = read[:-1]
    seen = sum(source.documents for source in sources)
    for path, before in zip_longest(wanted.paths[len(sources) :], read[-1:]):
        source, start, documents = before or Source(path=path, documents=0, digest=sha256().hexdigest()), seen, []
        for texts, source in _read(data, path, before, None if wanted.last is None else wanted.last - start):
            seen = start + source.documents
            documents += texts[max(0, wanted.first - (seen - len(texts))) :]
            if len(documents) >= BATCH_DOCUMENTS or sum(map(len, documents)) >= BATCH_CHARACTERS:
                yield Batch(documents, (*sources, source))
                documents = []
        if documents:
            yield Batch(documents, (*sources, source))
        sources, seen = (*sources, source), start + source.documents
        if seen == wanted.last:
            return
    if wanted.last is not None or seen <= wanted.first:
        raise BenchError(
            f"{data.dataset}: data.{split} asks for documents {wanted.first}..{wanted.last or 'the end'}, "
            f"but its files hold {seen}",
            "name more files in the task" + (", or unset BENCH_MIRROR to read the hub" if mirror() else ""),
        )


def _read(data: HubText, path: str, before: Source | None, most: int | None) -> Iterator[tuple[list[str], Source]]:
    """Yield runs of at most so many of a file's texts, each with all that was read then; what was before is checked."""
    documents, digest = 0, sha256()
    known = before.documents if before else 0
    for texts in _cut(chain.from_iterable(map(_short, _tables(data, path))), known):
        texts = texts[: None if most is None else most - documents]
        documents += len(texts)
        digest.update(b"".join(part for text in texts for part in (text.encode(), GAP)))
        source = Source(path=path, documents=documents, digest=digest.hexdigest())
        if documents > known:
            yield texts, source
        elif documents == known and source != before:
            raise Changed(f"{path} no longer begins with what was read of it")
        if documents == most:
            return
    if documents < known:
        raise Changed(f"{path} no longer begins with what was read of it")


def _short(table: list[str]) -> Iterator[list[str]]:
    """Yield a table's texts in runs that end where BATCH_CHARACTERS are reached."""
    start = characters = 0
    for stop, text in enumerate(table, start=1):
        characters += len(text)
        if characters >= BATCH_CHARACTERS or stop == len(table):
            yield table[start:stop]
            start, characters = stop, 0


def _cut(runs: Iterable[list[str]], place: int) -> Iterator[list[str]]:
    """Yield the runs, the one that place documents end in cut there."""
    for texts in runs:
        if 0 < place < len(texts):
            yield texts[:place]
            yield texts[place:]
        else:
            yield texts
        place -= len(texts)


def mirror() -> Path | None:
    """Return the folder that stands in for the hub, where BENCH_MIRROR names one."""
    name = os.environ.get("BENCH_MIRROR")
    if not name:
        return None
    if not Path(name).is_dir():
        raise BenchError(f"BENCH_MIRROR: {name} is not a folder", "unset it to read the Hugging Face hub")
    return Path(name).resolve()


def _tables(data: HubText, path: str) -> Iterator[list[str]]:
    """Yield one file's texts in runs of at most TABLE_DOCUMENTS."""
    # One stream per file: an error can name its file, and no file is held to the columns of the first.
    address = _address(data, path)
    stream = _stream(address)
    done = 0
    while True:
        try:
            table = next(stream, None)
            texts = _texts(table)
        except Exception as error:  # of datasets, fsspec, arrow and the network; they share no base class
            raise _explained(error, address) from error
        if table is None:
            return
        for number, text in enumerate(texts, start=done + 1):
            if not isinstance(text, str):
                raise BenchError(
                    f"{address}: document {number} has no text",
                    'each line must be a JSON object with a string under "text"',
                )
        done += len(texts)
        yield texts


def _address(data: HubText, path: str) -> str:
    folder = mirror()
    if folder is None:
        return f"hf://datasets/{data.dataset}@{data.revision}/{path}"
    file = folder / data.dataset / path
    if not file.is_file():
        near = did_you_mean(file.name, (p.name for p in file.parent.glob("*")))
        raise BenchError(
            f"{file}: the mirror has no such file{near}", "copy it there, or unset BENCH_MIRROR to read the hub"
        )
    return str(file)


def _stream(address: str) -> Iterator[Any]:
    import datasets  # here, since it takes a second

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(logging.CRITICAL)  # it logs what we raise
    lines = datasets.load_dataset("json", data_files=[address], split="train", streaming=True)
    yield from lines.with_format("arrow").iter(batch_size=TABLE_DOCUMENTS)


def _texts(table: Any) -> list[Any]:
    """Return the text column; None for each text that is missing."""
    if table is None:
        return []
    texts: list[Any] = table.column("text").to_pylist() if "text" in table.column_names else [None] * len(table)
    return texts


def _explained(error: Exception, address: str) -> BenchError:
    """Return the error as one line, with the fix."""
    again = "fetch the file again"
    said = str(error).strip().split("\n")[0] or type(error).__name__
    if isinstance(error, EOFError):
        return BenchError(f"{address}: the file is cut short", again)
    if isinstance(error.__cause__, StopIteration):  # datasets 5 asks for the first row without a default
        return BenchError(f"{address}: the file is empty", again)
    if isinstance(error, gzip.BadGzipFile | zlib.error):
        return BenchError(f"{address}: the file is damaged: {said}", again)
    if isinstance(error, ValueError):  # arrow's parse errors and undecodable text
        return BenchError(f"{address}: a line is not JSON: {said}", "each line must be one JSON object, in UTF-8")
    if isinstance(error, FileNotFoundError):
        return BenchError(f"{address}: no such file: {said}", "check data.dataset, data.revision and files in the task")
    if address.startswith("hf://"):
        return BenchError(
            f"{address}: the Hugging Face hub cannot be reached: {said}",
            "check the network, or set BENCH_MIRROR to a folder laid out by hub names",
        )
    return BenchError(f"{address}: cannot be read: {said}", again)
