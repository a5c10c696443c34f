"""Lower bounds of spectral norms: never above the norm, near it for sums of outer products, at any scale."""

import pytest
import torch

from bench.linalg.spectral_norm import norm_from_below

BATCH = torch.randn(8, 30, 90, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1e-15, 1.0, 1e15])
def test_it_is_below_the_norm_and_above_six_tenths_of_it(dtype, scale):
    stack = BATCH @ BATCH.mT * scale
    ratio = norm_from_below(stack.to(dtype)).double().squeeze() / torch.linalg.matrix_norm(stack, 2)
    assert (ratio <= 1 + 1e-5).all() and (ratio > 0.6).all()


def test_of_rank_one_it_is_the_norm_and_of_zeros_zero():
    one = BATCH[:, :, :1]
    torch.testing.assert_close(norm_from_below(one @ one.mT), one.square().sum(1, keepdim=True))
    assert torch.equal(norm_from_below(torch.zeros(2, 3, 3)), torch.zeros(2, 1, 1))
