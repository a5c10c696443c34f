"""Prints what `bench data` takes for many documents: python tests/speed/indexing.py [documents] [tokenizer]

The documents are beginnings of the mirror's C4 texts, over and over, in eight files; they are made first and deleted in
the end. Needs BENCH_MIRROR. Limit 1 GB of memory, whatever the number; a million documents is what was promised.
"""

import gzip
import json
import os
import resource
import subprocess
import sys
import tempfile
from itertools import cycle, islice
from pathlib import Path
from time import perf_counter

ROOT = Path(__file__).resolve().parents[2]
FILES = 8
CHARACTERS = 500  # of a document at most, so that a million take minutes
LIMIT_BYTES = 1_000_000_000
VOCABULARY = {"bytes": 257, "gpt2": 50257, "t5-base": 32100}
DATA = """[data]
kind = "hub"
dataset = "some/text"
revision = "none"
tokenizer = "{tokenizer}"
{revision}

[data.train]
files = ["{{0..{last_file}}}.json.gz"]
first = 0
last = {documents}

[data.select]
files = ["0.json.gz"]
first = 0
last = 100

[data.score]
files = ["0.json.gz"]
first = 100
last = 200

"""


def main() -> int:
    documents = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    tokenizer = sys.argv[2] if len(sys.argv) > 2 else "gpt2"
    mirror = Path(os.environ.get("BENCH_MIRROR") or ROOT.parent / "shared" / "data")
    if not mirror.is_dir():
        print("skipped: set BENCH_MIRROR to a folder laid out by hub names")
        return 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_corpus(mirror, folder / "some" / "text", documents)
        if tokenizer != "bytes":
            (folder / tokenizer).symlink_to(mirror / tokenizer)
        task = folder / "many.toml"
        task.write_text(task_of(documents, tokenizer))
        start = perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "bench", "data", str(task), "--json"],
            cwd=ROOT, env={**os.environ, "BENCH_MIRROR": name, "BENCH_DATA": f"{name}/prepared"},
            stdout=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
        seconds = perf_counter() - start
    train = json.loads(done.stdout)["train"]
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024  # Linux counts KiB
    print(f"{train['documents']:,} documents, {train['tokens']:,} {tokenizer} tokens")
    print(f"{seconds:.1f} s, imports included: {train['tokens'] / seconds:,.0f} tokens/s")
    print(f"{peak / 2**20:,.0f} MiB at the peak  (limit {LIMIT_BYTES / 2**20:,.0f})")
    return int(peak > LIMIT_BYTES)


def make_corpus(mirror: Path, folder: Path, documents: int) -> None:
    folder.mkdir(parents=True)
    with gzip.open(mirror / "allenai/c4/en/c4-train.00000-of-01024.json.gz", "rt", encoding="utf-8") as source:
        texts = [json.loads(line)["text"][:CHARACTERS] for line in source]
    lines = cycle([json.dumps({"text": text, "url": "x"}) + "\n" for text in texts])
    for number in range(FILES):
        with gzip.open(folder / f"{number}.json.gz", "wt", compresslevel=1, encoding="utf-8") as file:
            file.writelines(islice(lines, -(-documents // FILES)))


def task_of(documents: int, tokenizer: str) -> str:
    """Return nano with other data; its model is not built here."""
    nano = (ROOT / "tasks" / "nano.toml").read_text()
    before, after = nano[: nano.index("[data]")], nano[nano.index("[training]") :]
    vocabulary = VOCABULARY[tokenizer]
    kept = [line for line in before.splitlines() if not line.startswith(("vocabulary", "padded_vocabulary"))]
    model = [*kept, f"vocabulary = {vocabulary}", f"padded_vocabulary = {vocabulary}", ""]
    revision = "" if tokenizer == "bytes" else 'tokenizer_revision = "none"'
    data = DATA.format(tokenizer=tokenizer, revision=revision, last_file=FILES - 1, documents=documents)
    return "\n".join(model) + data + after


if __name__ == "__main__":
    sys.exit(main())
