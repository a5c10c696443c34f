"""Orthogonalization against singular value decompositions in float64."""

import pytest
import torch
from torch import Tensor

from bench.linalg import newton_schulz as module
from bench.linalg.newton_schulz import JORDAN, POLAR_EXPRESS, newton_schulz, orthogonalized, polar_factor

SHAPES = [(3, 32, 32), (2, 16, 24), (2, 16, 64), (2, 64, 16), (1, 1, 5)]  # square, nearly so, wide, tall, a row
METHODS = {"jordan": JORDAN * 5, "polar-express": POLAR_EXPRESS}

every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)
every_method = pytest.mark.parametrize("method", METHODS)


def drawn(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def steep(rows: int, columns: int, decades: float) -> Tensor:
    """A matrix whose singular values fall geometrically over so many decades."""
    u, _, vh = torch.linalg.svd(drawn((1, rows, columns)), full_matrices=False)
    return u * torch.logspace(0, -decades, min(rows, columns), dtype=torch.float64) @ vh


def by_singular_values(stack: Tensor, coefficients: tuple[tuple[float, float, float], ...]) -> Tensor:
    """The definition: the composed polynomials of the singular values, over the same singular vectors."""
    u, s, vh = torch.linalg.svd(stack.double(), full_matrices=False)
    s = s / s.norm(dim=-1, keepdim=True)
    for a, b, c in coefficients:
        s = a * s + b * s**3 + c * s**5
    return u * s[..., None, :] @ vh


def apart(mine: Tensor, theirs: Tensor) -> float:
    return float(((mine.double() - theirs).norm(dim=(-2, -1)) / theirs.norm(dim=(-2, -1))).max())


@every_shape
@every_method
def test_in_float64_it_is_the_polynomial_of_the_singular_values(shape, method):
    stack = drawn(shape)
    assert apart(orthogonalized(stack, method, 5), by_singular_values(stack, METHODS[method])) < 1e-5


@every_shape
@every_method
@pytest.mark.parametrize("dtype, bound", [(torch.float32, 2e-5), (torch.bfloat16, 5e-2)])
def test_rounding_moves_the_result_by_no_more_than_the_bound(shape, method, dtype, bound):
    stack = drawn(shape)
    done = newton_schulz(stack.float(), METHODS[method], dtype)
    assert done.dtype == torch.float32 and done.shape == shape
    assert apart(done, by_singular_values(stack, METHODS[method])) < bound


@every_method
@pytest.mark.parametrize("shape", [(48, 48), (32, 128), (128, 32)])
def test_on_steep_spectra_bf16_turns_directions_and_float32_does_not(shape, method):
    stack = steep(*shape, decades=4)
    expected = by_singular_values(stack, METHODS[method])
    assert apart(newton_schulz(stack.float(), METHODS[method], torch.float32), expected) < 1e-3
    assert apart(newton_schulz(stack.float(), METHODS[method]), expected) < 0.4


@pytest.mark.parametrize(
    "method, low, high, cosine", [("jordan", 0.65, 1.25, 0.96), ("polar-express", 0.85, 1.15, 0.99)]
)
def test_singular_values_end_near_one_and_directions_are_kept(method, low, high, cosine):
    """Where they start above a hundredth of the norm, as those of a rectangular Gaussian do."""
    for shape in [(2, 16, 48), (2, 48, 16), (1, 96, 384)]:
        stack = drawn(shape)
        done = orthogonalized(stack.float(), method, 5).double()
        values = torch.linalg.svdvals(done)
        assert low < values.min() and values.max() < high
        exact = polar_factor(stack)
        assert (done * exact).sum() / done.norm() / exact.norm() > cosine


def test_one_step_worked_by_hand():
    """diag(3, 4): norm 5, so x = (0.6, 0.8) and one step gives 3.4445 x - 4.7750 x^3 + 2.0315 x^5."""
    done = newton_schulz(torch.diag(torch.tensor([3.0, 4.0], dtype=torch.float64))[None], JORDAN, torch.float64)
    x = torch.tensor([0.6, 0.8], dtype=torch.float64)
    torch.testing.assert_close(done[0], torch.diag(3.4445 * x - 4.7750 * x**3 + 2.0315 * x**5), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 4, 6), (2, 4, 16), (2, 16, 4)])
def test_zeros_stay_zeros_and_scale_does_not_matter(shape):
    assert newton_schulz(torch.zeros(shape), JORDAN * 5).abs().max() == 0
    assert polar_factor(torch.zeros(shape)).abs().max() == 0
    small, large = (newton_schulz(drawn(shape).float() * scale, JORDAN * 5, torch.float32) for scale in (1e-3, 1e3))
    torch.testing.assert_close(small, large, rtol=1e-2, atol=1e-3)


@every_method
@pytest.mark.parametrize("shape", [(16, 16), (16, 64), (64, 16)])
def test_a_matrix_of_rank_one_comes_out_of_rank_one(shape, method):
    rows, columns = shape
    line = torch.outer(drawn((rows,)), drawn((columns,), seed=1))[None]
    done = newton_schulz(line.float(), METHODS[method], torch.float32)  # bf16 lifts its own rounding to the level of 1
    assert apart(done, by_singular_values(line, METHODS[method])) < 1e-3
    torch.testing.assert_close(polar_factor(line), line / line.norm())


@every_shape
def test_the_exact_polar_factor_has_orthonormal_rows_or_columns(shape):
    exact = orthogonalized(drawn(shape), "exact", 0)
    short = exact if shape[-2] <= shape[-1] else exact.mT
    identity = torch.eye(short.shape[-2], dtype=torch.float64).expand(shape[0], -1, -1)
    torch.testing.assert_close(short @ short.mT, identity)
    assert (torch.linalg.eigvalsh(exact.mT @ drawn(shape)) > -1e-9).all()  # what is left is positive semidefinite


def test_transposing_before_is_transposing_after():
    stack = drawn((2, 12, 40)).float()
    torch.testing.assert_close(newton_schulz(stack.mT, JORDAN * 5), newton_schulz(stack, JORDAN * 5).mT, rtol=0, atol=0)


def of_rank_one_and_noise(rows: int, columns: int) -> Tensor:
    line = torch.outer(drawn((rows,), seed=2).abs(), drawn((columns,), seed=3).abs())
    return (line / line.norm() + 0.1 * drawn((rows, columns)) / (rows * columns) ** 0.5)[None]


@every_method
@pytest.mark.parametrize("dtype, factor", [(torch.float32, 4), (torch.bfloat16, 2.5)])
def test_pairs_of_steps_round_like_single_ones(method, dtype, factor, monkeypatch):
    """On spectra where three steps by one Gram matrix in bf16 end at 1e5 by Polar Express, instead of 1."""
    monkeypatch.setattr(module, "LARGE", 1)
    for stack in (drawn((1, 96, 384)), steep(96, 384, 2), steep(96, 384, 8), of_rank_one_and_noise(96, 192)):
        expected = by_singular_values(stack, METHODS[method])
        with monkeypatch.context() as patch:
            patch.setattr(module, "LONG", float("inf"))
            single = apart(newton_schulz(stack.float(), METHODS[method], dtype), expected)
        assert apart(newton_schulz(stack.float(), METHODS[method], dtype), expected) < factor * single


@pytest.mark.parametrize("shape", [(2, 40, 40), (2, 40, 56), (2, 100, 30)])
def test_mirrored_blocks_change_little_more_than_the_order_of_sums(shape, monkeypatch):
    stack = drawn(shape)
    whole = newton_schulz(stack, JORDAN * 5, torch.float64)
    monkeypatch.setattr(module, "LARGE", 1)
    torch.testing.assert_close(newton_schulz(stack, JORDAN * 5, torch.float64), whole)
