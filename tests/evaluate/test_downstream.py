"""bench downstream: from a record to a table and a child record, and every way in which it cannot be done."""

import csv
import io
import json
import re
import sys

import pytest
from small import ADAMW, ROOT, make, places_in, write_task

from bench.assemble import Request
from bench.children import ModeScores, downstream_path, read_downstream
from bench.cli.downstream import _render as render
from bench.cli.main import main
from bench.entry import Entry
from bench.errors import BenchError
from bench.evaluate.downstream import ask
from bench.evaluate.harness import Harness, quiet
from bench.evaluate.questions import HOMES, load, manager_of
from bench.evaluate.tokenizer import harness_tokenizer
from bench.index import load_index
from bench.lint import lint_paths
from bench.model import build_model
from bench.record import find_records, read_record, seal
from bench.run import run
from bench.setting import Watch
from bench.task import read_task

TINY = {
    "layers": "1", "width": "32", "ffn": "64", "context": "32", "compiled": "false", "tokens": "2_048",
    "curve_sequences": "8", "dataset": '"some/text"', "files": '["0.json.gz"]',
}  # fmt: skip


@pytest.fixture
def record(small_mirror, tmp_path, monkeypatch):
    """A record of a tiny model on bytes, made where the command will look for its text."""
    text = (ROOT / "tasks" / "nano.toml").read_text()
    for name, value in TINY.items():
        text = re.sub(rf"(?m)^{name}(\s*)=.*$", rf"{name}\1= {value}", text)
    for first, last in (("0", "800"), ("800", "900"), ("900", "1000")):
        text = re.sub(rf"first = {first}\nlast  = {last}\n",
                      f"first = {int(first) // 20}\nlast = {int(last) // 20}\n", text)  # fmt: skip
    task = tmp_path / "tasks" / "bytes.toml"
    task.parent.mkdir()
    task.write_text(text)
    monkeypatch.setenv("BENCH_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    return made_in("bf16", task, tmp_path)


def made_in(mode, task, folder):
    entry = Entry(ADAMW)
    request = Request(task.stem, read_task(task), entry, entry.values({}), mode, 1.0, "declared", 0)
    return run(request, places_in(folder), Watch())


@pytest.fixture
def bench(monkeypatch, capfd):
    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setenv("COLUMNS", "400")
        monkeypatch.setattr(sys, "argv", ["bench", *map(str, words), "--baselines", str(ROOT / "baselines")])
        with pytest.raises(SystemExit) as stop:
            main()
            raise SystemExit(0)
        said = capfd.readouterr()
        return stop.value.code or 0, said.out, said.err

    return call


def test_from_a_record_to_its_child(record, bench, tmp_path):
    code, _, said = bench("downstream", record)
    command = f"bench replay {record} --keep-weights runs/weights"
    assert code == 2 and "the record's weights are not here" in said and command in said
    assert bench(*command.split()[1:])[0] == 0

    code, told, said = bench("downstream", record, "--limit", 2)
    assert code == 0 and "nothing is written" in said and not downstream_path(record).exists()
    assert "left out: hellaswag" in said and "left out: blimp" in said

    code, told, said = bench("downstream", record)
    assert code == 0, said
    child, parent = read_downstream(downstream_path(record)), read_record(record)
    scores = child.modes["bf16"]
    assert (child.run_id, child.weights) == (parent.run_id, parent.weights.evaluated)
    assert set(scores.tasks) == {"lambada_openai", "piqa", "arc_easy", "winogrande"}
    assert (scores.batch, scores.context, scores.quantized, scores.dtype) == (32, 32, 0, "float32")
    assert scores.tasks["arc_easy"].chance == 0.25 and scores.tasks["piqa"].chance == 0.5
    assert scores.tasks["lambada_openai"].chance is None and scores.tasks["lambada_openai"].split == "test"
    assert all((found.documents, found.source) == (4, "mirror") for found in scores.tasks.values())
    assert scores.tasks["piqa"].pieced == 4  # 600 bytes each
    assert scores.text_bits_per_byte == pytest.approx(parent.score_loss / 0.6931 * 401 / 400, rel=0.01)
    assert re.search(r"arc_easy +acc +[\d.]+ +[\d.]+ +(at )?0.2500", told) and "zero-shot by lm-eval" in told

    assert find_records([record.parent]) == [record]
    assert len(load_index([record.parent], None)) == 1
    assert any("downstream scores in bf16" in line for line in lint_paths([record.parent]))


def test_a_mode_is_added_and_what_is_there_stays(record, bench, monkeypatch):
    assert bench("downstream", record, "--replay", "--only", "arc_easy")[0] == 0
    first = read_downstream(downstream_path(record)).modes
    assert bench("downstream", record, "--only", "winogrande")[0] == 0
    assert bench("downstream", record, "--only", "arc_easy", "--mode", "ptq-w4a4")[0] == 0
    modes = read_downstream(downstream_path(record)).modes
    assert list(modes) == ["bf16", "ptq-w4a4"] and set(modes["bf16"].tasks) == {"arc_easy", "winogrande"}
    assert modes["bf16"].tasks["arc_easy"] == first["bf16"].tasks["arc_easy"]
    rounded = modes["ptq-w4a4"]
    assert rounded.quantized == 7 and rounded.text_bits_per_byte > modes["bf16"].text_bits_per_byte
    assert rounded.tasks["arc_easy"].hash == modes["bf16"].tasks["arc_easy"].hash
    assert rounded.tasks["arc_easy"].bits_per_byte != modes["bf16"].tasks["arc_easy"].bits_per_byte

    monkeypatch.setattr("bench.evaluate.downstream.ask", lambda *_: pytest.fail("asked again"))
    assert bench("downstream", record, "--only", "arc_easy", "--only", "winogrande")[0] == 0


def test_a_record_of_quantized_training_is_asked_in_its_mode_and_in_float(record, bench, tmp_path):
    trained = made_in("qat-w4a4", tmp_path / "tasks" / "bytes.toml", tmp_path)
    for words in (["--replay"], ["--mode", "bf16"]):
        code, _, said = bench("downstream", trained, "--only", "arc_easy", *words)
        assert code == 0, said
    modes, facts = read_downstream(downstream_path(trained)).modes, read_record(trained).facts.quantization
    assert {name: scores.quantized for name, scores in modes.items()} == {"bf16": 0, "qat-w4a4": facts.actual.count}
    ratio = modes["bf16"].text_bits_per_byte / modes["qat-w4a4"].text_bits_per_byte
    assert ratio == pytest.approx(facts.float_score_loss / read_record(trained).score_loss, rel=1e-4)


def test_what_cannot_be_done_is_one_line(record, bench, tmp_path, small_mirror):
    def line(*words) -> str:
        code, _, said = bench("downstream", *words)
        assert code == 2 and said.count("error: ") == 1 and "Traceback" not in said
        return said

    assert "did you mean piqa?" in line(record, "--only", "pica")
    assert "hellaswag: the mirror has no" in line(record, "--only", "hellaswag")
    assert bench("downstream", record, "--replay", "--limit", 1, "--only", "piqa")[0] == 0
    assert "was trained in bf16" in line(record, "--mode", "qat-w4a4")
    assert "no mode bf17" in line(record, "--mode", "bf17")
    weights = next((tmp_path / "runs" / "weights").glob("*/model.safetensors"))
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert "these weights are not the record's" in line(record)
    weights.write_bytes(whole[:100])
    assert "the weights cannot be read" in line(record)
    weights.write_bytes(whole)
    (small_mirror / "eval" / "piqa.validation.jsonl").write_text("not json\n")
    assert "piqa: its documents cannot be read" in line(record, "--only", "piqa")
    smoke = make(write_task(tmp_path / "tasks"), ADAMW, tmp_path, 0.25)
    assert "generated words" in line(smoke)


def test_a_child_that_was_changed_or_belongs_elsewhere_is_refused(record, bench):
    assert bench("downstream", record, "--replay", "--only", "arc_easy")[0] == 0
    path = downstream_path(record)
    table = json.loads(path.read_text())
    for changed, why in (
        ({**table, "modes": {}}, "changed after it was written"),
        (seal({**table, "weights": "0" * 64}), "not those that its parent"),
        (seal({**table, "run_id": "0" * 64}), "its name is not"),
        (seal({**table, "more": 1}), "unknown key more"),
        ({**table, "schema": 2}, "schema 2"),
    ):
        path.write_text(json.dumps(changed))
        with pytest.raises(BenchError, match=why):
            list(lint_paths([path]))


def test_the_real_sets_are_read_whole(mirror):
    """Every task of the mirror: lm-eval's definition on the mirror's documents, one of each, or of each of 67 parts."""
    if not (mirror / "eval").is_dir():
        pytest.skip("needs the mirror's eval/")
    task = read_task(ROOT / "tasks" / "nano.toml")
    model = build_model(task.model.model_copy(update={"layers": 1}), task.training.context, seed=0)
    manager, sizes = manager_of(list(HOMES)), {}
    with quiet():
        harness = Harness(model, harness_tokenizer(task.data), task.training.context, 32, 256)
    for name in HOMES:
        if name == "hellaswag":
            with pytest.raises(BenchError, match="the mirror has no"):
                load(name, manager)
            continue
        with quiet():
            asked = load(name, manager)
        sizes[name] = sum(len(part.eval_docs) for part in asked.parts.values())
        found = ask(harness, asked, 1, lambda *_: None)
        assert found.documents == len(asked.parts) and found.source == "mirror"
    assert sizes == {"lambada_openai": 5153, "piqa": 1838, "arc_easy": 570, "winogrande": 1267, "blimp": 67_000}


def test_a_csv_has_a_figure_a_column_and_all_its_digits():
    task = {"documents": 7, "split": "validation, first half", "source": "mirror", "version": "1.0", "hash": "a" * 64,
            "scores": {"acc": {"value": 1 / 3, "stderr": 0.1}, "perplexity": {"value": None, "stderr": None}},
            "chance": 0.25, "bits_per_byte": 1.5, "cut": 0, "pieced": 0}  # fmt: skip
    facts = {"mode_digest": "b" * 64, "lm_eval": "0.4", "batch": 8, "padding": "right", "context": 64,
             "dtype": "float32", "autocast": "bfloat16", "machine": "c" * 64, "quantized": 0,
             "text_bits_per_byte": None, "made": "2026-01-01T00:00:00+00:00", "tasks": {"piqa": task}}  # fmt: skip
    text = render(ModeScores.model_validate(facts), "a run", "bf16", "csv")
    first, second = csv.DictReader(io.StringIO(text))
    assert (float(first["value"]), first["chance"], first["split"]) == (1 / 3, "0.25", "validation, first half")
    assert (second["value"], second["chance"], second["source"]) == ("", "", "mirror")
