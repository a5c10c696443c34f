"""Inverse roots: raised to the power they give the inverse; the error against float64 follows the condition number."""

import pytest
import torch
from spectra import symmetric

from bench.linalg.roots import inverse_root


@pytest.mark.parametrize("p", [1, 2, 3, 4])
def test_the_p_th_power_of_a_root_is_the_inverse(p):
    stack = symmetric(3, 10)
    root = inverse_root(stack, p, 0.0, torch.float64)
    product = torch.linalg.matrix_power(root, p) @ stack
    torch.testing.assert_close(product, torch.eye(10, dtype=torch.float64).expand(3, 10, 10), rtol=0, atol=1e-10)


@pytest.mark.parametrize("condition", [1e1, 1e3, 1e5])
def test_the_error_in_fp32_is_bounded_by_the_condition_number(condition):
    """Machine epsilon times the condition number over p is the bound to first order; ten times it is allowed."""
    stack = symmetric(4, 48, condition)
    exact = inverse_root(stack, 4, 0.0, torch.float64)
    error = (inverse_root(stack.float(), 4, 0.0) - exact).norm(dim=(-2, -1)) / exact.norm(dim=(-2, -1))
    assert error.max() < 10 * torch.finfo(torch.float32).eps * condition / 4 + 1e-6


def test_eps_is_added_to_the_spectrum_after_negative_eigenvalues_are_lifted():
    stack = torch.diag_embed(torch.tensor([[-1e-3, 0.5]], dtype=torch.float64))
    root = inverse_root(stack, 2, 0.25, torch.float64)
    expected = torch.tensor([0.25, 0.5 + 1e-3 + 0.25], dtype=torch.float64) ** -0.5
    torch.testing.assert_close(root[0], torch.diag(expected))


def test_zeros_give_a_multiple_of_the_identity_and_fp32_is_the_default():
    root = inverse_root(torch.zeros(2, 4, 4, dtype=torch.float64), 4, 1e-12)
    torch.testing.assert_close(root, 1e3 * torch.eye(4, dtype=torch.float64).expand(2, 4, 4), rtol=1e-6, atol=1e-9)


def test_one_sided_the_square_root_turns_a_matrix_into_its_polar_factor():
    g = torch.randn(2, 6, 9, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    u, _, vh = torch.linalg.svd(g, full_matrices=False)
    torch.testing.assert_close(inverse_root(g @ g.mT, 2, 0.0, torch.float64) @ g, u @ vh, rtol=0, atol=1e-10)
