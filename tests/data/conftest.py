"""Small corpora on disk, and specs that name them."""

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.data.corpus import batches
from bench.task import HubText, SyntheticText

ROOT = Path(__file__).parents[2]
C4 = "en/c4-train.00000-of-01024.json.gz"


@pytest.fixture
def corpus(tmp_path, monkeypatch) -> Callable[..., HubText]:
    """Write files of a mirror and return their spec: bytes as they are, or a list of texts."""

    def write(*files: bytes | list[str], first: int = 0, last: int | None = None) -> HubText:
        folder = tmp_path / "mirror" / "some" / "text"
        folder.mkdir(parents=True, exist_ok=True)
        monkeypatch.setenv("BENCH_MIRROR", str(tmp_path / "mirror"))
        for number, content in enumerate(files):
            lines = content if isinstance(content, bytes) else gzip.compress(json_lines(content))
            (folder / f"{number}.json.gz").write_bytes(lines)
        return hub_text("some/text", [f"{number}.json.gz" for number in range(len(files))], first, last)

    return write


def json_lines(texts: list[str]) -> bytes:
    return b"".join(json.dumps({"text": text, "url": "x"}).encode() + b"\n" for text in texts)


def hub_text(dataset, files, first=0, last=None, tokenizer="bytes") -> HubText:
    part = {"files": tuple(files), "first": first, "last": last}
    return HubText(
        kind="hub",
        dataset=dataset,
        revision="abc",
        tokenizer=tokenizer,
        tokenizer_revision=None if tokenizer == "bytes" else "def",
        train=part,
        select=part,
        score=part,
    )


@pytest.fixture(scope="session")
def texts_of() -> Callable[..., list[str]]:
    def texts(data: HubText, split: str = "train") -> list[str]:
        return [text for batch in batches(data, split) for text in batch.documents]

    return texts


@pytest.fixture(scope="session")
def c4() -> Callable[..., HubText]:
    def spec(tokenizer: str = "bytes", first: int = 0, last: int = 1000) -> HubText:
        return hub_text("allenai/c4", [C4], first, last, tokenizer)

    return spec


@pytest.fixture(scope="session")
def generated() -> Callable[..., SyntheticText]:
    def spec(**changed) -> SyntheticText:
        usual = {
            "kind": "synthetic", "language_seed": 0, "words": 256, "zipf_exponent": 1.0, "successors": 16,
            "copy_probability": 0.25, "copy_distance": 8, "document_words": 200,
            "train_documents": 300, "select_documents": 20, "score_documents": 20,
        }  # fmt: skip
        return SyntheticText(**{**usual, **changed})

    return spec


@pytest.fixture
def elsewhere() -> Callable[..., subprocess.Popen]:
    """Start Python code in a process of its own, with pipes from it."""
    started = []

    def start(code: str, **environment: str) -> subprocess.Popen:
        command = [sys.executable, "-c", code]
        process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environment}, text=True,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
