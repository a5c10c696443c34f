"""QuantLinear and the conversion: the same model when off, only the blocks' layers rounded when on."""

import copy

import pytest
import torch
from torch import nn

from bench.battery.tiny import CONTEXT, TINY, batch_at
from bench.errors import BenchError
from bench.mode import Mode, Operand, mode_names, read_mode
from bench.model import build_model, sequence_losses
from bench.quantize.arithmetic import quantize
from bench.quantize.linear import QuantLinear, convert, enable, expected, quantized
from bench.roles import roles_of

GPT2 = TINY.model_copy(update={"family": "gpt2"})
FAMILIES = pytest.mark.parametrize("spec", [TINY, GPT2, TINY.model_copy(update={"tied": False})],
                                   ids=["llama", "gpt2", "untied"])  # fmt: skip
ROUNDING = [name for name in mode_names() if read_mode(name, None).quantizes and read_mode(name).kind == "training"]


def mode_of(bits=4, grid="absmax", over="row", hadamard=0, gradient="identity", **changed):
    side = Operand(bits=bits, grid=grid, over=over)
    given = {"weights": side, "activations": side, "gradient": gradient, "hadamard": hadamard, **changed}
    return Mode(summary="", kind="training", autocast="bfloat16", **given)


def model_of(spec):
    return build_model(spec, CONTEXT, seed=0)


def logits_of(model):
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        return model(input_ids=batch_at(0)[:, :-1]).logits


@FAMILIES
@pytest.mark.parametrize("name", ROUNDING)
def test_off_the_logits_are_those_of_the_float_model_to_the_bit_and_on_they_are_not(spec, name):
    model, reference = model_of(spec), logits_of(model_of(spec))
    convert(model, read_mode(name))
    assert not torch.equal(logits_of(model), reference)
    enable(model, False)
    assert torch.equal(logits_of(model), reference)


@FAMILIES
def test_conversion_keeps_parameters_roles_names_tying_and_head(spec):
    model = model_of(spec)
    before = dict(model.named_parameters(remove_duplicate=False))
    roles, keys = roles_of(model).all, list(model.state_dict())
    names = convert(model, read_mode("qat-w4a4"))
    assert sorted(names) == sorted(expected(model)) == sorted(name for name, _ in quantized(model))
    assert len(names) == (7 if spec.family == "llama" else 4) * spec.layers
    after = dict(model.named_parameters(remove_duplicate=False))
    assert list(after) == list(before) and all(after[name] is w for name, w in before.items())
    assert all(a is b for a, b in zip(roles_of(model).all, roles, strict=True))
    assert list(model.state_dict()) == keys
    head = model.get_output_embeddings()
    assert type(head) is nn.Linear and (head.weight is model.get_input_embeddings().weight) == spec.tied
    model.tie_weights()  # as evaluation libraries do
    assert (head.weight is model.get_input_embeddings().weight) == spec.tied


@FAMILIES
@pytest.mark.parametrize("name", ROUNDING)
def test_every_parameter_gets_a_finite_gradient_and_passes_are_counted(spec, name):
    model = model_of(spec)
    convert(model, read_mode(name))
    sequence_losses(model, batch_at(0)).mean().backward()
    enable(model, False)
    sequence_losses(model, batch_at(0))
    assert all(w.grad is not None and w.grad.isfinite().all() for w in model.parameters())
    assert {(int(m.forwards), int(m.quantized_forwards)) for _, m in quantized(model)} == {(2, 1)}


@pytest.mark.parametrize("shape", [(3, 40), (40, 3), (7, 33), (1, 1), (96, 96)])
@pytest.mark.parametrize("hadamard", [0, 128])
@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_is_the_product_of_rounded_operands_and_its_gradients_pass_straight(shape, hadamard, bias):
    out_features, width = shape
    torch.manual_seed(0)
    linear = nn.Linear(width, out_features, bias=bias, dtype=torch.float64)
    layer = QuantLinear(linear, mode_of(8, hadamard=hadamard))
    layer.signs = layer.signs.double() if layer.signs is not None else None
    x = torch.randn(5, width, dtype=torch.float64, requires_grad=True)
    g = torch.randn(5, out_features, dtype=torch.float64)
    y = layer(x)
    y.backward(g)
    assert layer.block == min(width & -width, hadamard or 1)
    rounded_x, rounded_w = layer.rounded_input(x).detach(), layer.rounded_weight().detach()
    torch.testing.assert_close(y, nn.functional.linear(rounded_x, rounded_w, linear.bias))
    assert (y - linear(x)).norm() <= 0.05 * linear(x).norm()
    straight_x, straight_w = g @ rounded_w, g.T @ rounded_x
    torch.testing.assert_close(x.grad, layer.rotated(straight_x))
    torch.testing.assert_close(linear.weight.grad, layer.rotated(straight_w))


def test_under_bf16_autocast_the_layer_is_near_its_fp32_self():
    torch.manual_seed(0)
    layer = QuantLinear(nn.Linear(128, 48), mode_of(8, "gaussian", hadamard=128, gradient="trust"))
    x = torch.randn(64, 128)
    wide = layer(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        narrow = layer(x)
    assert narrow.dtype == torch.bfloat16
    assert (narrow.float() - wide).norm() < 0.02 * wide.norm()


def test_compiled_whole_it_is_the_eager_layer():
    torch.manual_seed(0)
    eager = QuantLinear(nn.Linear(64, 32), mode_of(4, "gaussian", hadamard=128, gradient="trust"))
    compiled = copy.deepcopy(eager)
    run = torch.compile(compiled, dynamic=False, fullgraph=True, backend="aot_eager")
    x = torch.randn(16, 64)
    y, z = eager(x), run(x)
    y.square().sum().backward()
    z.square().sum().backward()
    torch.testing.assert_close(y, z)
    torch.testing.assert_close(eager.weight.grad, compiled.weight.grad)
    assert int(compiled.quantized_forwards) == 1


def test_a_prepared_weight_is_used_as_it_is_and_gives_the_same_output():
    torch.manual_seed(0)
    layer = QuantLinear(nn.Linear(64, 32), mode_of(4, hadamard=64))
    x = torch.randn(16, 64)
    before = layer(x)
    layer.prepare()
    assert torch.equal(layer(x), before)
    layer.prepare(torch.zeros(32, 64))
    assert torch.equal(layer(x), layer.bias.expand(16, 32))


def test_bits_by_name_stand_in_for_the_modes():
    model = model_of(TINY)
    first, second = expected(model)[:2]
    convert(model, mode_of(8, activations=None), {first: 2})
    for name, bits in ((first, 2), (second, 8)):
        layer = model.get_submodule(name)
        assert torch.equal(layer.rounded_weight(), quantize(layer.weight, bits, "absmax"))
        assert layer.input_rule is None


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"hadamard": 96}, "power of two"),
        ({"weights": None, "activations": None, "hadamard": 128, "gradient": None}, "is missing"),
        ({"gradient": None}, "gradient goes with"),
        ({"algorithm": "gptq"}, "algorithm goes with"),
        ({"kind": "after"}, "gradient goes with"),
        ({"average_bits": 4.0}, "average_bits"),
        ({"weights": {"grid": "absmax", "over": "row"}}, "weights.bits"),
        ({"weights": {"bits": 9, "grid": "absmax", "over": "row"}}, "weights.bits"),
        ({"weights": {"bits": 4, "grid": "absmax", "over": "column"}}, "weights.over"),
    ],
)
def test_a_mode_that_does_not_fit_together_is_one_line(tmp_path, changed, said):
    from bench.spec import validate

    table = {**read_mode("qat-w4a4").model_dump(exclude_none=True), **changed}
    with pytest.raises(BenchError, match=said):
        validate({key: value for key, value in table.items() if value is not None}, Mode, "x.toml")


def test_an_unknown_mode_and_a_group_that_does_not_divide_are_one_line():
    with pytest.raises(BenchError, match="no mode qat-w4a5; did you mean qat-w4a4"):
        read_mode("qat-w4a5")
    with pytest.raises(BenchError, match=r"q_proj: groups of 5 do not divide its width 32") as caught:
        convert(model_of(TINY), mode_of(over=5))
    assert "2, 4, 8, 16, 32" in str(caught.value.hint)


def test_a_mode_of_another_kind_is_refused():
    with pytest.raises(BenchError, match="mode bf16 is one of training and cannot be used here"):
        read_mode("bf16", "after")
