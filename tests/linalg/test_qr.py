"""Orthonormal factors against float64, on the inputs that break a single pass of Cholesky QR."""

import pytest
import torch

from bench.linalg.qr import LARGEST_ERROR, cholesky_qr, householder, orthogonality_error

BOUND = LARGEST_ERROR * torch.finfo(torch.float32).eps
factors = pytest.mark.parametrize("factor", [householder, cholesky_qr])


def gaussian(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def orthonormal(m: int, n: int, seed: int = 0) -> torch.Tensor:
    return torch.linalg.qr(gaussian(m, n, seed=seed)).Q


def with_spectrum(values: torch.Tensor, seed: int = 0) -> torch.Tensor:
    n = len(values)
    return orthonormal(n, n, seed) @ values.diag() @ orthonormal(n, n, seed + 1).mT


def ill_conditioned(n: int = 256, smallest: float = 2e-5) -> torch.Tensor:
    """Spectrum 1/k, and a smallest value that makes the condition number 5e4: its Gram matrix is singular in fp32."""
    values = 1 / torch.arange(1, n + 1, dtype=torch.float64)
    values[-1] = smallest
    return with_spectrum(values)


@factors
@pytest.mark.parametrize("scale", [1e-8, 1e-5, 1e-3, 1.0, 1e4])
def test_ill_conditioned_input_has_an_orthonormal_factor_at_every_scale(factor, scale):
    stack = (scale * torch.stack([ill_conditioned(), gaussian(256, 256)])).float()
    assert orthogonality_error(factor(stack).double()).max() < BOUND


@factors
@pytest.mark.parametrize("shape", [(3, 48, 48), (2, 64, 24), (2, 1, 1)])
def test_the_factor_is_float64_s_with_a_positive_diagonal(factor, shape):
    stack = gaussian(*shape)
    q, r = torch.linalg.qr(stack)
    exact = q * r.diagonal(dim1=-2, dim2=-1).sign()[:, None, :]
    torch.testing.assert_close(factor(stack), exact, rtol=0, atol=1e-10)
    torch.testing.assert_close(factor(stack.float()).double(), exact, rtol=0, atol=1e-3)
    triangular = factor(stack).mT @ stack
    assert triangular.tril(-1).abs().max() < 1e-12 * stack.norm()
    assert (triangular.diagonal(dim1=-2, dim2=-1) > 0).all()


def test_cholesky_agrees_with_householder_in_the_columns_that_the_input_determines():
    """Of spectrum 1/k the factor's column k has a condition number of about k."""
    stack = with_spectrum(1 / torch.arange(1, 129, dtype=torch.float64))[None].float()
    torch.testing.assert_close(cholesky_qr(stack), householder(stack), rtol=0, atol=1e-4)


@factors
def test_singular_matrices_and_zeros_have_an_orthonormal_factor_too(factor):
    low_rank = gaussian(32, 3) @ gaussian(3, 32, seed=1)
    stack = torch.stack([low_rank, torch.zeros(32, 32), gaussian(32, 32), torch.ones(32, 32)]).float()
    q = factor(stack)
    assert orthogonality_error(q.double()).max() < BOUND
    spanned = q[0, :, :3].double()
    torch.testing.assert_close(spanned @ (spanned.mT @ low_rank), low_rank, rtol=0, atol=1e-4)
    assert torch.equal(factor(torch.zeros(1, 4, 4)), torch.eye(4)[None])


def test_only_matrices_that_cholesky_cannot_do_fall_back():
    good, singular = gaussian(2, 32, 32).float(), torch.zeros(1, 32, 32)
    together = cholesky_qr(torch.cat([good, singular]))
    assert torch.equal(together[:2], cholesky_qr(good))
    assert torch.equal(together[2:], householder(singular))


@factors
def test_no_number_stays_with_its_own_matrix_and_stops_nothing(factor):
    stack = gaussian(2, 8, 8).float()
    clean = factor(stack)
    stack[1, 0, 0] = float("nan")
    q = factor(stack)
    assert torch.equal(q[0], clean[0])
    assert q[1].isnan().any()


def test_the_error_is_0_of_an_orthonormal_factor_and_1_of_zeros():
    assert orthogonality_error(torch.eye(5)[None]).item() == 0
    assert orthogonality_error(torch.zeros(1, 5, 5)).item() == pytest.approx(1)
