"""Functions of singular values against float64."""

import pytest
import torch

from bench.linalg.spectrum import with_spectrum

SHAPES = [(32, 32), (32, 96), (96, 32), (1, 5)]
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def steep(rows: int, columns: int, decades: float) -> torch.Tensor:
    u, _, vh = torch.linalg.svd(drawn(1, rows, columns), full_matrices=False)
    return u * torch.logspace(0, -decades, min(rows, columns), dtype=torch.float64) @ vh


@every_shape
def test_the_same_values_give_the_matrix_and_singular_vectors_stay(shape):
    stack = drawn(2, *shape)
    torch.testing.assert_close(with_spectrum(stack, lambda s: s), stack)
    cubed = with_spectrum(stack, lambda s: s**3)
    torch.testing.assert_close(cubed, stack @ stack.mT @ stack)


@pytest.mark.parametrize("shape", [(64, 64), (48, 96), (96, 48)])
@pytest.mark.parametrize("exponent, bound", [(1.0, 2e-6), (0.5, 1e-4), (0.25, 2e-3)])
def test_rounding_moves_powers_of_four_decades_by_no_more_than_the_bound(shape, exponent, bound):
    stack = steep(*shape, decades=4)
    exact = with_spectrum(stack, lambda s: s**exponent)
    rounded = with_spectrum(stack.float(), lambda s: s**exponent).double()
    assert (rounded - exact).norm() < bound * exact.norm()


def test_what_is_rounding_error_becomes_zero_whatever_the_function_says():
    line = torch.outer(drawn(12), drawn(20, seed=1)).float()[None]
    ones = with_spectrum(line, torch.ones_like)
    torch.testing.assert_close(ones, line / line.norm())
    assert with_spectrum(torch.zeros(2, 4, 6), torch.ones_like).abs().max() == 0


def test_values_come_in_descending_order():
    seen = []
    with_spectrum(drawn(3, 8, 5), lambda s: seen.append(s) or s)
    assert seen[0].shape == (3, 5) and (seen[0].diff(dim=-1) <= 0).all()
