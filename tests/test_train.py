"""The loop: what it must do with numbers that are none, with batches, clipping and chains."""

import hashlib
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bench.battery.tiny import BATCH, CONTEXT, Tiny, batch_at
from bench.clock import Clock
from bench.entry import Entry
from bench.train import Diverged, train

ADAMW = Entry(Path(__file__).parents[1] / "baselines/adamw/adamw.toml")


def go(tiny: Tiny, **changed):
    train(tiny.parts, replace(tiny.course, **changed), tiny.progress, Clock(), lambda must: None, lambda progress: None)
    return tiny.progress


def test_a_loss_that_is_no_number_ends_the_run_at_its_step():
    tiny = Tiny(ADAMW, steps=24)
    honest, calls = tiny.parts.losses_of, []

    def losses_of(tokens):
        calls.append(1)
        return honest(tokens) * (math.nan if len(calls) == 7 else 1.0)

    tiny.parts = replace(tiny.parts, losses_of=losses_of)
    with pytest.raises(Diverged, match="at step 7"):
        tiny.train()
    assert tiny.progress.step == 7
    assert len(tiny.progress.losses) == 7


def stepping(tiny: Tiny, step) -> Tiny:
    """Have the entry's optimizer step by a function instead."""
    tiny.own[0].step = step
    return tiny


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_linear_algebra_that_raises_on_a_gradient_that_is_no_number_is_a_run_that_diverged(number):
    tiny, raised = Tiny(ADAMW, steps=24), []

    def step():
        for w in tiny.roles.matrices:
            try:
                torch.linalg.cholesky(torch.eye(len(w), device=w.device) + w.grad @ w.grad.mT)
            except torch.linalg.LinAlgError as error:
                raised.append(error)
                raise

    broken = iter([1.0] * 6 + [number] * 18)
    tiny.roles.matrices[0].register_hook(lambda gradient: gradient * next(broken))
    with pytest.raises(Diverged, match="at step 7"):
        stepping(tiny, step).train()
    assert raised and tiny.progress.step == 7


def test_a_step_that_fails_on_good_numbers_fails():
    def step():
        raise KeyError("oops")

    with pytest.raises(KeyError, match="oops"):
        stepping(Tiny(ADAMW, steps=24), step).train()


def test_the_data_chain_is_the_digest_of_the_batches_in_order():
    progress = go(Tiny(ADAMW, steps=3))
    chain = b""
    for step in range(3):
        batch = hashlib.sha256(batch_at(step).numpy().tobytes()).digest()
        chain = hashlib.sha256(chain + batch).digest()
    assert progress.data_chain == chain.hex()


def test_the_loss_chain_sees_the_last_bit_of_a_loss():
    first, second = Tiny(ADAMW, steps=4), Tiny(ADAMW, steps=4)
    honest = second.parts.losses_of
    second.parts = replace(second.parts, losses_of=lambda tokens: honest(tokens) * (1 + 2**-23))
    assert go(first).data_chain == go(second).data_chain
    assert first.progress.loss_chain != second.progress.loss_chain


def test_micro_batches_give_the_gradient_of_the_whole_batch():
    whole, parts = go(Tiny(ADAMW, steps=1)), go(Tiny(ADAMW, steps=1), micro_batch=2)
    assert whole.losses[0] == pytest.approx(parts.losses[0], rel=1e-6)
    assert whole.norms[0] == pytest.approx(parts.norms[0], rel=2e-2)  # bf16 products of other shapes


def test_the_recorded_norm_is_that_before_clipping_and_the_step_that_after():
    loose, tight = Tiny(ADAMW, steps=1), Tiny(ADAMW, steps=1)
    assert go(loose, clip=None).norms == go(tight, clip=1e-3).norms
    generous = go(Tiny(ADAMW, steps=1), clip=1e6)
    assert generous.loss_chain == loose.progress.loss_chain
    sgd = Entry(Path(__file__).parents[1] / "baselines/sgd/sgd.toml")
    moves = []
    for clip in (1e-2, 2e-2):
        tiny = Tiny(sgd, steps=1, values={"weight_decay": 0.0})
        before = tiny.bits()
        go(tiny, clip=clip)
        moves.append(math.sqrt(sum((a - b).square().sum().item() for a, b in zip(before, tiny.bits(), strict=True))))
    assert moves[1] == pytest.approx(2 * moves[0], rel=1e-3)


def test_milestones_are_few_and_some_carry_the_size_of_a_step():
    progress = go(Tiny(ADAMW, steps=600))
    assert 200 <= len(progress.milestones) <= 256
    sizes = [m["update_rms"] for m in progress.milestones if m["update_rms"]]
    assert 10 <= len(sizes) <= 20
    assert all(set(size) == {"hidden", "embedding", "vectors"} and min(size.values()) > 0 for size in sizes)


def test_the_curve_starts_at_zero_tokens_and_ends_at_the_budget():
    progress = go(Tiny(ADAMW, steps=10), curve_every=4)
    assert [point["tokens"] // (BATCH * CONTEXT) for point in progress.curve] == [0, 4, 8, 10]


def test_the_schedule_reaches_every_group_of_every_optimizer():
    tiny = Tiny(Entry(Path(__file__).parents[1] / "baselines/muon/muon.toml"), steps=10)
    go(tiny)
    last = tiny.course.multiplier(9 * tiny.course.batch_tokens)
    for optimizer, peaks in zip(tiny.optimizers, tiny.parts.peaks, strict=True):
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            assert group["lr"] == pytest.approx(peak * last)
    assert 0 < last < 0.2


def test_gradients_are_dropped_between_steps():
    tiny = Tiny(ADAMW, steps=2)
    go(tiny)
    assert all(w.grad is None for w in tiny.model.parameters())
    assert torch.isfinite(torch.tensor(tiny.progress.losses)).all()
