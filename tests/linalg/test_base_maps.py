"""Base maps of rotated steps against their definitions in float64, on rows that are rounding error, and zeros."""

import pytest
import torch

from bench.linalg.base_maps import base_map, norm_of, of_rms, without_rounding

BASES = ["sinkhorn", "sign", "row-norm"]
every_base = pytest.mark.parametrize("base", BASES)


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    stack = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return stack / stack.norm(dim=(-2, -1), keepdim=True)


@every_base
@pytest.mark.parametrize("shape", [(2, 12, 12), (2, 8, 24), (2, 24, 8)])
def test_each_is_its_definition_to_a_scale_of_its_own(base, shape):
    x = unit(*shape)
    expected = x.clone()
    for _ in range(5 if base == "sinkhorn" else 0):
        expected = expected / expected.norm(dim=-1, keepdim=True) / expected.norm(dim=-2, keepdim=True)
    if base == "sign":
        expected = x / x.abs()
    if base == "row-norm":
        expected = x / x.square().sum(-1, keepdim=True).sqrt()
    for dtype, bound in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        mine = of_rms(base_map(x.to(dtype), base, 5), 1.0).double()
        torch.testing.assert_close(mine, of_rms(expected.clone(), 1.0), rtol=0, atol=bound)


@every_base
def test_rows_of_rounding_error_are_no_direction(base):
    x = unit(1, 4, 6).float()
    x[0, 2] *= 1e-8
    assert base_map(x, base, 5)[0, 2].abs().max() == 0
    assert torch.equal(without_rounding(x)[0, [0, 1, 3]], x[0, [0, 1, 3]])


@every_base
def test_zeros_stay_zeros(base):
    zeros = torch.zeros(2, 4, 6)
    assert of_rms(base_map(zeros / norm_of(zeros), base, 5), 0.2).abs().max() == 0


def test_a_stack_has_the_root_mean_square_asked_for():
    assert of_rms(unit(3, 5, 7), 0.2).square().mean((-2, -1)).sqrt().tolist() == pytest.approx([0.2] * 3)
