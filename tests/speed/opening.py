"""Prints how long a 10 GB token set takes to open, and to give its first window. Floor 0.1 s to open."""

import os
import sys
import tempfile
from hashlib import sha256
from pathlib import Path
from time import perf_counter

from bench.data import tokens
from bench.data.encoding import tokenizer_of
from bench.data.shards import MIB, SHARD_TOKENS, Shard, SplitFacts, sidecar_path
from bench.data.tokens import Manifest, prepare
from bench.task import SyntheticText

BYTES = 10_000_000_000
LIMIT_SECONDS = 0.1


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        data = SyntheticText(
            kind="synthetic", language_seed=0, words=256, zipf_exponent=1.0, successors=16, copy_probability=0.25,
            copy_distance=8, document_words=200, train_documents=10, select_documents=10, score_documents=10,
        )  # fmt: skip
        home = prepare(data, 257, Path(folder))["train"].folder
        inflate(data, home)

        start = perf_counter()
        train = prepare(data, 257, Path(folder))["train"]
        opened = perf_counter()
        train.read(len(train) // 2, len(train) // 2 + 1025)
        read = perf_counter()
        print(f"{len(train) * 2:,} bytes in {len(train.facts.shards)} shards")
        print(f"opened in     {opened - start:.4f} s  (limit {LIMIT_SECONDS})")
        print(f"first window  {read - opened:.4f} s")
        return int(opened - start > LIMIT_SECONDS)


def inflate(data: SyntheticText, home: Path) -> None:
    """Put sparse shards of BYTES zeros in the place of the train split, with true digests."""
    zeros = sha256(bytes(MIB)).digest()
    size = SHARD_TOKENS * 2
    shards = []
    for number in range(-(-BYTES // size)):
        path = home / f"train-{number:05d}.bin"
        path.touch()
        os.truncate(path, size)
        digests = zeros * (size // MIB)
        sidecar_path(path).write_bytes(digests)
        shards.append(Shard(name=path.name, tokens=SHARD_TOKENS, sidecar=sha256(digests).hexdigest()))
    manifest = tokens._manifest(home)
    assert manifest is not None
    train = SplitFacts(shards=tuple(shards), tokens=len(shards) * SHARD_TOKENS, documents=1, largest=0)
    whole = Manifest(
        dtype="<u2",
        format=manifest.format,
        tokenizer=tokenizer_of(data).digest,
        data=data,
        splits={**manifest.splits, "train": train},
    )
    (home / "manifest.json").write_text(whole.model_dump_json())


if __name__ == "__main__":
    sys.exit(main())
