"""The rho_a bound: no step changes the spread of logits by more than ratio pi, and a short one is left alone."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.optim import SGD

from bench.along import Along
from bench.battery.tiny import DEVICE, Tiny, batch_at, equal
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


def test_a_step_along_which_no_logit_changes_is_not_cut():
    tiny = Tiny(RHO_ADAMW)
    module, embedding = RHO_ADAMW.module(), tiny.roles.embedding[0]
    inner = SGD([embedding], lr=1.0)
    tiny.own = [module.RhoBound([inner], 1.0)]
    tiny.parts = replace(tiny.parts, probe=tiny.means())
    unused = torch.zeros_like(embedding)
    embedding.grad = unused
    before = embedding.detach().clone()
    tiny.step()
    assert torch.equal(before, embedding)


def test_two_classes_of_a_softmax_reach_as_far_as_the_nearest_complex_zero():
    """Of exp(z1 + s a1) + exp(z2 + s a2): |s| = sqrt(gap^2 + pi^2) / |a1 - a2|, never nearer than pi / |a1 - a2|."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        z, a = (torch.randn(2, generator=generator, dtype=torch.float64) for _ in range(2))
        zero = torch.complex(z[1] - z[0], torch.tensor(math.pi, dtype=torch.float64)) / (a[0] - a[1])
        total = torch.exp(z[0] + zero * a[0]) + torch.exp(z[1] + zero * a[1])
        assert abs(total) < 1e-12 * abs(torch.exp(z[0] + zero * a[0]))
        assert abs(zero) >= math.pi / (a.max() - a.min()) * (1 - 1e-12)
