"""Token sets: a task's text, encoded once into shards, and opened by every run after that."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, get_args

import numpy as np
from pydantic import Field

from bench.data import corpus, synthetic
from bench.data.corpus import BATCH_DOCUMENTS, Batch, Changed, Split
from bench.data.drafts import JOURNAL, MANIFEST, draft_of, locked, remove, sweep
from bench.data.encoding import Tokenizer, packed, tokenizer_of
from bench.data.shards import NOTHING, Dtype, Mark, ShardWriter, SplitFacts, TokenSet, check_sidecars
from bench.digest import digest_of
from bench.errors import BenchError
from bench.record import write_atomically
from bench.spec import Spec, read_json
from bench.task import Documents, HubText, SyntheticText

__all__ = ["Report", "Split", "TokenSet", "prepare"]

FORMAT = 2  # to be raised when the files' layout changes
JOURNAL_SECONDS = 10.0  # of work at most are lost to a kill
REPORT_SECONDS = 1.0  # between two lines on the progress
KEY_LENGTH = 16

Data = HubText | SyntheticText
Report = Callable[[str], None]


class Manifest(Spec):
    """What a folder of shards holds; written last, so a folder that has one is whole."""

    format: int
    dtype: Dtype
    tokenizer: str  # digest
    data: Annotated[Data, Field(discriminator="kind")]
    splits: dict[Split, SplitFacts]


class Journal(Spec):
    """How far a draft is; what it does not name may be torn."""

    key: str  # digest of all that decides the tokens
    closed: dict[Split, SplitFacts]
    mark: Mark  # of the first split that is not closed


@dataclass(frozen=True)
class Work:
    """A set to be built, and who hears of it."""

    data: Data
    tokenizer: Tokenizer
    vocabulary: int  # of the model
    folder: Path
    progress: Report  # a line that the next one replaces
    note: Report  # a line to stay

    @property
    def key(self) -> str:
        data = self.data.model_dump(mode="json")
        return digest_of({"format": FORMAT, "data": data, "tokenizer": self.tokenizer.digest})

    @property
    def home(self) -> Path:
        return self.folder / self.key[:KEY_LENGTH]

    @property
    def draft(self) -> Path:
        return draft_of(self.home)

    @property
    def journal(self) -> Path:
        return self.draft / JOURNAL

    @property
    def dtype(self) -> Dtype:
        return "<u2" if self.tokenizer.vocabulary <= 2**16 else "<u4"


def prepare(
    data: Data,
    vocabulary: int,
    folder: Path,
    progress: Report = lambda line: None,
    note: Report = lambda line: None,
) -> dict[str, TokenSet]:
    """Return the token set of each split, opened where folder holds it whole, else built there first.

    Any number of processes may call it at once: one builds, the others wait. What a killed one left is gone on with.
    """
    work = Work(data, tokenizer_of(data), vocabulary, folder, progress, note)
    manifest = _manifest(work.home)
    if manifest is None:
        try:
            manifest = _build_once(work)
        except OSError as error:  # the corpus explains its own, so this is about folder
            raise BenchError(
                f"{folder}: tokens cannot be written: {error.strerror or error}",
                "make room there, or choose a folder that may be written",
            ) from error
    _check_manifest(manifest, work)
    _check_vocabulary(max(facts.largest for facts in manifest.splits.values()), vocabulary)
    return {split: TokenSet(work.home, manifest.dtype, manifest.splits[split]) for split in get_args(Split)}


def _manifest(home: Path) -> Manifest | None:
    """Return the folder's manifest, or None where there is none that is whole."""
    try:
        manifest = read_json(home / MANIFEST, Manifest)
    except BenchError:
        return None
    return manifest if set(manifest.splits) == set(get_args(Split)) else None


def _check_manifest(manifest: Manifest, work: Work) -> None:
    """Refuse a folder that holds other tokens than its name promises."""
    if manifest.tokenizer != work.tokenizer.digest:
        theirs, ours = manifest.tokenizer[:16], work.tokenizer.digest[:16]
        what = f"its tokens are of a tokenizer {theirs}, and {work.data.tokenizer} is {ours}"
    elif (manifest.format, manifest.dtype, manifest.data) != (FORMAT, work.dtype, work.data):
        what = "it is of another text or format than its folder's name says"
    else:
        return
    raise BenchError(f"{work.home / MANIFEST}: {what}", f"delete the folder {work.home} and run `bench data` again")


def _build_once(work: Work) -> Manifest:
    """Return the manifest of a set built by this process, or by one that held the lock before it."""
    work.folder.mkdir(parents=True, exist_ok=True)
    sweep(work.folder)
    with locked(work.home, lambda: work.note("another process prepares this text: waiting for it")):
        built = _manifest(work.home)
        if built is not None:
            return built
        try:
            manifest = _manifest(work.draft) or _resume(work)  # it is whole if the kill came just before the move
            remove(work.home)  # a folder without a whole manifest
            work.journal.unlink(missing_ok=True)
            os.rename(work.draft, work.home)
        finally:
            if not work.journal.exists():
                shutil.rmtree(work.draft, ignore_errors=True)
        return manifest


def _resume(work: Work) -> Manifest:
    """Build the draft from where a killed process left it, else from nothing."""
    try:
        return _build(work, _journal(work))  # the lock makes the draft ours; what lies there is a dead process's
    except Changed as change:
        work.note(f"{change}: starting anew")
        remove(work.draft)
        return _build(work, _journal(work))


def _journal(work: Work) -> Journal:
    """Return the draft's journal, its closed splits checked; an empty one of an empty draft where it has none."""
    if work.journal.exists():
        try:
            journal = read_json(work.journal, Journal)
        except BenchError as error:
            raise Changed(error.what) from None
        if journal.key != work.key:
            raise Changed(f"{work.journal} is of another text")
        for facts in journal.closed.values():
            check_sidecars(work.draft, np.dtype(work.dtype), facts)
        for torn in work.draft.glob(".*.partial"):
            torn.unlink()
        return journal
    remove(work.draft)
    work.draft.mkdir()
    return Journal(key=work.key, closed={}, mark=NOTHING)


def _build(work: Work, journal: Journal) -> Manifest:
    """Encode what the journal does not hold yet, and write the manifest."""
    for split in get_args(Split):
        if split not in journal.closed:
            facts = _encode(work, split, journal)
            journal = Journal(key=work.key, closed={**journal.closed, split: facts}, mark=NOTHING)
            _save(work.journal, journal)
    manifest = Manifest(
        format=FORMAT, dtype=work.dtype, tokenizer=work.tokenizer.digest, data=work.data, splits=journal.closed
    )
    _save(work.draft / MANIFEST, manifest)
    return manifest


def _encode(work: Work, split: Split, journal: Journal) -> SplitFacts:
    done = journal.mark.facts
    writer = ShardWriter(work.draft, split, work.dtype, journal.mark)
    if done.documents:
        work.note(f"{split}: going on after {done.tokens:,} tokens of {done.documents:,} documents")
    began = saved = told = time.monotonic()
    try:
        for ids, batch in packed(work.tokenizer, _batches(work.data, split, done)):
            writer.append(ids, batch)
            _check_vocabulary(writer.facts.largest, work.vocabulary)
            if time.monotonic() - saved >= JOURNAL_SECONDS:
                _save(work.journal, Journal(key=work.key, closed=journal.closed, mark=writer.mark()))
                saved = time.monotonic()
            if time.monotonic() - told >= REPORT_SECONDS:
                told = time.monotonic()
                rate = (writer.facts.tokens - done.tokens) / (told - began)
                work.progress(f"{_so_far(work.data, split, writer.facts)}, {rate:,.0f} tokens/s")
        facts = writer.close()
    finally:
        writer.discard()
    work.progress(_so_far(work.data, split, facts))
    return facts


def _so_far(data: Data, split: Split, facts: SplitFacts) -> str:
    wanted = _wanted(data, split)
    of = "" if wanted is None else f" of {wanted:,}"
    return f"{split}: {facts.tokens:,} tokens, {facts.documents:,}{of} documents"


def _wanted(data: Data, split: Split) -> int | None:
    """Return how many documents a split is to have, or None where that is all of its files."""
    if isinstance(data, SyntheticText):
        count: int = getattr(data, f"{split}_documents")
        return count
    documents: Documents = getattr(data, split)
    return None if documents.last is None else documents.last - documents.first


def _batches(data: Data, split: Split, done: SplitFacts) -> Iterator[Batch]:
    """Yield the split's documents after those that are done."""
    if isinstance(data, HubText):
        yield from corpus.batches(data, split, done.sources)
        return
    documents = synthetic.documents(data, split, done.documents)
    while batch := list(islice(documents, BATCH_DOCUMENTS)):
        yield Batch(batch)


def _save(path: Path, facts: Spec) -> None:
    write_atomically(path, (facts.model_dump_json(indent=1) + "\n").encode())


def _check_vocabulary(largest: int, vocabulary: int) -> None:
    if largest >= vocabulary:
        raise BenchError(
            f"the text has token id {largest}, and the model's vocabulary is {vocabulary}",
            f"set model.vocabulary in the task to at least {largest + 1}",
        )
