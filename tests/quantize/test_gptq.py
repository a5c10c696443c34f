"""GPTQ: better than rounding to nearest where inputs are correlated, the same where they are not, and never silent."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from bench.battery.tiny import CONTEXT, TINY, batch_at
from bench.errors import BenchError
from bench.mode import Mode, Operand, read_mode
from bench.model import build_model
from bench.quantize import gptq
from bench.quantize.arithmetic import grouped, half_levels, largest_level, quantize
from bench.quantize.calibration import Calibration
from bench.quantize.linear import QuantLinear, convert, expected, quantized
from bench.quantize.proof import most_levels

GPT2 = TINY.model_copy(update={"family": "gpt2"})
SHAPES = pytest.mark.parametrize("shape", [(48, 32), (24, 200), (7, 33), (1, 5), (130, 129)], ids=str)
RULE = (4, "absmax", 0)


def calibration(batches=4):
    return Calibration(torch.cat([batch_at(step) for step in range(batches)]).numpy())


def correlated(width, count=2000, seed=0):
    """Inputs of covariance 0.9^|i-j|, as rows."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, width, generator=generator)
    for column in range(1, width):
        x[:, column] = 0.9 * x[:, column - 1] + (1 - 0.81) ** 0.5 * x[:, column]
    return x


def weight_of(shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def rounded(weight, hessian, rule=RULE, dampings=gptq.DAMPINGS):
    return gptq.round_columns(weight, gptq.inverse_factor(hessian, dampings)[0], rule)


@SHAPES
@pytest.mark.parametrize("rule", [(4, "absmax", 0), (3, "gaussian", 0), (2, "absmax", 0)])
def test_on_an_identity_hessian_it_rounds_to_nearest(shape, rule):
    weight = weight_of(shape)
    before = weight.clone()
    found, clipped = rounded(weight, torch.eye(shape[1]), rule)
    assert torch.equal(found, quantize(weight, *rule)) and torch.equal(weight, before)
    top = largest_level(weight, *rule[:2])
    assert clipped.tolist() == (weight.abs() > top).sum(dim=1).tolist()


@pytest.mark.parametrize("shape", [(48, 32), (24, 200), (33, 7), (130, 129)], ids=str)
def test_on_correlated_inputs_the_output_is_nearer_than_by_rounding_to_nearest(shape):
    weight, x = weight_of(shape), correlated(shape[1])
    found, _ = rounded(weight, 2 * x.T @ x)
    lost, nearest = ((x @ (q - weight).T).square().sum() for q in (found, quantize(weight, *RULE)))
    assert lost < (0.75 if shape[1] >= 32 else 1.0) * nearest


def test_groups_keep_the_grids_of_rounding_to_nearest():
    weight, x, rule = weight_of((20, 48)), correlated(48), (3, "absmax", 16)
    found, _ = rounded(weight, 2 * x.T @ x, rule)
    steps = grouped(found, 16) * half_levels(3, "absmax") / largest_level(grouped(weight, 16), 3, "absmax")
    torch.testing.assert_close(steps, steps.round(), atol=1e-5, rtol=0)
    assert steps.abs().max() <= 3 + 1e-5
    assert (x @ (found - weight).T).norm() < 0.8 * (x @ (quantize(weight, 3, "absmax", 16) - weight).T).norm()


@pytest.mark.parametrize("columns", [1, 3, 7, 200])
def test_lazy_updates_of_any_width_give_the_same_as_updating_everything_at_once(monkeypatch, columns):
    weight, x = weight_of((9, 40)).double(), correlated(40).double()
    upper, _ = gptq.inverse_factor(2 * x.T @ x)
    reference = weight.clone()  # Algorithm 1 with B = 1, written as its sum
    top = largest_level(weight, 4, "absmax")[:, 0]
    for j in range(40):
        level = (reference[:, j].clamp(-top, top) / top * 7).round() * top / 7
        error = (reference[:, j] - level) / upper[j, j]
        reference[:, j:] -= error[:, None] * upper[j, j:]
        torch.testing.assert_close(reference[:, j], level)
        reference[:, j] = level
    monkeypatch.setattr(gptq, "COLUMNS", columns)
    torch.testing.assert_close(gptq.round_columns(weight, upper, RULE)[0], reference)


def test_the_factor_is_of_the_damped_inverse():
    x = correlated(24)
    hessian = 2 * x.T @ x
    upper, damping = gptq.inverse_factor(hessian)
    assert damping == 0.01 and torch.equal(upper, upper.triu())
    damped = hessian.double() + 0.01 * hessian.double().diagonal().mean() * torch.eye(24)
    torch.testing.assert_close(upper.mT @ upper @ damped, torch.eye(24, dtype=torch.float64))


def test_a_hessian_that_needs_more_damping_gets_it_and_a_hopeless_one_is_told():
    rank_one = torch.ones(4, 4)
    assert gptq.inverse_factor(rank_one, (0.0,)) is None
    assert gptq.inverse_factor(rank_one, (0.0, 0.1, 1.0))[1] == 0.1
    assert gptq.inverse_factor(torch.zeros(4, 4)) is None
    assert gptq.inverse_factor(rank_one - 2 * torch.eye(4)) is None


def mode(**changed):
    return Mode.model_validate(read_mode("ptq-w4-gptq").model_dump() | changed)


@pytest.mark.parametrize("spec", [TINY, GPT2, TINY.model_copy(update={"attention": "sdpa"})],
                         ids=["llama", "gpt2", "sdpa"])  # fmt: skip
@pytest.mark.parametrize("name", ["ptq-w4-gptq", "ptq-w4a4-gptq"])
def test_every_layer_is_rounded_in_order_on_the_inputs_that_the_rounded_ones_before_it_give(spec, name, monkeypatch):
    model, seen = build_model(spec, CONTEXT, seed=0).eval(), []
    convert(model, read_mode(name))
    hessian_of = gptq._hessian

    def watched(block, layer, *rest):
        seen.append((layer, [m.prepared for _, m in quantized(model)], hessian_of(block, layer, *rest)))
        return seen[-1][-1]

    monkeypatch.setattr(gptq, "_hessian", watched)
    outcomes = gptq.round_model(model, calibration())
    assert list(outcomes) == expected(model) and {o.damping for o in outcomes.values()} == {0.01}
    parts = 4 * spec.layers  # what enters attention and what leaves it, and the two of the feed-forward part
    assert len(seen) == parts
    assert [sum(before) for _, before, _ in seen] == sorted({sum(before) for _, before, _ in seen})
    for _, layer in quantized(model):
        assert layer.prepared and most_levels(layer.weight.detach()) <= 15
    # the model as it ended gives each layer the input that its Hessian was made of
    totals = {}

    def add(layer, arguments):
        x = layer.rounded_input(arguments[0]).flatten(0, -2).float()
        totals[layer] = totals.get(layer, 0) + 2 * x.T.double() @ x.double()

    hooks = [layer.register_forward_pre_hook(add) for layer, _, _ in seen]
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        for tokens in calibration().batches(model.device):
            model.base_model(input_ids=tokens[:, :-1])
    for hook in hooks:
        hook.remove()
    for layer, _, hessian in seen:
        torch.testing.assert_close(hessian.double(), totals[layer], rtol=1e-4, atol=1e-4 * float(hessian.abs().max()))


def test_columns_make_up_for_one_another_in_full_precision(monkeypatch):
    """The model runs under autocast, where the product that updates all columns behind a block would be bf16."""
    seen, whole = [], gptq.round_columns

    def watched(weight, *rest):
        seen.append((weight.dtype, torch.is_autocast_enabled(weight.device.type)))
        return whole(weight, *rest)

    monkeypatch.setattr(gptq, "round_columns", watched)
    model = build_model(TINY, CONTEXT, seed=0).eval()
    convert(model, read_mode("ptq-w4-gptq"))
    gptq.round_model(model, calibration())
    assert seen and set(seen) == {(torch.float32, False)}


def test_layers_that_no_damping_helps_are_rounded_to_nearest_and_counted():
    model = build_model(TINY, CONTEXT, seed=0).eval()
    convert(model, mode())
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("layers.1.input_layernorm.weight"):
                weight.zero_()  # queries, keys and values of the second block then read zeros, and its output layer too
    before = {name: layer.rounded_weight().detach().clone() for name, layer in quantized(model)}
    outcomes = gptq.round_model(model, calibration())
    failed = [name for name, outcome in outcomes.items() if outcome.damping is None]
    assert [name.rpartition(".")[2] for name in failed] == ["q_proj", "k_proj", "v_proj", "o_proj"]
    for name, layer in quantized(model):
        assert torch.equal(layer.weight, before[name]) == (name in failed)


def test_inputs_that_are_no_numbers_are_one_line():
    model = build_model(TINY, CONTEXT, seed=0).eval()
    convert(model, mode())
    with torch.no_grad():
        model.get_submodule("model.layers.1.mlp.up_proj").weight[0, 0] = float("nan")
    with pytest.raises(BenchError, match=r"model.layers.1.mlp.down_proj: its inputs .* are not all numbers"):
        gptq.round_model(model, calibration())


def test_rotated_and_rounded_inputs_are_what_the_hessian_is_made_of():
    side = Operand(bits=4, grid="absmax", over="row")
    layer = QuantLinear(nn.Linear(32, 8), mode(hadamard=16, activations=side.model_dump()))
    x = torch.randn(5, 32)
    states, others = [x[None]], {1: ((), {})}
    found = gptq._hessian(nn.Sequential(layer), layer, states, others)
    y = quantize(layer.rotated(x), 4, "absmax")
    torch.testing.assert_close(found, 2 * y.T @ y)


def test_the_same_text_gives_the_same_bits():
    def weights():
        model = build_model(GPT2, CONTEXT, seed=0).eval()
        convert(model, mode())
        gptq.round_model(model, calibration())
        return [layer.weight for _, layer in quantized(model)]

    assert all(torch.equal(a, b) for a, b in zip(weights(), weights(), strict=True))


def test_the_calibration_set_has_its_own_digest_and_a_short_text_is_refused(tmp_path):
    from bench.quantize.calibration import SEQUENCES, calibration_of

    class Text:
        tokens = type("Tokens", (), {"folder": tmp_path})

        def __init__(self, windows):
            self.windows = windows

        def __len__(self):
            return self.windows

        def in_order(self, first, count):
            return torch.arange(count * 5).view(count, 5).numpy() + first

    found = calibration_of(Text(SEQUENCES))
    assert found.tokens_NS.shape == (SEQUENCES, 5)
    assert sum(len(batch) for batch in found.batches(torch.device("cpu"))) == SEQUENCES
    assert found.digest != replace(found, tokens_NS=found.tokens_NS[::-1]).digest
    with pytest.raises(BenchError, match=f"{SEQUENCES - 1} sequences is too short to calibrate on: {SEQUENCES}"):
        calibration_of(Text(SEQUENCES - 1))


@pytest.mark.parametrize(
    ("rows", "columns"), [(16, 48), (40, 24), (7, 160)], ids=str
)  # 160 is more than a block of 128
def test_on_one_layer_gptq_is_nvidia_modelopts(rows, columns):
    """Same Hessian, damping and order of columns. It works in fp32: an entry may fall on the other side of a tie."""
    mtq = pytest.importorskip("modelopt.torch.quantization", reason="needs nvidia-modelopt, of the extra test")
    x, weight = correlated(columns), weight_of((rows, columns))
    layer = nn.Linear(columns, rows, bias=False)
    layer.weight.data.copy_(weight)
    levels, _ = rounded(weight, 2 * x.T @ x)
    config = {
        "quant_cfg": [{"quantizer_name": "*", "enable": False},
                      {"quantizer_name": "*weight_quantizer", "cfg": {"num_bits": 4, "axis": 0, "narrow_range": True}}],
        "algorithm": {"method": "gptq", "perc_damp": 0.01, "block_size": 128},
    }  # fmt: skip
    theirs = mtq.quantize(nn.Sequential(layer), config, lambda model: model(x))[0].weight.detach()
    step = weight.abs().amax(dim=1, keepdim=True) / 7
    assert ((levels - theirs).abs() > 1e-3 * step).double().mean() < 0.01
    assert ((quantize(weight, *RULE) - theirs).abs() > 0.5 * step).double().mean() > 0.1  # nearest is another thing
