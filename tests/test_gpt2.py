"""GPT-2: the same function with its matrices the right way round, and back again for everybody else."""

import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from bench.battery.tiny import CONTEXT, TINY, batch_at
from bench.model import build_model, export_model, linear_of
from bench.roles import roles_of

GPT2 = TINY.model_copy(update={"family": "gpt2"})
FAMILIES = pytest.mark.parametrize("spec", [GPT2, TINY, TINY.model_copy(update={"tied": False})],
                                   ids=["gpt2", "llama", "llama untied"])  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_conv1d_and_its_linear_are_one_function_to_the_bit(dtype):
    torch.manual_seed(0)
    conv = Conv1D(192, 64)
    linear = linear_of(conv)
    x = torch.randn(5, 16, 64)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        assert torch.equal(conv(x), linear(x))


def test_the_fused_matrix_is_three_blocks_and_positions_are_an_embedding():
    roles = roles_of(build_model(GPT2, CONTEXT, seed=0))
    blocks = {matrix.part: matrix.blocks for matrix in roles.hidden}
    assert blocks["c_attn"] == (32, 32, 32) and blocks["c_fc"] == (64,)
    assert {tuple(w.shape) for w in roles.embedding} == {(32, 32), (CONTEXT, 32)}
    assert not roles.head and len(roles.all) == len(set(build_model(GPT2, CONTEXT, 0).parameters()))
    residual = {(matrix.part, tuple(matrix.weight.shape)): matrix.residual for matrix in roles.hidden}
    assert residual["c_proj", (32, 64)] == "out" and residual["c_fc", (64, 32)] == "in"


@FAMILIES
def test_an_exported_model_opens_elsewhere_with_equal_logits(tmp_path, spec):
    model = build_model(spec, CONTEXT, seed=1)
    export_model(model, tmp_path)
    opened = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation=spec.attention)
    tokens = batch_at(0)[:, :-1]
    with torch.no_grad():
        assert torch.equal(model(input_ids=tokens).logits, opened(input_ids=tokens).logits)
