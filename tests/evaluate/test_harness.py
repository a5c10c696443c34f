"""lm-eval around our models: its likelihoods are the model's, and taking a model over changes nothing in it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from lm_eval.models.huggingface import HFLM
from small import ROOT
from torch import nn

from bench.errors import BenchError
from bench.evaluate.downstream import ask, check_rounding, put_in_mode
from bench.evaluate.harness import Harness, probe, quiet
from bench.evaluate.questions import load, manager_of
from bench.evaluate.tokenizer import harness_tokenizer
from bench.evaluate.weights import read_model
from bench.machine import make_deterministic
from bench.model import build_model, export_model, weights_digest
from bench.quantize.calibration import Calibration
from bench.quantize.linear import enable
from bench.task import Model, read_task

CONTEXT, BATCH, END = 64, 4, 256
TOKENIZER = harness_tokenizer(read_task(ROOT / "tasks" / "nano.toml").data)
SPECS = {
    family: Model(family=family, layers=2, width=32, ffn=64, heads=2, vocabulary=257, padded_vocabulary=320, tied=tied,
                  attention=attention)
    for family, tied, attention in (("llama", False, "eager"), ("gpt2", True, "sdpa"))
}  # fmt: skip
CALIBRATION = Calibration(np.random.default_rng(0).integers(0, 257, (16, CONTEXT + 1)))
TASKS = ["lambada_openai", "piqa", "arc_easy", "winogrande"]


def tiny(family: str):
    make_deterministic(threads=1)
    return build_model(SPECS[family], CONTEXT, seed=0)


def harness_of(model, autocast: str | None = "bfloat16", **loading) -> Harness:
    with quiet():
        return Harness(model, TOKENIZER, CONTEXT, BATCH, END, autocast, **loading)


@dataclass
class Asked:
    args: tuple[str, str]


def by_hand(model, text: bytes, start: int) -> float:
    """Return the log-likelihood of text[start:] after what fits of text[:start], in pieces of half a context."""
    ids, total = list(text), 0.0
    step = len(ids) - start if len(ids) - start <= CONTEXT else CONTEXT // 2
    for first in range(start, len(ids), step):
        piece = ids[first : first + step]
        window = torch.tensor([ids[: first + len(piece)][-(CONTEXT + 1) :]])
        with torch.no_grad():
            logits = model(window[:, :-1]).logits[0, -len(piece) :]
        total += float(logits.log_softmax(-1)[range(len(piece)), piece].sum())
    return total


@pytest.mark.parametrize("family", SPECS)
def test_likelihoods_are_the_models_however_long_the_texts(family):
    model = tiny(family)
    harness = harness_of(model, autocast=None)
    pairs = [("a cat", " sat"), ("x" * 100, " y"), ("q", " z" * 90), ("q" * 70, " z" * 20)]
    found = harness.loglikelihood([Asked(pair) for pair in pairs])
    for (context, continuation), (nats, _) in zip(pairs, found, strict=True):
        wanted = by_hand(model, (context + continuation).encode(), len(context))
        assert nats == pytest.approx(wanted, rel=1e-5)
    assert (harness.cut, harness.pieced) == (2, 1)


def test_a_text_without_context_stands_after_the_end_token():
    model = tiny("llama")
    ((nats, _),) = harness_of(model, autocast=None).loglikelihood([Asked(("", "cat"))])
    with torch.no_grad():
        logits = model(torch.tensor([[END, *b"ca"]])).logits[0]
    assert nats == pytest.approx(float(logits.log_softmax(-1)[range(3), list(b"cat")].sum()), rel=1e-5)


@pytest.mark.parametrize("family", SPECS)
def test_another_head_stays_as_it_is(family):
    """Where a config says that the head is the embedding, lm-eval's constructor puts the embedding there again."""
    model = tiny(family)
    model.config.tie_word_embeddings = True
    model.lm_head = nn.Linear(32, 320, bias=False)
    before = probe(model.eval(), CONTEXT)
    harness = harness_of(model)
    assert torch.equal(before, probe(harness.model, CONTEXT))

    model.config.tie_word_embeddings = True
    with quiet():
        HFLM(pretrained=model, tokenizer=TOKENIZER)  # the trap itself
    assert not torch.equal(before, probe(model, CONTEXT))


def test_a_model_that_lm_eval_changes_is_refused(monkeypatch):
    model = tiny("llama")
    monkeypatch.setattr(model, "tie_weights", lambda: model.lm_head.weight.data.mul_(2))
    with pytest.raises(BenchError, match="changed the model's logits"):
        harness_of(model)


@pytest.mark.parametrize("family", SPECS)
def test_in_memory_and_from_disk_give_the_same_scores(family, small_mirror, tmp_path):
    model = tiny(family)
    export_model(model, tmp_path / "weights")
    kernel = model.config._attn_implementation
    disk = harness_of(str(tmp_path / "weights"), device="cpu", dtype="float32", attn_implementation=kernel)
    memory, manager = harness_of(model), manager_of(TASKS)
    for name in TASKS:
        with quiet():
            questions = load(name, manager)
        assert ask(memory, questions, None, lambda *_: None) == ask(disk, questions, None, lambda *_: None)


@pytest.mark.parametrize("family", SPECS)
def test_exported_weights_are_read_back_to_the_bit(family, tmp_path):
    model = tiny(family)
    export_model(model, tmp_path)
    again = read_model(tmp_path, SPECS[family].attention)
    assert weights_digest(again) == weights_digest(model)
    assert torch.equal(probe(again, CONTEXT), probe(model.eval(), CONTEXT))


def test_weights_that_cannot_be_read_are_one_line(tmp_path):
    export_model(tiny("llama"), tmp_path)
    Path(tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(BenchError, match="cannot be read"):
        read_model(tmp_path, "eager")


@dataclass
class Trained:
    mode: str

    @property
    def inputs(self) -> "Trained":
        return self


@pytest.mark.parametrize("mode", ["ptq-w4a4", "ptq-w4a4-hadamard", "ptq-w4-gptq", "ptq-mixed-4"])
@pytest.mark.parametrize("family", SPECS)
def test_a_rounded_model_is_asked_rounded(family, mode, small_mirror):
    model = tiny(family)
    head = model.get_output_embeddings()
    float_logits = probe(model.eval(), CONTEXT)
    layers = put_in_mode(model, Trained("bf16"), mode, lambda: CALIBRATION)
    rounded = probe(model, CONTEXT)
    assert not torch.equal(rounded, float_logits)
    harness = harness_of(model)
    assert torch.equal(rounded, probe(harness.model, CONTEXT)) and model.get_output_embeddings() is head
    with quiet():
        questions = load("arc_easy", manager_of(["arc_easy"]))
    assert ask(harness, questions, None, lambda *_: None).documents == 4
    check_rounding(model, layers)
    enable(model, False)
    ask(harness, questions, 1, lambda *_: None)
    with pytest.raises(BenchError, match=f"{len(layers)} layers did not round"):
        check_rounding(model, layers)


def test_a_mode_is_asked_of_the_records_that_it_is_for(monkeypatch):
    def put(own: str, mode: str) -> list[str]:
        return put_in_mode(tiny("llama"), Trained(own), mode, lambda: pytest.fail("calibrated"))

    with pytest.raises(BenchError, match="trained in bf16"):
        put("bf16", "qat-w4a4")
    with pytest.raises(BenchError, match="acts on runs in float"):
        put("qat-w4a4", "ptq-w4")
    assert put("qat-w4a4", "bf16") == []
    assert len(put("qat-w4a4", "qat-w4a4")) == 14
    monkeypatch.setattr("bench.evaluate.downstream.convert", lambda model, mode: [])
    with pytest.raises(BenchError, match="rounds 0 layers, expected 14"):
        put("qat-w4a4", "qat-w4a4")
