"""Eigenbases: orthogonal and descending, near float64's; a refresh keeps the true basis and converges to it."""

import pytest
import torch
from spectra import symmetric

from bench.linalg import eigenbasis as module
from bench.linalg.eigenbasis import decomposed, eigenbasis, refreshed

SHAPES = [(1, 1), (3, 8), (2, 40)]
shapes = pytest.mark.parametrize("k, n", SHAPES)


def distance_from_identity(basis: torch.Tensor) -> float:
    return float((basis.mT @ basis - torch.eye(basis.shape[-1], dtype=basis.dtype)).abs().max())


def off_diagonal(stack: torch.Tensor, basis: torch.Tensor) -> float:
    """Return how far the basis is from an eigenbasis, relative to the matrix."""
    inside = basis.mT @ stack @ basis
    return float((inside - torch.diag_embed(inside.diagonal(dim1=-2, dim2=-1))).norm() / inside.norm())


@shapes
@pytest.mark.parametrize("dtype, bound", [(torch.float64, 1e-13), (torch.float32, 2e-6)])
def test_a_full_decomposition_is_orthogonal_descending_and_diagonalizes(k, n, dtype, bound):
    stack = symmetric(k, n)
    basis = eigenbasis(stack.to(dtype))
    assert basis.dtype == dtype and distance_from_identity(basis) < 10 * bound
    assert off_diagonal(stack, basis.double()) < bound
    values = (basis.double() * (stack @ basis.double())).sum(-2)
    assert (values.diff() <= bound).all()


def test_only_the_lower_triangle_is_read():
    stack = symmetric(2, 8)
    assert torch.equal(eigenbasis(stack), eigenbasis(stack.tril()))


@shapes
def test_a_refresh_keeps_the_eigenbasis_up_to_signs(k, n):
    stack = symmetric(k, n)
    basis = eigenbasis(stack)
    kept, order = refreshed(stack, basis)
    assert torch.equal(order, torch.arange(n).expand(k, n))
    torch.testing.assert_close(kept.abs(), basis.abs(), rtol=0, atol=1e-10)


def test_a_refresh_sorts_columns_and_hands_their_order_back():
    stack = torch.diag_embed(torch.tensor([[1.0, 3.0, 2.0]], dtype=torch.float64))
    basis, order = refreshed(stack, torch.eye(3, dtype=torch.float64).unsqueeze(0))
    assert order.tolist() == [[1, 2, 0]]
    assert torch.equal(basis[0].abs(), torch.eye(3, dtype=torch.float64)[:, [1, 2, 0]])


@pytest.mark.parametrize("dtype, bound", [(torch.float64, 1e-9), (torch.float32, 2e-6)])
def test_refreshes_converge_to_the_eigenbasis(dtype, bound):
    stack = symmetric(2, 12)
    basis = torch.eye(12, dtype=dtype).repeat(2, 1, 1)
    for _ in range(60):
        basis, _ = refreshed(stack.to(dtype), basis)
    assert distance_from_identity(basis) < 2e-6
    assert off_diagonal(stack, basis.double()) < bound


def test_zeros_and_a_matrix_of_low_rank_give_orthogonal_bases():
    one = torch.ones(1, 6, 1)
    for stack in (torch.zeros(1, 6, 6), one @ one.mT):
        basis = eigenbasis(stack)
        assert distance_from_identity(basis) < 1e-5
        assert distance_from_identity(refreshed(stack, basis)[0]) < 1e-5


def test_a_solver_that_fails_on_finite_numbers_is_asked_in_float64(monkeypatch):
    solve = torch.linalg.eigh

    def fails_in_fp32(stack):
        if stack.dtype == torch.float32:
            raise torch.linalg.LinAlgError("no convergence")
        return solve(stack)

    monkeypatch.setattr(module.torch.linalg, "eigh", fails_in_fp32)
    values, vectors = decomposed(symmetric(1, 5).float())
    assert values.dtype == vectors.dtype == torch.float32 and vectors.isfinite().all()
    with pytest.raises(torch.linalg.LinAlgError):
        decomposed(torch.full((1, 5, 5), torch.nan))
