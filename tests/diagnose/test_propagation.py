"""Propagation of the error: exact identities in float64, hand-made oracles, the real model's own error."""

import copy

import pytest
import torch
from torch.nn import functional as F

from bench.battery.tiny import CONTEXT, TINY, batch_at
from bench.diagnose.propagation import in_columns, propagation, spectral_norm
from bench.diagnose.quantization import converted, diagnose
from bench.errors import BenchError
from bench.mode import Mode, Operand, read_mode
from bench.model import build_model
from bench.quantize.after import apply as apply_mode
from bench.quantize.calibration import Calibration
from bench.quantize.linear import convert, enable, expected, quantized

GPT2 = TINY.model_copy(update={"family": "gpt2"})
FAMILIES = pytest.mark.parametrize("spec", [TINY, GPT2, TINY.model_copy(update={"tied": False, "attention": "sdpa"})],
                                   ids=["llama", "gpt2", "untied-sdpa"])  # fmt: skip
MODES = pytest.mark.parametrize("mode", ["qat-w4a4", "ptq-w4a4"])
BATCHES = [batch_at(0), batch_at(1)[:3]]
WEIGHTS_ONLY = Mode(summary="", kind="after", autocast="bfloat16", algorithm="round",
                    weights=Operand(bits=3, grid="absmax", over="row"))  # fmt: skip


def model_of(spec):
    """Return a float64 model with biases and gains that are not the neutral ones."""
    model = build_model(spec, CONTEXT, seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 1:
                weight.add_(0.2 * torch.randn(weight.shape, generator=generator))
            else:
                weight.mul_(3)
    return model.double()


def steps_of(spec, mode, batches=BATCHES):
    model = model_of(spec)
    convert(model, mode if isinstance(mode, Mode) else read_mode(mode))
    return model, propagation(model, batches)


@FAMILIES
@MODES
def test_the_parts_add_up_to_the_error_and_the_factors_multiply_to_the_gain(spec, mode):
    _, steps = steps_of(spec, mode)
    for step in steps:
        assert abs(step.R - step.A - step.B - step.C) <= 1e-10, step
        if step.gain is None:
            assert step.input == 0, step
            continue
        assert step.gain * step.input == pytest.approx(step.A, rel=1e-12)
        if step.spectral is not None:
            assert step.spectral * step.alignment == pytest.approx(step.gain, rel=1e-10), step
    assert all(step.R > 0 for step in steps[1:]) and sum(step.B > 0 for step in steps) == len(expected(model_of(spec)))


@FAMILIES
@MODES
def test_the_heads_error_is_that_of_the_quantized_models_logits(spec, mode):
    model, steps = steps_of(spec, mode, [batch_at(0)])
    with torch.no_grad():
        rounded = model(input_ids=batch_at(0)[:, :-1]).logits
        enable(model, False)
        plain = model(input_ids=batch_at(0)[:, :-1]).logits
    error, size = (rounded - plain).square().sum(-1), plain.square().sum(-1)
    assert steps[-1].module == "head"
    assert pytest.approx(float(error.sum() / size.sum()), rel=1e-6) == steps[-1].R
    assert steps[-1].per_token == pytest.approx(float((error / size).mean()), rel=1e-6)


@FAMILIES
@MODES
def test_with_the_quantizers_off_there_is_no_error_anywhere(spec, mode):
    model = model_of(spec)
    convert(model, read_mode(mode))
    enable(model, False)
    for step in propagation(model, BATCHES):
        assert max(step.R, step.A, step.B, abs(step.C), step.per_token) < 1e-25, step


def test_modules_come_in_order_of_execution():
    parts = ["input_layernorm", "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.core",
             "self_attn.o_proj", "post_attention_layernorm", "mlp.gate_proj", "mlp.up_proj", "mlp.core",
             "mlp.down_proj"]  # fmt: skip
    _, steps = steps_of(TINY, "ptq-w4a4")
    assert [step.module for step in steps] == [f"{i}.{part}" for i in range(2) for part in parts] + ["norm", "head"]
    parts = ["ln_1", "attn.c_attn", "attn.core", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.core", "mlp.c_proj"]
    _, steps = steps_of(GPT2, "ptq-w4a4")
    assert [step.module for step in steps] == [f"{i}.{part}" for i in range(2) for part in parts] + ["ln_f", "head"]


@FAMILIES
def test_the_first_layers_error_is_new_and_worked_by_hand(spec):
    """Before it nothing is rounded: A = C = 0, and B is the layer's own rounding of its float input."""
    model, steps = steps_of(spec, "ptq-w4a4")
    name, layer = next(quantized(model))
    inputs = []
    handle = layer.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    with torch.no_grad():
        for batch in BATCHES:
            model(input_ids=batch[:, :-1])
        handle.remove()
        x = torch.cat([piece.flatten(0, 1) for piece in inputs])
        plain = F.linear(x, layer.weight, layer.bias)
        by_hand = []
        for side, width in ((x, 1), (layer.weight, 1)):
            scale = side.abs().amax(dim=width, keepdim=True) / 7
            by_hand.append((side / scale).round() * scale)
        error = F.linear(by_hand[0], by_hand[1], layer.bias) - plain
    first = next(step for step in steps if name.endswith(step.module))
    assert (first.A, first.C, first.gain) == (0, 0, None)
    assert pytest.approx(float(error.square().sum() / plain.square().sum()), rel=1e-9) == first.B


@FAMILIES
def test_a_layer_that_does_not_round_adds_nothing_and_its_gain_is_the_linear_one(spec):
    """G = |W d|^2 |h|^2 / (|d|^2 |W h + bias|^2) where only the input is noisy."""
    model = model_of(spec)
    convert(model, read_mode("ptq-w4a4"))
    last, layer = list(quantized(model))[-1]
    layer.enabled = False
    seen = []
    handle = layer.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.no_grad():
        model(input_ids=batch_at(0)[:, :-1])
        for _, other in quantized(model):
            other.enabled = False
        model(input_ids=batch_at(0)[:, :-1])
        handle.remove()
        enable(model, True)
        layer.enabled = False
        step = next(step for step in propagation(model, [batch_at(0)]) if last.endswith(step.module))
        d, h = seen[0] - seen[1], seen[1]
        gain = F.linear(d, layer.weight).norm() ** 2 * h.norm() ** 2 / (d.norm() * layer(h).norm()) ** 2
    assert step.B < 1e-25 and abs(step.C) < 1e-14 and step.spectral == pytest.approx(1)
    assert step.gain == pytest.approx(float(gain), rel=1e-6)


def test_with_rounded_weights_alone_the_alignment_is_a_ratio_of_cosines():
    """a = (W + e/2) dh; cosines against the spectral norm, each from its own definition (no bias in this model)."""
    model, steps = steps_of(TINY, WEIGHTS_ONLY, [batch_at(0)])
    inputs = {}
    for on in (True, False):
        enable(model, on)
        handles = [layer.register_forward_pre_hook(lambda _, given, key=(name, on): inputs.update({key: given[0]}))
                   for name, layer in quantized(model)]  # fmt: skip
        with torch.no_grad():
            model(input_ids=batch_at(0)[:, :-1])
        for handle in handles:
            handle.remove()
    checked = 0
    for name, layer in quantized(model):
        step = next(step for step in steps if name.endswith(f".{step.module}"))
        if step.gain is None:
            continue
        weight, middle = layer.weight.detach(), (layer.weight + layer.rounded_weight()).detach() / 2
        h, dh = inputs[name, False], inputs[name, True] - inputs[name, False]
        norms = [float(torch.linalg.matrix_norm(w, ord=2)) for w in (weight, middle)]
        phi = F.linear(dh, middle).norm() / (norms[1] * dh.norm())
        psi = F.linear(h, weight).norm() / (norms[0] * h.norm())
        assert 0 < phi <= 1 and 0 < psi <= 1
        assert step.spectral == pytest.approx((norms[1] / norms[0]) ** 2, rel=1e-9)
        assert step.alignment == pytest.approx(float(phi / psi) ** 2, rel=1e-5)
        checked += 1
    assert checked == 11


@pytest.mark.parametrize("shape", [(5, 9), (9, 5)])
def test_the_spectral_norm_is_the_largest_singular_value(shape):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    assert spectral_norm(weight) == pytest.approx(float(torch.linalg.svdvals(weight.double())[0]), rel=1e-12)
    assert spectral_norm(torch.zeros(shape)) == 0


@MODES
def test_batches_may_be_cut_anywhere(mode):
    _, whole = steps_of(TINY, mode, [batch_at(0)])
    _, cut = steps_of(TINY, mode, [batch_at(0)[:1], batch_at(0)[1:]])
    for one, other in zip(whole, cut, strict=True):
        assert (other.R, other.per_token) == pytest.approx((one.R, one.per_token), rel=1e-6)


def test_a_network_of_zeros_has_no_relative_error_and_stays_finite():
    model = build_model(TINY, CONTEXT, seed=0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
    convert(model, read_mode("ptq-w4a4"))
    steps = propagation(model, [batch_at(0)])
    assert {step.R for step in steps} == {step.gain for step in steps} == {None}
    assert set(in_columns(steps)["per_token"]) == {None}


def test_weights_rounded_for_good_are_compared_with_the_float_ones_handed_over():
    float_model, (model, steps) = model_of(TINY), steps_of(TINY, "ptq-w4a4")
    for _, layer in quantized(model):
        layer.prepare()
    with pytest.raises(BenchError, match="overwritten"):
        propagation(model, BATCHES)
    kept = {name: float_model.get_parameter(f"{name}.weight").detach() for name in expected(float_model)}
    assert propagation(model, BATCHES, kept.__getitem__) == steps


def floats_of(model):
    return lambda name: model.get_submodule(name).weight.detach()


def test_a_float_model_has_nothing_to_look_at():
    with pytest.raises(BenchError, match="no quantized layer"):
        propagation(model_of(TINY), BATCHES)


@FAMILIES
@pytest.mark.parametrize("mode", ["qat-w4a4", "ptq-w4a4", "ptq-w4a4-hadamard"])
def test_a_diagnosis_leaves_the_float_model_as_it_was_and_repeats(spec, mode):
    model = build_model(spec, CONTEXT, seed=0)
    before, layers = copy.deepcopy(model.state_dict()), list(model.modules())
    found = diagnose(model, read_mode(mode), BATCHES)
    assert all(one is other for one, other in zip(layers, model.modules(), strict=True)) and model.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in layers)
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())
    assert found == diagnose(model, read_mode(mode), BATCHES)
    assert found.tokens == 11 * CONTEXT and found.propagation["module"][-1] == "head"
    assert set(found.weights) == set(found.activations) == {n.split(".", 3)[-1] for n in expected(model)}


def test_a_mode_that_is_applied_for_good_gives_what_rounding_in_each_pass_gives():
    mode, model = read_mode("ptq-w4a4"), build_model(TINY, CONTEXT, seed=0)
    passing = diagnose(model, mode, BATCHES)

    def apply():
        convert(model, mode)
        for _, layer in quantized(model):
            layer.prepare()

    floats = floats_of(build_model(TINY, CONTEXT, seed=0))
    assert diagnose(model, mode, BATCHES, apply, floats) == passing
    with pytest.raises(BenchError, match="already"):
        diagnose(model, mode, BATCHES)


def test_a_mode_that_chooses_weights_is_diagnosed_against_the_float_ones():
    mode, model = read_mode("ptq-w4a4-gptq"), build_model(TINY, CONTEXT, seed=0)
    calibration = Calibration(torch.cat([batch_at(step) for step in range(4)]).numpy())
    floats = floats_of(build_model(TINY, CONTEXT, seed=0))
    found = diagnose(model, mode, BATCHES, lambda: apply_mode(model, mode, calibration), floats).propagation
    nearest = diagnose(build_model(TINY, CONTEXT, seed=0), read_mode("ptq-w4a4"), BATCHES).propagation
    assert found["module"] == nearest["module"] and found["R"] != nearest["R"]
    assert all(layer.prepared for _, layer in quantized(model)) and all(0 < value < 0.5 for value in found["R"][1:])
    for r, a, b, c in zip(*(found[part] for part in "RABC"), strict=True):
        assert r == pytest.approx(a + b + c, rel=2e-3)


def test_weights_that_are_no_numbers_give_none_instead_of_an_error():
    model = build_model(TINY, CONTEXT, seed=0)
    with torch.no_grad():
        model.get_submodule(expected(model)[-1]).weight[0, 0] = float("nan")
    found = diagnose(model, read_mode("ptq-w4a4"), BATCHES)
    assert found.propagation["R"][-1] is None and found.propagation["R"][1] > 0
    assert found.weights["mlp.down_proj"]["kurtosis"][-1] is None and found.weights["mlp.down_proj"]["kurtosis"][0]


def test_a_mode_that_rounds_nothing_has_outliers_and_no_propagation_and_one_that_calibrates_needs_to_be_applied():
    model = build_model(TINY, CONTEXT, seed=0)
    assert diagnose(model, read_mode("bf16"), BATCHES).propagation is None
    with pytest.raises(BenchError, match="gptq"):
        diagnose(model, read_mode("ptq-w4-gptq"), BATCHES)


def test_the_float_layers_come_back_after_a_failure():
    model = model_of(TINY)
    with pytest.raises(RuntimeError, match="stop"), converted(model, read_mode("ptq-w4a4")):
        assert list(quantized(model))
        raise RuntimeError("stop")
    assert not list(quantized(model))
