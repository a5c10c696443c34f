"""The probe: what its calls return, what they cost, and that a run that makes them resumes and replays to the bit."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch.optim import SGD

from bench import checkpoint
from bench.battery.ranks import Together
from bench.battery.tiny import BATCH, CONTEXT, DEVICE, Tiny, batch_at, equal
from bench.entry import Entry
from bench.errors import BenchError
from bench.facts import extra_passes
from bench.model import sampled_losses, sequence_losses
from bench.probe import Batch, Means, Probe

SGD_ENTRY = Entry(Path(__file__).parents[1] / "baselines/sgd/sgd.toml")
TOKENS = BATCH * CONTEXT


def means_of(tiny: Tiny, **changed) -> Means:
    return replace(tiny.means(), **changed)


@pytest.fixture
def tiny() -> Tiny:
    return Tiny(SGD_ENTRY)


def opened(probe: Probe, left: int = BATCH, step: int = 0):
    return probe.on(Batch(step, batch_at(step).to(DEVICE), left))


def own_gradient(tiny: Tiny, tokens: torch.Tensor) -> dict:
    loss = sequence_losses(tiny.model, tokens.to(DEVICE)).mean()
    return dict(zip(tiny.roles.all, torch.autograd.grad(loss, tiny.roles.all), strict=True))


def same(mine: dict, theirs: dict) -> bool:
    return mine.keys() == theirs.keys() and all(torch.equal(mine[w], theirs[w]) for w in mine)


def close(mine: dict, theirs: dict, far: float) -> bool:
    return all((mine[w] - theirs[w]).norm() <= far * theirs[w].norm() for w in theirs)


def charged(probe: Probe) -> dict[str, float]:
    return {kind: calls["token_thirds"] / 3 / TOKENS for kind, calls in probe.told()["calls"].items()}


def test_its_gradient_is_the_loop_s_and_leaves_none_behind(tiny):
    probe = Probe(means_of(tiny), {})
    with opened(probe):
        assert same(probe.gradient(), own_gradient(tiny, batch_at(0)))
    assert all(w.grad is None for w in tiny.model.parameters())
    assert charged(probe) == {"gradient": 1.0}


def test_a_gradient_at_other_weights_is_taken_there_and_the_weights_come_back_to_the_bit(tiny):
    before, other = tiny.bits(), {w: w.detach() + 0.1 for w in tiny.roles.matrices}
    probe = Probe(means_of(tiny), {})
    with opened(probe):
        there = probe.gradient(at=other)
    assert all(torch.equal(a, b) for a, b in zip(before, tiny.bits(), strict=True))
    with torch.no_grad():
        for w, value in other.items():
            w.copy_(value)
    assert same(there, own_gradient(tiny, batch_at(0)))


def test_a_clipped_gradient_has_the_task_s_norm(tiny):
    probe = Probe(means_of(tiny, clip=1e-2), {})
    with opened(probe):
        assert torch.nn.utils.get_total_norm(list(probe.gradient(clipped=True).values())).item() == pytest.approx(1e-2)


def test_groups_of_sequences_have_the_gradients_of_their_own_losses(tiny):
    probe = Probe(means_of(tiny), {})
    with opened(probe):
        found = list(probe.group_gradients(4))
    assert len(found) == 4 and charged(probe) == {"group_gradients": 1.0}
    for mine, tokens in zip(found, batch_at(0).chunk(4), strict=True):
        assert same(mine, own_gradient(tiny, tokens))


def test_rows_of_the_jacobian_are_the_gradients_of_each_sequence_s_residual(tiny):
    probe = Probe(means_of(tiny), {})
    with opened(probe):
        residuals, rows = probe.sequence_jacobian(lambda loss: loss.sqrt())
    for place, tokens in enumerate(batch_at(0).split(1)):
        loss = sequence_losses(tiny.model, tokens.to(DEVICE)).sum()
        assert residuals[place].item() == pytest.approx(loss.sqrt().item(), rel=1e-6)
        theirs = {w: g / (2 * loss.sqrt()) for w, g in own_gradient(tiny, tokens).items()}
        assert close({w: row[place] for w, row in rows.items()}, theirs, 2e-2)  # of bf16 products
    assert charged(probe) == {"sequence_jacobian": 1.0}


def test_labels_are_drawn_from_the_model_and_a_step_draws_the_same_again(tiny):
    """At the model's own labels the gradient's mean over draws is zero, so its size falls with their number."""
    probe, again = Probe(means_of(tiny), {}), Probe(means_of(tiny), {})
    with opened(probe), opened(again):
        first, other, repeated = probe.sampled_gradient(), probe.sampled_gradient(), again.sampled_gradient()
    assert same(first, repeated) and not same(first, other)
    with opened(probe):
        draws = [torch.cat([g.flatten() for g in probe.sampled_gradient().values()]) for _ in range(64)]
    one = torch.stack([draw.norm() for draw in draws]).mean()
    assert torch.stack(draws).mean(dim=0).norm() / one == pytest.approx(64**-0.5, rel=0.2)


def test_drawn_labels_follow_the_model_s_probabilities(monkeypatch, tiny):
    tokens, seen = batch_at(0)[:1, :3].to(DEVICE), []
    with torch.autocast(DEVICE.type, dtype=torch.bfloat16), torch.no_grad():
        wanted = tiny.model(input_ids=tokens[:, :-1]).logits.float().softmax(-1)[0, -1]
    honest = sampled_losses.__globals__["_token_losses"]
    monkeypatch.setitem(
        sampled_losses.__globals__, "_token_losses", lambda h, head, y: seen.append(y) or honest(h, head, y)
    )
    count = 4096
    uniform = torch.rand(count, 2, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    with torch.no_grad():
        sampled_losses(tiny.model, tokens.expand(count, 3), uniform)
    shares = torch.bincount(seen[0][:, -1], minlength=len(wanted)) / count
    assert (shares - wanted).abs().max() < 5 * (wanted.max() / count).sqrt()


def directions(tiny: Tiny) -> dict:
    generator = torch.Generator().manual_seed(3)
    return {w: torch.randn(w.shape, generator=generator).to(DEVICE) for w in tiny.roles.all}


class Opaque(torch.autograd.Function):
    """The identity, without a forward-mode rule."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, g):
        return g


def test_where_nothing_has_forward_mode_differences_are_taken_and_charged_twice(tiny):
    exact, probe, line = Probe(means_of(tiny), {}), Probe(means_of(tiny), {}), directions(tiny)
    with opened(exact):
        theirs = exact.logits_along(line, lambda a: a.amax(-1) - a.amin(-1))
    tiny.model.base_model.norm.register_forward_hook(lambda module, inputs, output: Opaque.apply(output))
    with opened(probe):
        mine = probe.logits_along(line, lambda a: a.amax(-1) - a.amin(-1))
    assert probe.told()["way"] == "finite differences"
    assert (mine - theirs).norm() < 1e-3 * theirs.norm()
    assert charged(exact) == {"logits_along": 1 / 3} and charged(probe) == {"logits_along": 2 / 3}


def test_a_mode_that_rounds_has_no_derivative_along_a_step(tiny):
    probe = Probe(means_of(tiny, rounds=True), {})
    with opened(probe), pytest.raises(BenchError, match="a mode that rounds"):
        probe.logits_along(directions(tiny), lambda a: a)


def test_calls_outside_of_step_are_refused(tiny):
    probe = Probe(means_of(tiny), {})
    with opened(probe):
        probe.gradient()
    later = {
        "gradient": probe.gradient, "sampled_gradient": probe.sampled_gradient,
        "fresh_gradient": lambda: probe.fresh_gradient(BATCH),
        "group_gradients": lambda: next(probe.group_gradients(2)), "sequences": lambda: probe.sequences,
        "sequence_jacobian": lambda: probe.sequence_jacobian(torch.sqrt),
        "logits_along": lambda: probe.logits_along({}, lambda a: a),
    }  # fmt: skip
    for name, call in later.items():
        with pytest.raises(BenchError, match=rf"probe\.{name} was asked for outside of step\(\)"):
            call()


@pytest.mark.parametrize("ask, message", [
    (lambda probe: list(probe.group_gradients(3)), "3 groups of 8 sequences"),
    (lambda probe: probe.fresh_gradient(5), "5 fresh sequences"),
    (lambda probe: probe.fresh_gradient(0), "0 fresh sequences"),
])  # fmt: skip
def test_what_does_not_divide_is_refused(tiny, ask, message):
    probe = Probe(means_of(tiny), {})
    with opened(probe), pytest.raises(BenchError, match=message):
        ask(probe)


def test_ranks_sum_a_probe_s_gradients_as_the_loop_sums_its_own(tiny):
    alone = Probe(means_of(tiny), {})
    two = Probe(means_of(tiny, workers=Together(0, 2)), {})  # each rank has the whole batch
    with opened(alone), opened(two):
        assert same(alone.gradient(), two.gradient())
        assert same(alone.sampled_gradient(), two.sampled_gradient())
        with pytest.raises(BenchError, match="one rank only"):
            two.sequence_jacobian(torch.sqrt)


class Asking(SGD):
    """Asks for two kinds of gradient, and for fresh sequences at every third step."""

    wants_probe = True

    def step(self, probe):
        group = self.param_groups[0]
        group["asked"] = group.get("asked", 0) + 1
        sampled = probe.sampled_gradient()
        fresh = probe.fresh_gradient(BATCH) if group["asked"] % 3 == 0 else None
        for w in group["params"]:
            w.grad.add_(sampled[w], alpha=0.1)
            if fresh:
                w.grad.add_(fresh[w])
        super().step()


class Growing(SGD):
    """Doubles the batch every fourth step."""

    def next_batch_sequences(self):
        return BATCH * 2 ** (self.param_groups[0].get("taken", 0) // 4)

    def step(self):
        self.param_groups[0]["taken"] = self.param_groups[0].get("taken", 0) + 1
        super().step()


def stepping_by(optimizer: type, steps: int = 16, **made) -> Tiny:
    """Return a tiny model whose every weight an optimizer of that class steps."""
    tiny = Tiny(SGD_ENTRY, steps=steps)
    own = optimizer(tiny.roles.all, lr=0.5, **made)
    tiny.own = tiny.optimizers = [own]
    means = tiny.means()
    tiny.parts = replace(tiny.parts, optimizers=[own], peaks=[[0.5]],
                         probe=means if getattr(own, "wants_probe", False) else None)  # fmt: skip
    return tiny


def test_fresh_sequences_shorten_the_run_and_all_passes_are_charged():
    tiny = stepping_by(Asking).train()
    progress = tiny.progress
    assert progress.tokens == tiny.course.tokens == 16 * TOKENS
    assert progress.step == 12 and progress.probe["fresh"] == 4 * BATCH  # every third step took as much again
    assert progress.probe["calls"]["fresh_gradient"]["calls"] == 4
    assert extra_passes(tiny.course, progress) == pytest.approx(12 / 16)  # labels drawn at each of 12 batches
    assert len(progress.losses) == 12 and progress.curve[-1]["tokens"] == 16 * TOKENS


def test_the_last_step_does_without_fresh_sequences():
    tiny = stepping_by(Asking, steps=3).train()
    assert tiny.progress.tokens == 3 * TOKENS and tiny.progress.probe["fresh"] == 0


def test_a_controller_s_batches_follow_each_other_in_the_global_order_and_spend_the_budget(monkeypatch):
    tiny, read = stepping_by(Growing), []
    honest = tiny.parts.batch_at
    tiny.parts = replace(tiny.parts, batch_at=lambda first, count: read.append((first, count)) or honest(first, count))
    tiny.train()
    assert [count // BATCH for _, count in read] == [1, 1, 1, 1, 2, 2, 2, 2, 4]
    assert all(first + count == then for (first, count), (then, _) in pairwise(read))
    assert tiny.progress.tokens == tiny.course.tokens and tiny.progress.batches == [count for _, count in read]
    last = tiny.course.multiplier(tiny.progress.last_seen)
    assert tiny.own[0].param_groups[0]["lr"] == pytest.approx(0.5 * last)


@pytest.mark.parametrize("asked, message", [
    (0, "asks for an empty batch"), (-8, "a batch of -8"), (BATCH + 1, "a batch of 9"), (BATCH * 17, "a batch of 136"),
    (None, "a batch of None"),
])  # fmt: skip
def test_a_controller_that_asks_for_what_cannot_be_is_refused(monkeypatch, asked, message):
    monkeypatch.setattr(Growing, "next_batch_sequences", lambda self: asked)
    with pytest.raises(BenchError, match=message):
        stepping_by(Growing).train()


@pytest.mark.parametrize("optimizer", [Asking, Growing])
def test_resuming_equals_never_stopping(optimizer, tmp_path):
    straight, stopped = stepping_by(optimizer).train(), stepping_by(optimizer).train(stop_after=5)
    checkpoint.save(tmp_path, stopped.progress.step, stopped.state())
    resumed = stepping_by(optimizer).restored(checkpoint.load_latest(tmp_path, print)).train()
    assert equal(straight, resumed)
    assert straight.progress.batches == resumed.progress.batches
    assert extra_passes(straight.course, straight.progress) == extra_passes(resumed.course, resumed.progress)
