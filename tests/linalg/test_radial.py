"""AdamP and SGDP take from a step its part along the weight, where the gradient is perpendicular to it."""

import math

import pytest
import torch

from bench.linalg.radial import DECAY_RATIO, remove_radial


def drawn(shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def perpendicular(g, w, by_row):
    if by_row:
        return g - (g * w).sum(1, keepdim=True) / w.square().sum(1, keepdim=True) * w
    return g - (g * w).sum() / w.square().sum() * w


@pytest.mark.parametrize("by_row", [True, False], ids=["row by row", "as a whole"])
@pytest.mark.parametrize("shape", [(24, 8), (8, 24), (16, 16)])
def test_steps_of_weights_without_scale_lose_their_part_along_the_weight(shape, by_row):
    w, step = drawn(shape), drawn(shape, seed=1)
    g = perpendicular(drawn(shape, seed=2), w, by_row)
    expected = perpendicular(step, w, by_row)
    assert remove_radial([step], [w], [g]) == [DECAY_RATIO]
    torch.testing.assert_close(step, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("cosine,ratio", [(0.09, DECAY_RATIO), (0.11, 1.0)])
def test_the_largest_cosine_of_a_row_decides_against_a_tenth_of_chance(cosine, ratio):
    w = torch.zeros(2, 4, dtype=torch.float64)
    w[:, 0] = 3.0
    angle = cosine / math.sqrt(4)
    g = torch.tensor([[angle, math.sqrt(1 - angle**2), 0, 0], [0.0, 5.0, 0, 0]], dtype=torch.float64)
    g[1, 0] = 10 * angle  # not small in the view of the whole weight either
    g[1, 1] = math.sqrt(100 - (10 * angle) ** 2)
    assert remove_radial([torch.ones(2, 4, dtype=torch.float64)], [w], [g]) == [ratio]


def test_other_steps_and_lines_are_left_alone():
    w, line = drawn((8, 8)), drawn((8,))
    steps = [drawn((8, 8), seed=1), drawn((8,), seed=2)]
    before = [step.clone() for step in steps]
    assert remove_radial(steps, [w, line], [w + 0.1, torch.zeros(8)]) == [1.0, 1.0]
    assert all(torch.equal(step, old) for step, old in zip(steps, before, strict=True))
    assert remove_radial([line], [line], [line]) == [1.0]
