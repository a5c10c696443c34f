"""Nuclear norms against sums of singular values in float64."""

import pytest
import torch

from bench.linalg.nuclear_norm import nuclear_norm

SHAPES = [(16, 16), (128, 128), (128, 384), (256, 64)]
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def with_singular_values(shape: tuple[int, int], values: torch.Tensor) -> torch.Tensor:
    drawn = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    u, _, vh = torch.linalg.svd(drawn, full_matrices=False)
    return u * values.double() @ vh


def relative_error(stack: torch.Tensor) -> float:
    exact = torch.linalg.svdvals(stack).sum(-1)
    return float((nuclear_norm(stack.float()).flatten().double() / exact - 1).abs().max())


@every_shape
def test_of_gaussian_matrices_it_is_within_three_percent(shape):
    drawn = torch.randn(3, *shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert relative_error(drawn) < 0.03


@every_shape
@pytest.mark.parametrize("spectrum", ["two decades", "four decades", "1/k"])
def test_of_steep_spectra_it_is_within_five_percent(shape, spectrum):
    n = min(shape)
    falling = {"two decades": torch.logspace(0, -2, n), "four decades": torch.logspace(0, -4, n),
               "1/k": 1 / torch.arange(1, n + 1.0)}[spectrum]  # fmt: skip
    assert relative_error(with_singular_values(shape, falling)) < 0.05


@every_shape
def test_of_rank_one_it_is_as_far_off_as_a_single_value_may_be(shape):
    """Which Polar Express leaves anywhere from 0.86 to 1.14."""
    assert relative_error(with_singular_values(shape, torch.eye(1, min(shape))[0])) < 0.14


def test_zeros_have_none_and_scale_goes_through():
    assert nuclear_norm(torch.zeros(2, 4, 6)).tolist() == [[[0.0]], [[0.0]]]
    drawn = torch.randn(2, 8, 12, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(nuclear_norm(1024 * drawn), 1024 * nuclear_norm(drawn), rtol=1e-2, atol=0)
