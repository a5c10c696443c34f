"""What the tests of downstream evaluation share: a mirror of their own, with a few documents of some tasks."""

import gzip
import json
from pathlib import Path

import pytest

TEXT = "some/text/0.json.gz"
EVAL = {
    "lambada/lambada_test.jsonl": [{"text": f"the {word} saw the {word}"} for word in ("cat", "dog", "hen", "owl")],
    "piqa.validation.jsonl": [
        {"goal": f"boil {n} eggs", "sol1": "put them in water", "sol2": "é" * 300, "label": n % 2} for n in range(4)
    ],
    "arc_easy.validation.jsonl": [
        {"id": str(n), "question": "What is wet?", "answerKey": "ABCD"[n],
         "choices": {"text": ["water", "sand", "iron", "fire"], "label": ["A", "B", "C", "D"]}} for n in range(4)
    ],
    "winogrande_xl.validation.jsonl": [
        {"sentence": f"The cup {n} did not fit the box since _ was big.", "option1": "cup", "option2": "box",
         "answer": "1"} for n in range(4)
    ],
}  # fmt: skip


@pytest.fixture
def small_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A mirror with four documents of some tasks and none of the others, and 60 of a corpus."""
    folder = tmp_path / "mirror"
    (folder / TEXT).parent.mkdir(parents=True)
    lines = [json.dumps({"text": f"Document {n} says: " + "a bee sees a tree. " * 20}) for n in range(60)]
    (folder / TEXT).write_bytes(gzip.compress("\n".join(lines).encode()))
    for name, documents in EVAL.items():
        path = folder / "eval" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(document) + "\n" for document in documents))
    monkeypatch.setenv("BENCH_MIRROR", str(folder))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    return folder
