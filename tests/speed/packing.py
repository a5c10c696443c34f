"""Prints packing's share of the tokenizer's own rate, on C4 text with GPT-2's tokenizer. Needs BENCH_MIRROR; floor 0.9.

Packing is everything that prepare does with texts in memory: encoding, end tokens, shards on disk and their digests.
"""

import os
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

from tokenizers import Tokenizer

from bench.data.corpus import BATCH_DOCUMENTS, Batch, batches
from bench.data.encoding import packed, tokenizer_of
from bench.data.shards import ShardWriter
from bench.task import HubText

ROUNDS = 9
COPIES = 4  # of the 1,000 documents that a mirror holds
FLOOR = 0.9


def main() -> int:
    mirror = os.environ.setdefault("BENCH_MIRROR", str(Path(__file__).resolve().parents[3] / "shared" / "data"))
    if not Path(mirror).is_dir():
        print("skipped: set BENCH_MIRROR to a folder laid out by hub names")
        return 0
    part = {"files": ("en/c4-train.00000-of-01024.json.gz",), "first": 0, "last": 1000}
    data = HubText(
        kind="hub",
        dataset="allenai/c4",
        revision="main",
        tokenizer="gpt2",
        tokenizer_revision="main",
        train=part,
        select=part,
        score=part,
    )
    texts = [text for batch in batches(data, "train") for text in batch.documents] * COPIES
    parts = [texts[i : i + BATCH_DOCUMENTS] for i in range(0, len(texts), BATCH_DOCUMENTS)]
    plain, tokenizer = Tokenizer.from_file(f"{mirror}/gpt2/tokenizer.json"), tokenizer_of(data)

    def encode() -> int:
        return sum(len(e) for part in parts for e in plain.encode_batch(part, add_special_tokens=False))

    def pack() -> int:
        with tempfile.TemporaryDirectory() as folder:
            writer = ShardWriter(Path(folder), "train", "<u2")
            for ids, batch in packed(tokenizer, map(Batch, parts)):
                writer.append(ids, batch)
            return writer.close().tokens

    rates: dict[str, list[float]] = {"encode_batch": [], "packing": []}
    for _ in range(ROUNDS):  # in turn, so that a slow moment of the machine meets both
        for name, work in (("encode_batch", encode), ("packing", pack)):
            start = perf_counter()
            rates[name].append(work() / (perf_counter() - start))
    ratio = median(b / a for a, b in zip(rates["encode_batch"], rates["packing"], strict=True))
    for name, values in rates.items():
        print(f"{name:13}{median(values):>12,.0f} tokens/s")
    print(f"ratio        {ratio:>12.2f}  (floor {FLOOR})")
    return int(ratio < FLOOR)


if __name__ == "__main__":
    sys.exit(main())
