"""HAWQ-V2: traces against the Hessian written out, bits against every choice there is."""

import copy
import itertools
import random
from functools import cache

import numpy as np
import pytest
import torch

from bench.battery.tiny import CONTEXT, TINY, batch_at
from bench.errors import BenchError
from bench.mode import Mode, read_mode
from bench.model import build_model
from bench.quantize import hawq
from bench.quantize.arithmetic import quantize
from bench.quantize.calibration import Calibration
from bench.quantize.linear import expected
from bench.spec import validate

SMALL = TINY.model_copy(update={"layers": 1, "width": 4, "ffn": 6, "vocabulary": 16, "padded_vocabulary": 16})
FAMILIES = pytest.mark.parametrize("spec", [SMALL, SMALL.model_copy(update={"family": "gpt2"})], ids=["llama", "gpt2"])


@cache
def trained(family):
    """A model in float64 after a few steps on one sequence: near a minimum, where traces are positive."""
    model = build_model(SMALL.model_copy(update={"family": family}), CONTEXT, seed=0).double().eval()
    optimizer, tokens = torch.optim.Adam(model.parameters(), lr=3e-2), torch.from_numpy(one_sequence().tokens_NS)
    for _ in range(60):
        optimizer.zero_grad()
        loss_of(model, tokens).backward()
        optimizer.step()
    return model


def model_of(spec):
    return copy.deepcopy(trained(spec.family))


def loss_of(model, tokens):
    logits = model(input_ids=tokens[:, :-1]).logits
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


def one_sequence():
    return Calibration(batch_at(0)[:1].numpy())


def hessian_of(model, weights, tokens):
    """The Hessian of the mean loss over all the weights, a row for each derivative."""
    flat = torch.cat([g.flatten() for g in torch.autograd.grad(loss_of(model, tokens), weights, create_graph=True)])
    rows = [torch.cat([h.flatten() for h in torch.autograd.grad(g, weights, retain_graph=True)]) for g in flat]
    return torch.stack(rows).detach()


@FAMILIES
def test_a_draw_is_the_quadratic_form_of_the_hessian_written_out(spec):
    model = model_of(spec)
    weights = [model.get_submodule(name).weight for name in expected(model)]
    hessian = hessian_of(model, weights, torch.from_numpy(one_sequence().tokens_NS))
    generator = torch.Generator().manual_seed(3)
    signs = [hawq._signs(w, generator) for w in weights]
    assert {float(v) for sign in signs for v in sign.flatten()} == {-1.0, 1.0}
    flat = torch.cat([sign.flatten() for sign in signs])
    parts = (flat * (hessian @ flat)).split([w.numel() for w in weights])
    tokens = torch.from_numpy(one_sequence().tokens_NS)
    found = list(hawq.quadratic_forms(model, weights, tokens, torch.Generator().manual_seed(3)))
    np.testing.assert_allclose(found, [float(part.sum()) for part in parts], rtol=1e-5, atol=1e-5)


@FAMILIES
def test_the_mean_over_draws_comes_to_the_trace_of_the_hessian_written_out(spec):
    model = model_of(spec)
    names = expected(model)
    weights = [model.get_submodule(name).weight for name in names]
    hessian = hessian_of(model, weights, torch.from_numpy(one_sequence().tokens_NS))
    blocks = [slice(end - w.numel(), end) for w, end in
              zip(weights, itertools.accumulate(w.numel() for w in weights), strict=True)]  # fmt: skip
    draws, told = 200, 0
    found = hawq.mean_traces(model, names, one_sequence(), draws=draws, tolerance=0.0)
    assert found.draws == draws
    for name, w, rows in zip(names, weights, blocks, strict=True):
        exact = float(hessian[rows, rows].trace())
        symmetric = (hessian[rows] + hessian[:, rows].T) / 2  # the variance of v_i . (H v)_i, off its diagonal
        spread = 2 * float(symmetric[:, rows].square().sum() - symmetric[:, rows].diagonal().square().sum())
        spread += float(hessian[rows].square().sum() - hessian[rows, rows].square().sum())
        error = 5 * (spread / draws) ** 0.5 / w.numel()
        assert abs(found.mean[name] - max(0.0, exact / w.numel())) <= error
        told += exact / w.numel() > error
    assert told >= len(names) // 2  # traces that are more than the error allowed


def test_draws_end_where_the_means_stand_still_and_repeat_with_their_seed():
    model, names = model_of(SMALL), expected(model_of(SMALL))
    calibration = Calibration(batch_at(0).numpy())
    loose = hawq.mean_traces(model, names, calibration, tolerance=0.2)
    assert 2 <= loose.draws < 100
    assert hawq.mean_traces(model, names, calibration, tolerance=0.2) == loose
    assert hawq.mean_traces(model, names, calibration, tolerance=0.2, seed=1) != loose
    assert hawq.mean_traces(model, names, calibration, draws=3, tolerance=0.0).draws == 3


def test_negative_traces_are_taken_as_zero_and_counted(monkeypatch):
    model, names = model_of(SMALL), expected(model_of(SMALL))
    monkeypatch.setattr(hawq, "quadratic_forms", lambda *a: iter([-1.0, *range(1, len(names))]))
    found = hawq.mean_traces(model, names, one_sequence())
    assert found.negative == 1 and found.mean[names[0]] == 0.0 and found.mean[names[1]] > 0
    assert found.draws == 2


def test_curvature_that_is_no_number_is_one_line():
    model = model_of(SMALL)
    with torch.no_grad():
        model.get_submodule("model.layers.0.mlp.up_proj").weight[0, 0] = float("inf")
    with pytest.raises(BenchError, match="the curvature of the loss on the calibration text is no number"):
        hawq.mean_traces(model, expected(model), one_sequence())


@pytest.mark.parametrize("seed", range(30))
def test_the_knapsack_finds_what_trying_everything_finds(seed):
    rng = random.Random(seed)
    candidates = rng.sample([2, 3, 4, 5, 8], 3)
    sizes = [rng.choice([6, 9, 12, 15, 30]) for _ in range(5)]
    costs = [[rng.random() / 2**bits for bits in candidates] for _ in sizes]
    average = rng.uniform(min(candidates), max(candidates) + 0.5)
    chosen = hawq.knapsack(costs, sizes, candidates, average)
    budget = average * sum(sizes)

    def cost(bits):
        return sum(own[candidates.index(b)] for own, b in zip(costs, bits, strict=True))

    def used(bits):
        return sum(size * b for size, b in zip(sizes, bits, strict=True))

    fitting = [bits for bits in itertools.product(candidates, repeat=len(sizes)) if used(bits) <= budget + 1e-6]
    assert used(chosen) <= budget + 1e-6
    assert cost(chosen) == pytest.approx(min(map(cost, fitting)))


def test_layers_that_cost_nothing_get_the_fewest_bits_and_a_budget_below_them_is_one_line():
    assert hawq.knapsack([[0.0, 0.0], [1.0, 0.1]], [4, 4], [2, 8], 8.0) == [2, 8]
    with pytest.raises(BenchError, match=r"average_bits 1\.5 is less than the fewest candidate_bits, 2"):
        hawq.knapsack([[0.0, 0.0]], [4], [2, 8], 1.5)


@FAMILIES
@pytest.mark.parametrize("name", ["ptq-mixed-4", "ptq-mixed-3"])
def test_the_bits_chosen_keep_the_average_and_cost_no_more_than_the_same_for_all(spec, name):
    mode, model = read_mode(name), model_of(spec).float()
    choice = hawq.choose_bits(model, mode, Calibration(batch_at(0).numpy()))
    layers = {name: model.get_submodule(name) for name in expected(model)}
    assert list(choice.bits) == list(layers) and set(choice.bits.values()) <= {2, 3, 4, 8}
    assert choice.average <= mode.average_bits
    total = sum(layer.weight.numel() for layer in layers.values())
    assert choice.average == sum(layers[n].weight.numel() * b for n, b in choice.bits.items()) / total

    def omega(bits):
        return sum(
            choice.traces.mean[n] * float((quantize(w.weight, bits[n], "absmax") - w.weight).detach().square().sum())
            for n, w in layers.items()
        )

    assert omega(choice.bits) <= omega(dict.fromkeys(layers, int(mode.average_bits)))


def test_where_no_trace_is_above_zero_the_budget_is_spent_all_the_same(monkeypatch):
    model = model_of(SMALL).float()
    none = hawq.Traces(dict.fromkeys(expected(model), 0.0), 1, len(expected(model)))
    monkeypatch.setattr(hawq, "mean_traces", lambda *arguments: none)
    choice = hawq.choose_bits(model, read_mode("ptq-mixed-4"), one_sequence())
    assert 3.5 < choice.average <= 4.0 and 8 not in choice.bits.values()


def test_bits_are_told_a_digit_a_block():
    bits = {
        "model.layers.0.mlp.up": 2,
        "model.layers.0.attn.o": 8,
        "model.layers.1.mlp.up": 3,
        "model.layers.1.attn.o": 4,
    }
    assert hawq.by_part(bits) == {"mlp.up": "23", "attn.o": "84"}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"candidate_bits": []}, "candidate_bits must be different widths"),
        ({"candidate_bits": [4, 4]}, "candidate_bits must be different widths"),
        ({"candidate_bits": [4, 8], "average_bits": 3.0}, "average_bits 3 is below the least of candidate_bits, 4"),
    ],
)
def test_a_mixed_mode_that_cannot_be_is_refused_where_its_file_is_read(changed, said):
    table = {**read_mode("ptq-mixed-4").model_dump(mode="json", exclude_none=True), **changed}
    with pytest.raises(BenchError, match=said):
        validate(table, Mode, "mixed")
