"""torchao's integers against ours, up to its stated scale: amax / (2^(b-1) - 1/2), and ours is amax / (2^(b-1) - 1).

A row's extreme value lies on torchao's half step, 7.5 of 4 bits, where the last bit of a quotient decides: it is left
out, and by construction it is the one that ours hits.
"""

import warnings

import pytest
import torch

from bench.mode import read_mode
from bench.quantize.arithmetic import quantize
from bench.quantize.linear import QuantLinear

ao = pytest.importorskip("torchao.quantization", reason="needs the extra torchao, which no other test wants")
DTYPES = {2: torch.int2, 3: torch.int3, 4: torch.int4, 8: torch.int8}


def on_grid(x, scale, low, high):
    """The one formula of both: round to nearest, ties to even, clamped, times the scale."""
    return torch.clamp(torch.round(x / scale), low, high) * scale


def weights(rows, columns):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(rows))


@pytest.mark.parametrize("bits", DTYPES)
@pytest.mark.parametrize(("rows", "columns"), [(48, 16), (16, 48), (8, 33)], ids=str)
def test_weights_of_each_row_agree_up_to_the_stated_scale(bits, rows, columns):
    x, top = weights(rows, columns), 2 ** (bits - 1)
    amax = x.abs().amax(1, keepdim=True)
    linear = torch.nn.Linear(columns, rows, bias=False)
    linear.weight.data.copy_(x)
    config = ao.IntxWeightOnlyConfig(weight_dtype=DTYPES[bits], granularity=ao.PerAxis(0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ao.quantize_(linear, config)
    theirs, inside = linear.weight.dequantize(), x.abs() < amax
    expected = on_grid(x, amax / (top - 0.5), -top, top - 1)
    assert torch.allclose(theirs[inside], expected[inside], rtol=1e-5, atol=1e-6)
    ours = quantize(x, bits, "absmax")
    assert torch.allclose(ours, on_grid(x, amax / (top - 1), 1 - top, top - 1), rtol=1e-5, atol=1e-6)
    assert torch.allclose(ours.abs().amax(1), amax[:, 0], rtol=1e-6)


def test_the_straight_through_gradient_agrees_where_neither_clips():
    from torchao.quantization.qat import IntxFakeQuantizeConfig, IntxFakeQuantizer

    x = weights(16, 48)
    inside = x.abs() < 0.9 * x.abs().amax(1, keepdim=True)
    gradients = []
    fake = IntxFakeQuantizer(IntxFakeQuantizeConfig(torch.int4, granularity=ao.PerAxis(0)))
    for rounded in (fake, lambda w: quantize(w, 4, "absmax", gradient="clip")):
        w = x.clone().requires_grad_()
        (rounded(w) * torch.arange(48.0)).sum().backward()
        gradients.append(w.grad[inside])
    assert torch.allclose(*gradients, rtol=1e-6) and inside.float().mean() > 0.5


def layers():
    """Two like layers of 48 to 16."""
    two = [torch.nn.Sequential(torch.nn.Linear(48, 16, bias=False)) for _ in range(2)]
    for layer in two:
        layer[0].weight.data.copy_(weights(16, 48))
    return two


def test_what_torchao_trains_is_what_it_converts_and_by_the_formula():
    """Weights only: torchao 0.18 refuses to train with symmetric activations per token."""
    from torchao.quantization.qat import IntxFakeQuantizeConfig, QATConfig

    model, x, w = layers()[0], weights(8, 48), weights(16, 48)
    amax = w.abs().amax(1, keepdim=True)
    config = IntxFakeQuantizeConfig(torch.int4, "per_channel", is_symmetric=True)
    ao.quantize_(model, QATConfig(weight_config=config, step="prepare"))
    trained = model(x).detach()
    base = ao.IntxWeightOnlyConfig(weight_dtype=torch.int4, granularity=ao.PerAxis(0))
    ao.quantize_(model, QATConfig(base, step="convert"))
    converted, inside = model[0].weight.dequantize(), w.abs() < amax
    assert torch.allclose(x @ converted.T, trained, rtol=1e-5, atol=1e-5)
    assert torch.allclose(converted[inside], on_grid(w, amax / 7.5, -8, 7)[inside], rtol=1e-5, atol=1e-6)


def test_a_layer_of_int8_products_agrees_up_to_the_stated_scale():
    """W8A8 by integer products; its scales are amax / 127.5, ours amax / 127."""
    model, ours = layers()
    ao.quantize_(model, ao.Int8DynamicActivationInt8WeightConfig())
    ours[0] = QuantLinear(ours[0], read_mode("ptq-w8a8"))
    with torch.no_grad():
        theirs, output, exact = (net(weights(8, 48)) for net in (model, ours, layers()[0]))
    for rounded, other in ((theirs, output), (theirs, exact), (output, exact)):
        assert 0 < (rounded - other).abs().max() < 0.05 * exact.std()
