"""Token sets: a task's text, encoded once into shards, and opened by every run after that."""

import os
import shutil
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, get_args

from filelock import FileLock, Timeout
from pydantic import Field

from bench.data import corpus, synthetic
from bench.data.corpus import Split
from bench.data.encoding import Tokenizer, packed, tokenizer_of
from bench.data.shards import Dtype, ShardWriter, SplitFacts, TokenSet
from bench.digest import digest_of
from bench.errors import BenchError
from bench.record import write_atomically
from bench.spec import Spec, read_json
from bench.task import HubText, SyntheticText

__all__ = ["Report", "Split", "TokenSet", "prepare"]

FORMAT = 1  # to be raised when the files' layout changes
BATCH_DOCUMENTS = 1000  # encoded at a time
REPORT_TOKENS = 10_000_000  # between two lines of a report
KEY_LENGTH = 16

Data = HubText | SyntheticText
Report = Callable[[str], None]  # a line on how far the building is


class Manifest(Spec):
    """What a folder of shards holds; written last, so a folder that has one is whole."""

    format: int
    dtype: Dtype
    tokenizer: str  # digest
    data: Annotated[Data, Field(discriminator="kind")]
    splits: dict[Split, SplitFacts]


def prepare(data: Data, vocabulary: int, folder: Path, report: Report = lambda line: None) -> dict[str, TokenSet]:
    """Return the token set of each split, opened where folder holds it whole, else built there first.

    Any number of processes may call it at once: one builds, the others wait.
    """
    tokenizer = tokenizer_of(data)
    decisive = {"format": FORMAT, "data": data.model_dump(mode="json"), "tokenizer": tokenizer.digest}
    home = folder / digest_of(decisive)[:KEY_LENGTH]
    manifest = _manifest(home)
    if manifest is None:
        try:
            manifest = _build_once(data, tokenizer, vocabulary, home, report)
        except OSError as error:  # the corpus explains its own, so this is about folder
            raise BenchError(
                f"{folder}: tokens cannot be written: {error.strerror or error}",
                "make room there, or choose a folder that may be written",
            ) from error
    _check_vocabulary(max(facts.largest for facts in manifest.splits.values()), vocabulary)
    return {split: TokenSet(home, manifest.dtype, manifest.splits[split]) for split in get_args(Split)}


def _manifest(home: Path) -> Manifest | None:
    """Return the folder's manifest, or None where there is none that is whole."""
    try:
        manifest = read_json(home / "manifest.json", Manifest)
    except BenchError:
        return None
    return manifest if set(manifest.splits) == set(get_args(Split)) else None


def _build_once(data: Data, tokenizer: Tokenizer, vocabulary: int, home: Path, report: Report) -> Manifest:
    """Return the manifest of a set built by this process, or by one that held the lock before it."""
    home.parent.mkdir(parents=True, exist_ok=True)
    _sweep(home.parent)
    with FileLock(_lock_path(home.parent, home.name)):
        built = _manifest(home)
        if built is not None:
            return built
        draft = home.with_name(f".{home.name}.partial")  # the lock makes it ours; what lies there is a dead process's
        _remove(draft)
        draft.mkdir()
        try:
            manifest = _build(data, tokenizer, vocabulary, draft, report)
            _remove(home)  # a folder without a whole manifest
            os.rename(draft, home)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return manifest


def _build(data: Data, tokenizer: Tokenizer, vocabulary: int, draft: Path, report: Report) -> Manifest:
    dtype: Dtype = "<u2" if tokenizer.vocabulary <= 2**16 else "<u4"
    splits: dict[Split, SplitFacts] = {}
    for split in get_args(Split):
        writer = ShardWriter(draft, split, dtype)
        try:
            for ids, documents in packed(tokenizer, _batches(data, split)):
                writer.append(ids, documents)
                _check_vocabulary(writer.largest, vocabulary)
                if writer.tokens // REPORT_TOKENS > (writer.tokens - len(ids)) // REPORT_TOKENS:
                    report(f"{split}: {writer.tokens:,} tokens so far")
            splits[split] = writer.close()
            report(f"{split}: {writer.tokens:,} tokens of {writer.documents:,} documents")
        finally:
            writer.discard()
    manifest = Manifest(format=FORMAT, dtype=dtype, tokenizer=tokenizer.digest, data=data, splits=splits)
    write_atomically(draft / "manifest.json", (manifest.model_dump_json(indent=1) + "\n").encode())
    return manifest


def _batches(data: Data, split: Split) -> Iterator[list[Any]]:
    documents: Iterator[str] | Iterator[synthetic.Words]
    documents = corpus.documents(data, split) if isinstance(data, HubText) else synthetic.documents(data, split)
    while batch := list(islice(documents, BATCH_DOCUMENTS)):
        yield batch


def _check_vocabulary(largest: int, vocabulary: int) -> None:
    if largest >= vocabulary:
        raise BenchError(
            f"the text has token id {largest}, and the model's vocabulary is {vocabulary}",
            f"set model.vocabulary in the task to at least {largest + 1}",
        )


def _sweep(folder: Path) -> None:
    """Remove what builders that died left behind; a living one holds the lock of its key."""
    for draft in folder.glob(".*.partial"):
        try:
            with FileLock(_lock_path(folder, draft.name.split(".")[1]), timeout=0):
                shutil.rmtree(draft, ignore_errors=True)
        except Timeout:
            continue


def _remove(folder: Path) -> None:
    """Remove a folder, first under a name that nothing reads, so that a kill leaves no half of it in place."""
    if folder.exists():
        going = folder.with_name(f".{folder.name.strip('.')}.gone.partial")
        shutil.rmtree(going, ignore_errors=True)
        os.rename(folder, going)
        shutil.rmtree(going)


def _lock_path(folder: Path, key: str) -> Path:
    return folder / f".{key}.lock"
