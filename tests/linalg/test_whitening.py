"""Whitening by coupled Newton-Schulz steps: against singular values in float64, and what it does to hard inputs."""

import pytest
import torch

from bench.linalg.newton_schulz import polar_factor
from bench.linalg.whitening import whitened


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_singular_values(stack: torch.Tensor, steps: int, beta: float) -> torch.Tensor:
    """As the algorithm has it, on singular values alone: y and z are numbers there."""
    u, s, vh = torch.linalg.svd(stack, full_matrices=False)
    norm = s.pow(4).sum(dim=-1, keepdim=True).sqrt()
    y, z = s.square() / norm, torch.ones_like(s)
    for _ in range(steps):
        y, z = beta * y * (3 - z * y), beta * (3 - z * y) * z
    return (u * (z * s / norm.sqrt()).unsqueeze(-2)) @ vh


@pytest.mark.parametrize("beta", [0.5, 0.45])
@pytest.mark.parametrize("shape", [(3, 24, 24), (3, 16, 64), (3, 64, 16)])
def test_it_maps_singular_values_and_leaves_their_vectors(shape, beta):
    stack = drawn(*shape)
    for dtype, bound in ((torch.float64, 1e-10), (torch.float32, 1e-4)):
        error = whitened(stack.to(dtype), 10, beta).double() - by_singular_values(stack, 10, beta)
        assert error.abs().max() < bound


def test_ten_steps_whiten_a_well_conditioned_matrix_and_never_lift_a_singular_value_above_one():
    well = drawn(4, 16, 64)
    torch.testing.assert_close(whitened(well, 10), polar_factor(well), rtol=0, atol=1e-5)
    for stack in (well, drawn(4, 24, 24), drawn(2, 16, 2) @ drawn(2, 2, 64)):
        values = torch.linalg.svdvals(whitened(stack.float(), 10))
        assert values.max() < 1 + 1e-5


def test_the_factor_0_8_has_no_fixed_point_at_one():
    """At z y = 1 a step multiplies y by 0.8 * 2 = 1.6."""
    values = torch.linalg.svdvals(whitened(drawn(4, 16, 64), 10, beta=0.8))
    assert values.max() > 1.1


def test_zeros_stay_zeros_scale_does_not_matter_and_low_rank_stays_low():
    stack = drawn(3, 12, 20).float()
    stack[0] = 0
    stack[1] = torch.outer(stack[1, :, 0], stack[1, 0])
    done = whitened(stack, 10)
    assert done.isfinite().all()
    assert not done[0].any()
    assert torch.linalg.svdvals(done[1])[1] < 1e-4
    torch.testing.assert_close(torch.linalg.svdvals(done[1])[0].item(), 1.0, rtol=1e-4, atol=0)
    assert torch.equal(whitened(2.0**-20 * stack, 10), done)


@pytest.mark.parametrize("shape", [(32, 48), (128, 384)])
def test_the_bits_of_a_matrix_do_not_depend_on_its_neighbours(shape):
    stack = drawn(4, *shape).float()
    together = whitened(stack, 10)
    for first in range(4):
        assert torch.equal(whitened(stack[first : first + 1], 10), together[first : first + 1])
