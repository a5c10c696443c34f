"""`bench data` takes bounded memory, and says what it made and whether training will repeat it."""

import gzip
import json
import sys

import pytest
from small import write_task

from bench.cli.main import main

PEAK = """
from pathlib import Path
from bench.data.tokens import prepare
from bench.task import HubText
prepare(HubText.model_validate_json({spec!r}), 257, Path({folder!r}))
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_four_times_the_documents_take_no_more_memory(corpus, tmp_path, elsewhere):
    texts = [f"{number} words " * 100 for number in range(5000)]
    lines = b"".join(json.dumps({"text": text}).encode() + b"\n" for text in texts)
    files = [gzip.compress(lines, compresslevel=1)] * 16
    peaks = []
    for documents in (20_000, 80_000):  # 25 and 100 MB of text
        data = corpus(*files, last=documents)
        few = data.select.model_copy(update={"last": 10})
        data = data.model_copy(update={"select": few, "score": few})
        out, err = elsewhere(PEAK.format(spec=data.model_dump_json(), folder=str(tmp_path))).communicate(timeout=600)
        assert out, err
        peaks.append(int(out) / 1024)
    assert peaks[1] - peaks[0] < 40, peaks  # MiB


@pytest.fixture
def bench_data(monkeypatch, capsys, tmp_path):
    def call(*words: str) -> str:
        monkeypatch.setenv("BENCH_DATA", str(tmp_path / "data"))
        monkeypatch.setenv("COLUMNS", "200")
        monkeypatch.setattr(sys, "argv", ["bench", "data", str(write_task(tmp_path)), *words])
        with pytest.raises(SystemExit) as stop:
            main()
        assert stop.value.code == 0
        return capsys.readouterr().out

    return call


def test_the_verb_tells_tokens_documents_and_passes(bench_data):
    facts = json.loads(bench_data("--json"))
    for split in ("train", "select", "score"):
        assert facts[split]["tokens"] > facts[split]["documents"] > 0
    *splits, passes = bench_data().splitlines()
    assert [line.split()[0] for line in splits] == ["train", "select", "score"]
    assert f"{facts['train']['documents']:,} documents" in splits[0]
    assert f"makes {facts['train']['passes']:.3g} passes over train" in passes
    assert passes.endswith("so the text is repeated" if facts["train"]["passes"] > 1 else "nothing is repeated")
