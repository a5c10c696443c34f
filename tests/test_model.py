"""Models and roles: the same start for everyone, every parameter in one part, one loss however it is cut."""

from pathlib import Path

import pytest
import torch

from bench import model as models
from bench.battery.tiny import CONTEXT, TINY, batch_at
from bench.facts import weights_digest
from bench.model import build_model, sequence_losses
from bench.roles import roles_of
from bench.task import read_task

TASKS = sorted((Path(__file__).parents[1] / "tasks").glob("*.toml"))


def test_a_seed_gives_the_same_weights_whatever_happened_before():
    first = weights_digest(build_model(TINY, CONTEXT, seed=3))
    torch.rand(5)
    assert weights_digest(build_model(TINY, CONTEXT, seed=3)) == first != weights_digest(build_model(TINY, CONTEXT, 4))


def test_building_a_model_leaves_the_global_generator_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    build_model(TINY, CONTEXT, seed=7)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("path", TASKS, ids=lambda path: path.stem)
def test_a_task_s_parameter_count_is_its_model_s(path):
    task = read_task(path)
    with torch.device("meta"):
        roles = roles_of(build_model(task.model, task.training.context, seed=0))
    assert sum(w.numel() for w in roles.matrices) == task.matrix_parameters
    assert {w.dtype for w in roles.all} == {torch.float32}


@pytest.mark.parametrize("tied", [True, False])
def test_every_parameter_has_one_role_and_a_tied_head_is_the_embedding(tied):
    model = build_model(TINY.model_copy(update={"tied": tied}), CONTEXT, seed=0)
    roles = roles_of(model)
    assert len(roles.all) == len(set(roles.all)) == len(set(model.parameters()))
    assert len(roles.head) == (0 if tied else 1)
    assert {w.ndim for w in roles.vectors} == {1}
    assert all(sum(matrix.blocks) == matrix.weight.shape[0] for matrix in roles.hidden)


def test_the_residual_side_of_a_matrix_is_as_wide_as_the_stream():
    for matrix in roles_of(build_model(TINY, CONTEXT, seed=0)).hidden:
        side = 0 if matrix.residual == "out" else 1
        assert matrix.weight.shape[side] == TINY.width
        other = {"gate_proj": 0, "up_proj": 0, "down_proj": 1}.get(matrix.part)
        assert other is None or matrix.weight.shape[other] == TINY.ffn


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_both_attentions_are_the_same_function_up_to_rounding(attention):
    model = build_model(TINY.model_copy(update={"attention": attention}), CONTEXT, seed=0)
    other = build_model(TINY, CONTEXT, seed=0)
    torch.testing.assert_close(
        sequence_losses(model, batch_at(0)), sequence_losses(other, batch_at(0)), rtol=2e-3, atol=0
    )


def test_logits_made_in_pieces_give_the_same_loss_and_gradients(monkeypatch):
    results = []
    for limit in (8192, 1):
        monkeypatch.setattr(models, "LARGE_VOCABULARY", limit)
        monkeypatch.setattr(models, "PIECE_TOKENS", 40)
        model = build_model(TINY, CONTEXT, seed=0)
        losses = sequence_losses(model, batch_at(0))
        losses.mean().backward()
        results.append((losses.detach(), [w.grad for w in model.parameters()]))
    torch.testing.assert_close(results[0][0], results[1][0])
    for whole, pieces in zip(results[0][1], results[1][1], strict=True):
        assert (whole - pieces).norm() < 1e-2 * whole.norm()  # bf16 sums in another order: 2^-8 each


def test_activation_checkpointing_changes_no_gradient():
    gradients = []
    for checkpointing in (False, True):
        model = build_model(TINY, CONTEXT, 0, checkpointing).train()
        sequence_losses(model, batch_at(0)).mean().backward()
        gradients.append([w.grad for w in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_a_token_after_the_one_predicted_changes_no_earlier_loss():
    model = build_model(TINY, CONTEXT, seed=0)
    tokens = batch_at(0)[:1, :9]
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        before = model(input_ids=tokens).logits
        changed = tokens.clone()
        changed[0, 8] = (changed[0, 8] + 1) % 16
        after = model(input_ids=changed).logits
    assert torch.equal(before[:, :8], after[:, :8]) and not torch.equal(before[:, 8], after[:, 8])
