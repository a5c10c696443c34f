"""How logits change along a direction: to rounding the derivative, in the way that the model allows, or an error."""

import pytest
import torch

from bench.along import Along, weights_at
from bench.battery.tiny import BATCH, CONTEXT, TINY, batch_at
from bench.model import build_model


def test_the_derivative_of_the_logits_is_that_of_float64_differences():
    """Of a GPT-2, whose norms are taken in float64 where its weights are; a LLaMA's are fp32 whatever comes."""
    spec, h, ends = TINY.model_copy(update={"family": "gpt2"}), 1e-6, []
    model, inputs = build_model(spec, CONTEXT, 0), batch_at(0)[:2, :-1]
    line = {w: torch.randn(w.shape, generator=torch.Generator().manual_seed(3)) for w in model.parameters()}
    mine = Along(model)(inputs, line, lambda a: a)
    model.double()
    for sign in (1, -1):
        with torch.no_grad(), weights_at({w: w + sign * h * v for w, v in line.items()}):
            ends.append(model(input_ids=inputs).logits)
    torch.testing.assert_close(mine.double(), (ends[0] - ends[1]) / (2 * h), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("attention, way", [("eager", "forward mode"), ("sdpa", "forward mode, math attention")])
def test_attention_without_forward_mode_is_written_out_and_the_way_is_told(attention, way):
    model = build_model(TINY.model_copy(update={"attention": attention}), CONTEXT, 0)
    found, line = Along(model), {w: torch.ones_like(w) for w in model.parameters()}
    assert found(batch_at(0)[:, :-1], line, lambda a: a.amax(-1)).shape == (BATCH, CONTEXT)
    assert found.way == way


def test_a_derivative_that_fails_for_another_reason_says_so_and_no_way_is_taken_for_it():
    """A tangent of another shape than its weight's: differences would broadcast it, at twice the charge."""
    model = build_model(TINY, CONTEXT, 0)
    found = Along(model)
    with pytest.raises(RuntimeError, match="a different size than that of the original"):
        found(batch_at(0)[:, :-1], {next(model.parameters()): torch.ones(())}, lambda a: a)
    assert found.way is None
