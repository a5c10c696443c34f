"""The rho_a bound: no step changes the spread of logits by more than ratio pi, and a short one is left alone."""

import cmath
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import Parameter
from torch.optim import SGD

from bench.along import Along
from bench.battery.tiny import DEVICE, TINY, Tiny, batch_at, equal
from bench.entry import Entry

FOLDER = Path(__file__).parents[2] / "baselines"
ADAMW, RHO_ADAMW = Entry(FOLDER / "adamw/adamw.toml"), Entry(FOLDER / "rho_a/rho-adamw.toml")


def test_a_bound_that_never_binds_is_the_base_to_the_bit():
    assert equal(Tiny(RHO_ADAMW, steps=12, values={"ratio": 1e6}).train(), Tiny(ADAMW, steps=12).train())


def stepped(ratio: float, factor: float = 1.0) -> tuple[Tiny, dict]:
    """Return a tiny model and how it was moved by one bounded step against made-up gradients."""
    tiny = Tiny(RHO_ADAMW, values={"ratio": ratio})
    before, generator = tiny.bits(), torch.Generator().manual_seed(0)
    for group in tiny.own[0].param_groups:
        group["lr"] *= factor
    for w in tiny.model.parameters():
        w.grad = torch.randn(w.shape, generator=generator).to(DEVICE)
    tiny.step()
    return tiny, {w: w.detach() - old for w, old in zip(tiny.model.parameters(), before, strict=True)}


def spread_of(moved: dict) -> float:
    """Return the largest spread of the logits' change along a step, at the weights before it."""
    model = Tiny(RHO_ADAMW).model
    line = dict(zip(model.parameters(), moved.values(), strict=True))
    inputs = batch_at(0)[:, :-1].to(DEVICE)
    return float(Along(model)(inputs, line, lambda a: a.amax(-1) - a.amin(-1)).max())


def test_a_step_that_is_too_long_is_cut_to_where_the_spread_is_ratio_times_pi():
    _, free = stepped(1e6, factor=100.0)
    _, cut = stepped(0.5, factor=100.0)
    assert spread_of(free) > math.pi
    assert spread_of(cut) == pytest.approx(0.5 * math.pi, rel=1e-3)
    for a, b in zip(free.values(), cut.values(), strict=True):  # the direction stays
        assert torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0) > 1 - 1e-5


def test_how_long_a_step_was_asked_for_does_not_show_once_it_is_cut():
    (_, first), (_, second) = stepped(0.5, factor=100.0), stepped(0.5, factor=300.0)
    assert spread_of(first) == pytest.approx(spread_of(second), rel=1e-3)


def test_a_step_along_which_no_logit_changes_is_not_cut(monkeypatch):
    """Of rows of an untied embedding whose tokens the batch does not have: no logit knows of them."""
    monkeypatch.setattr("bench.battery.tiny.TINY", TINY.model_copy(update={"tied": False}))
    tiny, unused = Tiny(RHO_ADAMW), torch.arange(16, 32)  # the padding: no batch of Tiny's has those tokens
    (embedding,) = tiny.roles.embedding
    tiny.own = [RHO_ADAMW.module().RhoBound([SGD([embedding], lr=1e3)], 1e-3)]
    tiny.parts = replace(tiny.parts, probe=tiny.means())
    before, far = embedding.detach().clone(), torch.zeros_like(embedding)
    far[unused] = 1.0
    embedding.grad = far.clone()
    tiny.step()
    torch.testing.assert_close(embedding.detach(), before - 1e3 * far)


class TwoClasses:
    """A probe of a softmax over two classes, whose logits change by a along any step."""

    def __init__(self, a: torch.Tensor) -> None:
        self.a = a

    def logits_along(self, direction: dict, reduced) -> torch.Tensor:
        return reduced(self.a[None, None])


@pytest.mark.parametrize("gap", [0.0, 2.0], ids=["at even odds", "at odds"])
def test_two_classes_of_a_softmax_are_moved_no_further_than_the_nearest_complex_zero(gap):
    """exp(gap + s a1) + exp(s a2) is zero at s = (-gap + i pi) / (a1 - a2): just as far, where the odds are even."""
    for a in 20 * torch.randn(20, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64):
        zero = complex(-gap, math.pi) / float(a[0] - a[1])
        assert abs(cmath.exp(gap + zero * float(a[0])) / cmath.exp(zero * float(a[1])) + 1) < 1e-9
        w = Parameter(torch.zeros((), dtype=torch.float64))
        w.grad = torch.tensor(-1.0, dtype=torch.float64)
        RHO_ADAMW.module().RhoBound([SGD([w], lr=1.0)], 1.0).step(TwoClasses(a))
        assert 0 < w.item() <= min(1.0, abs(zero)) * (1 + 1e-12)
        if gap == 0 and abs(zero) < 1:
            assert w.item() == pytest.approx(abs(zero))
