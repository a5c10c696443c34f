"""Sinkhorn normalization against a plain float64 loop over norms."""

import numpy as np
import pytest
import torch

from bench.linalg.sinkhorn import sinkhorn


def gaussian(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def plain(g: np.ndarray, rounds: int, simultaneous: bool) -> np.ndarray:
    """As the papers write it: divide by norms, round by round."""
    m, n = g.shape
    for _ in range(rounds):
        rows = np.linalg.norm(g, axis=1, keepdims=True) / n**0.5
        balanced = g / rows
        columns = np.linalg.norm(g if simultaneous else balanced, axis=0, keepdims=True) / m**0.5
        g = balanced / columns
    return g / np.sqrt(np.mean(g**2))


def rows_off(x: torch.Tensor) -> float:
    """Return the root mean square of row norms over sqrt(n), less 1; the median over matrices."""
    return float((x.norm(dim=-1) / x.shape[-1] ** 0.5 - 1).square().mean(dim=-1).sqrt().median())


@pytest.mark.parametrize("simultaneous", [False, True])
@pytest.mark.parametrize("shape", [(24, 8), (8, 24), (16, 16)])
def test_the_scalings_are_those_of_dividing_by_norms(shape, simultaneous):
    stack = gaussian(3, *shape)
    for rounds in (1, 2, 5):
        expected = np.stack([plain(g.numpy(), rounds, simultaneous) for g in stack])
        for dtype, bound in ((torch.float64, 1e-12), (torch.float32, 3e-6)):
            done = sinkhorn(stack.to(dtype), rounds, simultaneous).double()
            done = done / done.square().mean(dim=(-2, -1), keepdim=True).sqrt()
            np.testing.assert_allclose(done.numpy(), expected, rtol=0, atol=bound)


def test_alternating_columns_are_exact_and_rows_converge():
    """The larger the matrix the faster: of 12 x 12 a round takes the error to a quarter or less."""
    stack = gaussian(64, 12, 12)
    for rounds, expected in {1: 7e-2, 2: 1.7e-2, 5: 3.6e-4, 10: 6e-7}.items():
        x = sinkhorn(stack, rounds)
        torch.testing.assert_close(x.norm(dim=-2), torch.full_like(x[:, 0], 12**0.5))
        torch.testing.assert_close(x.square().mean(dim=(-2, -1)), torch.ones(64, dtype=torch.float64))
        assert expected / 2 < rows_off(x) < expected * 2, rounds


def test_simultaneous_takes_about_twice_the_rounds():
    stack = gaussian(64, 12, 12)
    x = sinkhorn(stack, 20, simultaneous=True)
    error = rows_off(x / x.square().mean(dim=(-2, -1), keepdim=True).sqrt())
    assert rows_off(sinkhorn(stack, 10)) / 10 < error < 10 * rows_off(sinkhorn(stack, 10))


def test_at_convergence_positive_scalings_of_rows_and_columns_cancel():
    stack = gaussian(1, 16, 24)
    scaled = stack * gaussian(1, 16, 1, seed=1).exp() * gaussian(1, 1, 24, seed=2).exp()
    assert (sinkhorn(stack, 60) - sinkhorn(scaled, 60)).abs().max() < 1e-12
    assert 1e-6 < (sinkhorn(stack, 5) - sinkhorn(scaled, 5)).abs().max() < 5e-2


@pytest.mark.parametrize("simultaneous", [False, True])
def test_zeros_stay_zeros_and_scale_does_not_matter(simultaneous):
    stack = gaussian(3, 6, 9).float()
    stack[0], stack[1, 2], stack[1, :, 4] = 0, 0, 0
    done = sinkhorn(stack, 5, simultaneous)
    assert done.isfinite().all()
    assert torch.equal(done == 0, stack == 0)
    for scale in (2.0**-60, 2.0**40):
        assert torch.equal(sinkhorn(scale * stack, 5, simultaneous), done)


@pytest.mark.parametrize("simultaneous", [False, True])
def test_rows_of_every_size_stay_finite(simultaneous):
    stack = gaussian(1, 12, 12).float() * torch.logspace(0, -37, 12)[:, None]
    stack[0, -1] = stack[0, :, -1] = 0
    stack[0, -1, -1] = 1e-30  # alone in its row and in its column
    assert sinkhorn(stack, 50, simultaneous).isfinite().all()


@pytest.mark.parametrize("simultaneous", [False, True])
def test_the_bits_of_a_matrix_do_not_depend_on_its_neighbours(simultaneous):
    stack = gaussian(4, 32, 48).float()
    together = sinkhorn(stack, 5, simultaneous)
    for first in range(4):
        assert torch.equal(sinkhorn(stack[first : first + 1], 5, simultaneous), together[first : first + 1])
