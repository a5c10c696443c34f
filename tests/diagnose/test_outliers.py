"""Outliers: worked by hand, on distributions whose values are known, and the same however rows are cut into pieces."""

import math
from dataclasses import astuple

import pytest
import torch

from bench.battery.tiny import CONTEXT, TINY, batch_at
from bench.diagnose.layers import place_of, significant
from bench.diagnose.outliers import Tally, activation_outliers, by_part, outliers_of, weight_outliers
from bench.model import build_model
from bench.quantize.linear import expected

GPT2 = TINY.model_copy(update={"family": "gpt2"})
FAMILIES = pytest.mark.parametrize("spec", [TINY, GPT2], ids=["llama", "gpt2"])


def normal(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_two_rows_by_hand():
    found = outliers_of(torch.tensor([[1.0, -2.0, 4.0, 1.0, -2.0], [0.0, 3.0, -3.0, 6.0, 3.0]]))
    assert found.max_over_mean == pytest.approx((4 / 2 + 6 / 3) / 2)
    assert found.max_over_median == pytest.approx((4 / 2 + 6 / 3) / 2)
    entries = torch.tensor([1.0, -2, 4, 1, -2, 0, 3, -3, 6, 3], dtype=torch.float64)
    centred = entries - entries.mean()
    assert found.kurtosis == pytest.approx(float((centred**4).mean() / (centred**2).mean() ** 2) - 3)
    squares = torch.tensor([1, 13, 25, 37, 13], dtype=torch.float64) / 2
    assert found.feature_kurtosis == pytest.approx(float((squares**2).mean() / squares.mean() ** 2))
    assert found.left_out == 0


def test_a_gaussian_has_no_excess_and_the_ratios_of_its_maximum():
    found, width = outliers_of(normal(2000, 512)), 512
    assert abs(found.kurtosis) < 0.02
    assert found.feature_kurtosis == pytest.approx(1, abs=0.01)
    assert found.max_over_mean == pytest.approx(math.sqrt(math.pi * math.log(width)), rel=0.1)
    assert found.max_over_median == pytest.approx(math.sqrt(2 * math.log(width)) / 0.6745, rel=0.1)


def test_one_feature_that_holds_everything_has_the_width_as_its_kurtosis():
    hot = torch.zeros(100, 64)
    hot[:, 7] = normal(100)
    found = outliers_of(hot)
    assert found.feature_kurtosis == pytest.approx(64)
    assert found.kurtosis > 100
    assert found.max_over_mean == pytest.approx(64)
    assert found.max_over_median is None and found.left_out == 1


def test_a_distribution_of_two_values_has_the_least_kurtosis_and_ratios_of_one():
    found = outliers_of(torch.tensor([[3.0, -3.0], [-3.0, 3.0]]))
    assert astuple(found) == pytest.approx((1, 1, -2, 1, 0))


def test_rows_of_zeros_count_in_no_ratio():
    x = normal(8, 32)
    padded = torch.cat([x, torch.zeros(8, 32)])
    assert outliers_of(padded).max_over_median == pytest.approx(outliers_of(x).max_over_median)
    assert outliers_of(padded).left_out == 0.5
    assert astuple(outliers_of(torch.zeros(3, 4))) == (None, None, None, None, 1)


def test_equal_entries_have_no_kurtosis_instead_of_one_made_of_rounding():
    assert outliers_of(torch.full((30, 7), 0.1)).kurtosis is None


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_no_quantity_depends_on_the_scale_or_the_order_of_rows(scale):
    x = normal(64, 48)
    assert astuple(outliers_of(x.flip(0) * scale)) == pytest.approx(astuple(outliers_of(x)), rel=1e-5)


def test_pieces_give_what_the_whole_gives():
    x, tally = normal(90, 2, 24).exp(), Tally()
    for piece in x.split([1, 30, 59]):
        tally.add(piece)
    assert astuple(tally.outliers()) == pytest.approx(astuple(outliers_of(x)), rel=1e-12)


@FAMILIES
def test_activations_are_the_inputs_of_the_blocks_layers_over_all_batches(spec):
    model, batches = build_model(spec, CONTEXT, seed=0), [batch_at(0), batch_at(1)]
    found = activation_outliers(model, batches)
    assert list(found) == expected(model) == list(weight_outliers(model))
    name, norm = (
        next(iter(found)),
        model.get_submodule("model.layers.0.input_layernorm" if spec.family == "llama" else "transformer.h.0.ln_1"),
    )
    tokens = torch.cat(batches)[:, :-1]
    with torch.no_grad():
        start = model.get_input_embeddings()(tokens)
        if spec.family == "gpt2":
            start = start + model.transformer.wpe.weight[: tokens.shape[1]]
        assert astuple(found[name]) == pytest.approx(astuple(outliers_of(norm(start))), rel=1e-4)


def test_looking_leaves_no_hook_and_no_other_state_behind():
    model = build_model(TINY, CONTEXT, seed=0).train()
    weights = {name: weight.clone() for name, weight in model.state_dict().items()}
    activation_outliers(model, [batch_at(0)])
    assert model.training and not any(module._forward_pre_hooks for module in model.modules())
    assert all(torch.equal(weights[name], weight) for name, weight in model.state_dict().items())


def test_rotation_spreads_an_outlier_feature():
    model = build_model(TINY, CONTEXT, seed=0)
    name = expected(model)[0]
    with torch.no_grad():
        model.get_submodule(name).weight[:, 3] *= 100
    plain, turned = weight_outliers(model)[name], weight_outliers(model, hadamard=32)[name]
    assert plain.feature_kurtosis > 30 and turned.feature_kurtosis < 1.5
    assert turned.max_over_mean < 2 < plain.max_over_mean


def test_a_record_holds_four_digits_for_each_block():
    model = build_model(TINY, CONTEXT, seed=0)
    found = weight_outliers(model)
    table = by_part(found)
    assert set(table) == {place_of(name)[1] for name in found} and "mlp.down_proj" in table
    for name, outliers in found.items():
        block, part = place_of(name)
        kept = table[part]["kurtosis"]
        assert len(kept) == TINY.layers
        assert kept[block] == pytest.approx(outliers.kurtosis, rel=1e-3) and len(f"{abs(kept[block]):.9g}") <= 8
    assert significant(123456.0) == 123500 and significant(float("nan")) is significant(None) is None


def test_a_place_is_the_block_and_the_name_inside_it():
    assert place_of("transformer.h.11.mlp.c_fc") == (11, "mlp.c_fc")
    assert place_of("model.norm") == (None, "norm")
