"""Each rule of the lint holds for a sound record and breaks for one made to break it."""

import pytest
from pytest import param

from bench.digest import digest_of
from bench.mode import read_mode
from bench.record import Log, Milestone
from bench.task import read_task
from bench.verify import lint_record, lint_siblings

TINY = {"hidden": {"entry": 5, "harness": 0}}


@pytest.fixture
def task():
    from pathlib import Path

    return read_task(Path(__file__).parents[2] / "tasks" / "nano.toml")


def ticks(record, task, log=None):
    return {tick.rule: tick for tick in lint_record(record, task, log)}


def test_a_sound_record_holds_every_rule(make_record, task):
    assert {tick.rule: tick.ok for tick in lint_record(make_record(), task)} == dict.fromkeys(
        ["task", "A1", "A2", "A3", "A4", "A5", "A6", "A7"], True
    )


@pytest.mark.parametrize(
    ("rule", "changed"),
    [
        param("task", {"inputs": {"task_digest": "0" * 64}}, id="another version of the task"),
        param("A1", {"facts": {"weight_dtypes": ["bfloat16", "float32"]}}, id="bf16 weights"),
        param("A1", {"facts": {"state_dtypes": ["uint8"]}}, id="8-bit state"),
        param("A2", {"chains": {"data": None, "loss": None}}, id="no data chain"),
        param("A3", {"tokens": 999_424, "charged_tokens": 999_424.0}, id="fewer tokens"),
        param("A3", {"facts": {"last_multiplier": 0.1}}, id="not decayed"),
        param("A3", {"facts": {"last_multiplier": 0.0}}, id="the zero applied"),
        param("A3", {"facts": {"last_multiplier": None}}, id="multiplier unknown"),
        param("A4", {"facts": {"partition": TINY}}, id="parameters missing"),
        param("A4", {"facts": {"partition": {}}}, id="no partition"),
        param("A5", {"facts": {"clip": 2.0}}, id="another clip"),
        param("A5", {"facts": {"clip_rate": None}}, id="no clip rate"),
        param("A6", {"steps": 488}, id="stopped early"),
        param("A6", {"score_loss": None}, id="no scoring loss"),
        param("A7", {"charged_tokens": 512_000.0}, id="undercharged"),
        param("A7", {"facts": {"passes": 0.5}}, id="less than a pass"),
    ],
)
def test_a_broken_rule_is_a_cross(make_record, task, rule, changed):
    tick = ticks(make_record(**changed), task)[rule]
    assert tick.ok is False
    assert tick.detail


def test_a_parameter_trained_twice_is_a_cross(make_record, task):
    hidden = {"entry": task.matrix_parameters, "harness": 0}
    rest = {"entry": 0, "harness": task.parameters - task.matrix_parameters + 128}
    assert ticks(make_record(facts={"partition": {"hidden": hidden, "vectors": rest}}), task)["A4"].ok is False


def test_a_log_of_another_data_chain_is_a_cross(make_record, task):
    record, other = make_record(), digest_of("other")
    milestone = Milestone(step=record.steps, data=other, loss=other, update_rms={})
    log = Log(stride=1, loss=(), gradient_norm=(), curve=(), milestones=(milestone,), score_blocks=())
    assert ticks(record, task, log)["A2"].ok is False


def test_what_a_method_may_declare_is_no_cross(make_record, task):
    found = ticks(make_record(facts={"schedule": "constant", "last_multiplier": 1.0, "clip": None}), task)
    assert found["A3"].ok is None and "deviation" in found["A3"].detail
    assert found["A5"].ok is None and "deviation" in found["A5"].detail


def test_a_run_that_failed_is_not_blamed_for_what_it_could_not_do(make_record, task):
    found = ticks(make_record(outcome="crashed"), task)
    assert found["A3"].ok is None and found["A6"].ok is None
    assert found["A1"].ok and found["A7"].ok


def test_a_task_that_changed_silences_the_rules_that_read_it(make_record, task):
    found = ticks(make_record(inputs={"task_digest": "0" * 64}), task)
    assert [rule for rule, tick in found.items() if tick.ok is None] == ["A3", "A4", "A5", "A6"]


@pytest.mark.parametrize(
    ("title", "changed"),
    [
        ("same initial weights as other entries", {"weights": {"initial": "0" * 64, "final": None, "evaluated": None}}),
        ("same token order as other entries", {"chains": {"data": "0" * 64, "loss": None}}),
        ("same validation tokens as other entries", {"facts": {"validation": "0" * 64}}),
    ],
)
def test_siblings_single_out_the_one_that_differs(make_record, title, changed):
    sound, odd = [make_record(entry=name) for name in ("base", "quick")], make_record(entry="slow", **changed)
    found = lint_siblings([*sound, odd])
    held = {run: next(tick.ok for tick in own if tick.title == title) for run, own in found.items()}
    assert held == {sound[0].run_id: True, sound[1].run_id: True, odd.run_id: False}
    assert all(tick.ok for own in found.values() for tick in own if tick.title != title)


def test_where_two_entries_disagree_neither_is_believed(make_record):
    odd = make_record(entry="slow", chains={"data": "0" * 64, "loss": None})
    found = lint_siblings([make_record(), odd])
    assert [tick.ok for own in found.values() for tick in own if "token order" in tick.title] == [False, False]


def test_an_entry_alone_at_its_seed_is_not_compared(make_record):
    found = lint_siblings([make_record(seed=0), make_record(entry="slow", seed=1)])
    assert all(tick.ok is None for own in found.values() for tick in own if tick.rule == "A2")


LAYERS = {"count": 28, "digest": digest_of("names")}
SIDE = {"bits": 8, "levels": [90, 255], "clipped": 0.0, "masked": 0.0}
PROOF = {"expected": LAYERS, "actual": LAYERS, "parts": {"q_proj": 4, "down_proj": 24}, "blocks": {"128": 1},
         "forwards": 1.0, "float_score_loss": 2.0, "weights": SIDE, "activations": SIDE}  # fmt: skip


def rounded(make_record, digest=None, **changed):
    """A record in a mode that quantizes, with facts changed; proof None leaves them out."""
    facts = {} if changed.get("proof", "") is None else {"quantization": {**PROOF, **changed}}
    inputs = {"mode_digest": digest or read_mode("qat-int8").digest}
    return make_record(mode="qat-int8", inputs=inputs, facts=facts)


def test_a_sound_record_of_a_mode_that_quantizes_holds_its_rules_too(make_record, task):
    found = ticks(rounded(make_record), task)
    assert [found[rule].ok for rule in ("mode", "E1", "E2", "E3")] == [True] * 4
    assert found["E3"].detail.startswith("weights 90 to 255 at 8 bits, 0% clipped")


@pytest.mark.parametrize(
    ("rules", "changed"),
    [
        param(["mode"], {"digest": "0" * 64}, id="another version of the mode"),
        param(["E1"], {"actual": {"count": 27, "digest": digest_of("fewer")}}, id="a layer left out"),
        param(["E1"], {"actual": {"count": 28, "digest": digest_of("others")}}, id="other layers"),
        param(["E1"], {"parts": {"q_proj": 4}}, id="parts that do not add up"),
        param(["E2"], {"forwards": 0.999}, id="a pass in float"),
        param(["E2"], {"forwards": None}, id="no pass counted"),
        param(["E3"], {"weights": {**SIDE, "levels": [90, 257]}}, id="too many levels"),
        param(["E3"], {"activations": {**SIDE, "levels": [1, 200]}}, id="a layer on one level"),
        param(["E3"], {"weights": None, "activations": None}, id="no levels"),
        param(["E1", "E2", "E3"], {"proof": None}, id="no facts"),
    ],
)
def test_each_rule_of_quantization_breaks(make_record, task, rules, changed):
    found = ticks(rounded(make_record, **changed), task)
    assert [rule for rule, tick in found.items() if tick.ok is False] == rules


def test_parameters_are_counted_as_the_model_has_them(task):
    from bench.model import build_model

    model = build_model(task.model, task.training.context, seed=0)
    assert sum(weight.numel() for weight in model.parameters()) == task.parameters
