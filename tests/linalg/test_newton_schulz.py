"""Orthogonalization against the exact polar factor in float64."""

import pytest
import torch

from bench.linalg.newton_schulz import newton_schulz


def polar(matrix: torch.Tensor) -> torch.Tensor:
    u, _, vh = torch.linalg.svd(matrix.double(), full_matrices=False)
    return u @ vh


@pytest.mark.parametrize("shape", [(3, 32, 32), (2, 16, 48), (2, 48, 16)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_singular_values_end_near_one_and_directions_are_kept(shape, dtype):
    stack = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    done = newton_schulz(stack, steps=5, dtype=dtype)
    assert done.dtype == torch.float32 and done.shape == shape
    for before, after in zip(stack, done, strict=True):
        values = torch.linalg.svdvals(after.double())
        assert values.max() < 1.25  # Jordan's coefficients overshoot to 1.2 by design
        if shape[1] != shape[2]:  # a square Gaussian has one singular value near 0, which five steps cannot lift
            assert values.min() > 0.65
        exact = polar(before)
        assert (after.double() * exact).sum() / after.double().norm() / exact.norm() > 0.96


def test_one_step_worked_by_hand():
    """diag(3, 4): norm 5, so x = (0.6, 0.8) and one step gives 3.4445 x - 4.7750 x^3 + 2.0315 x^5."""
    done = newton_schulz(torch.diag(torch.tensor([3.0, 4.0]))[None], steps=1, dtype=torch.float64)
    x = torch.tensor([0.6, 0.8], dtype=torch.float64)
    expected = 3.4445 * x - 4.7750 * x**3 + 2.0315 * x**5
    torch.testing.assert_close(done[0].double(), torch.diag(expected), rtol=1e-6, atol=1e-6)


def test_zeros_stay_zeros_and_scale_does_not_matter():
    assert newton_schulz(torch.zeros(2, 4, 6), steps=5).abs().max() == 0
    stack = torch.randn(1, 8, 12, generator=torch.Generator().manual_seed(1))
    small, large = (newton_schulz(stack * scale, 5, torch.float32) for scale in (1e-3, 1e3))
    torch.testing.assert_close(small, large, rtol=1e-2, atol=1e-3)
