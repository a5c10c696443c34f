"""Grids, masks and rotations against references in float64 and the published table."""

import math

import pytest
import torch

from bench.quantize.arithmetic import (
    ALPHA,
    gradient_mask,
    grouped,
    hadamard_block,
    hadamard_signs,
    half_levels,
    largest_level,
    quantize,
    rotate,
    round_to_grid,
)

# Mean squared error of the mid-rise grid at its best clip on N(0, 1): IST-DASLab/QuEST, base_linear.py and
# mse_fitting.ipynb.
GAUSSIAN_MSE = {2: 0.118846, 3: 0.0374397, 4: 0.0115429, 5: 0.00349521, 6: 0.00104005, 7: 3.0433e-4, 8: 8.7686e-5}
SHAPES = [(3, 8), (1, 1), (5, 33), (257, 6), (4, 640)]
GRIDS = [(bits, grid) for bits in range(2, 9) for grid in ("absmax", "gaussian")]


def drawn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def nearest(row, bits, grid):
    """Every level written out, the nearest taken."""
    if grid == "absmax":
        top, count = row.abs().max(), 2**bits - 1
    else:
        top, count = ALPHA[bits] * row.square().mean().sqrt(), 2**bits
    levels = torch.linspace(-1, 1, count, dtype=torch.float64) * top
    return levels[(row[:, None] - levels).abs().argmin(dim=1)]


def gaussian_error(alpha, bits):
    """Mean squared error on N(0, 1), by integration."""
    x = torch.linspace(-12, 12, 2_400_001, dtype=torch.float64)
    density = torch.exp(-x.square() / 2) / math.sqrt(2 * math.pi)
    q = round_to_grid(x, torch.full((1,), alpha, dtype=torch.float64), bits, "gaussian")
    return torch.trapezoid((q - x).square() * density, x).item()


@pytest.mark.parametrize(("bits", "grid"), GRIDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_value_goes_to_its_nearest_level(shape, bits, grid):
    x = drawn(*shape)
    expected = torch.stack([nearest(row, bits, grid) for row in x])
    torch.testing.assert_close(quantize(x, bits, grid), expected, rtol=1e-12, atol=1e-12)
    narrow = quantize(x.float(), bits, grid).double()
    near_a_tie = (narrow - expected).abs() > 1e-5 * x.abs().max()  # fp32 may take the other of two equally near levels
    assert near_a_tie.double().mean() < 1e-2
    torch.testing.assert_close((narrow - x).abs(), (expected - x).abs(), rtol=0, atol=2e-6 * x.abs().max().item())


@pytest.mark.parametrize("bits", ALPHA)
def test_the_clip_is_the_best_one_and_its_error_the_published_one(bits):
    best = gaussian_error(ALPHA[bits], bits)
    assert best == pytest.approx(GAUSSIAN_MSE[bits], rel=1e-4)
    assert best < gaussian_error(ALPHA[bits] * 1.01, bits) and best < gaussian_error(ALPHA[bits] * 0.99, bits)


@pytest.mark.parametrize(("grid", "known"), [("absmax", 0.0195), ("gaussian", 0.01155)])
def test_errors_of_four_bit_rows_of_768_are_the_known_ones(grid, known):
    x = drawn(4000, 768)
    error = (quantize(x, 4, grid) - x).square().sum() / x.square().sum()
    assert error.item() == pytest.approx(known, rel=5e-3)


@pytest.mark.parametrize(("bits", "grid"), GRIDS)
def test_a_row_has_no_more_levels_than_bits_give_and_wide_rows_have_them_all(bits, grid):
    row = torch.linspace(-1, 1, 90_001).pow(9)[None]  # long tails on both sides
    found = len(torch.unique(quantize(row, bits, grid)))
    assert found == (2**bits - 1 if grid == "absmax" else 2**bits)


@pytest.mark.parametrize("grid", ["absmax", "gaussian"])
@pytest.mark.parametrize("gradient", ["identity", "clip", "trust"])
def test_rows_of_zeros_and_tiny_rows_stay_finite_and_pass_gradients(grid, gradient):
    x = torch.tensor([[0.0, 0.0, 0.0], [1e-38, -1e-38, 0.0], [1e-25, -1e-25, 3e-26]], requires_grad=True)
    y = quantize(x, 4, grid, gradient=gradient)
    y.sum().backward()
    assert y[0].tolist() == [0.0, 0.0, 0.0] and y.isfinite().all()
    assert x.grad[0].tolist() == [1.0, 1.0, 1.0] and x.grad.isfinite().all()


def test_what_is_no_number_stays_none():
    assert quantize(torch.tensor([[1.0, float("nan")]]), 4, "absmax").isnan().all()


# Around both bounds, with top = 3.5 and half = 3.5: a step is 1, so clip ends at 3.5 and trust at 4.
AROUND = [0.0, 3.4999, 3.5, 3.5001, 3.9999, 4.0, 4.0001, 9.0]
MASKS = {
    "identity": [1, 1, 1, 1, 1, 1, 1, 1],
    "clip": [1, 1, 1, 0, 0, 0, 0, 0],
    "trust": [1, 1, 1, 1, 1, 1, 0, 0],
}


@pytest.mark.parametrize("gradient", MASKS)
@pytest.mark.parametrize("sign", [1, -1])
def test_each_mask_ends_where_it_says_bounds_included(gradient, sign):
    x = sign * torch.tensor([AROUND], dtype=torch.float64)
    mask = gradient_mask(x, torch.tensor([[3.5]], dtype=torch.float64), 3, "gaussian", gradient)
    assert mask.int().tolist() == [MASKS[gradient]]


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_trust_is_an_error_of_at_most_half_a_step(bits):
    x = drawn(50, 512)
    top = largest_level(x, bits, "gaussian")
    error = (round_to_grid(x, top, bits, "gaussian") - x).abs()
    bound = ALPHA[bits] / (2**bits - 1) * x.square().mean(dim=-1, keepdim=True).sqrt()  # QuEST's T sigma
    sure = (error - bound).abs() > 1e-9 * bound
    assert torch.equal((error <= bound)[sure], gradient_mask(x, top, bits, "gaussian", "trust")[sure])
    assert 0 < 1 - gradient_mask(x, top, bits, "gaussian", "trust").double().mean() < 0.1


@pytest.mark.parametrize(("bits", "grid"), GRIDS)
@pytest.mark.parametrize("gradient", MASKS)
def test_the_gradient_is_the_incoming_one_times_the_mask(bits, grid, gradient):
    x = drawn(6, 96, dtype=torch.float32).requires_grad_()
    g = drawn(6, 96, seed=1, dtype=torch.float32) * 1e-6  # small ones too pass unrounded
    quantize(x, bits, grid, gradient=gradient).backward(g)
    mask = gradient_mask(x.detach(), largest_level(x.detach(), bits, grid), bits, grid, gradient)
    assert torch.equal(x.grad, g * mask)
    if grid == "absmax":
        assert mask.all()  # nothing lies beyond the largest


def test_the_scale_carries_no_gradient():
    x = torch.tensor([[1.0, 4.0]], requires_grad=True)
    quantize(x, 4, "absmax")[0, 0].backward()
    assert x.grad.tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize("grid", ["absmax", "gaussian"])
def test_a_group_is_rounded_as_a_row_of_its_own(grid):
    x = drawn(5, 96)
    assert torch.equal(quantize(x, 4, grid, 32), torch.cat([quantize(p, 4, grid) for p in x.split(32, 1)], 1))
    assert grouped(x, 32).shape == (5, 3, 32) and grouped(x, 0) is x


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_a_dtype_comes_back_and_narrow_ones_are_rounded_in_fp32(dtype):
    x = drawn(4, 64).to(dtype)
    y = quantize(x, 4, "gaussian")
    assert y.dtype == dtype
    if dtype in (torch.bfloat16, torch.float16):
        assert torch.equal(y, quantize(x.float(), 4, "gaussian").to(dtype))


@pytest.mark.parametrize(("width", "block"), [(768, 128), (1600, 64), (352, 32), (1376, 32), (64, 64), (33, 1), (1, 1)])
def test_the_block_is_the_largest_power_of_two_that_divides(width, block):
    assert hadamard_block(width, 128) == block
    assert hadamard_block(width, 0) == 1


@pytest.mark.parametrize("block", [2, 32, 64, 128])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_rotation_is_orthonormal_and_cancels_between_operands(block, dtype):
    signs = hadamard_signs(block)
    assert torch.equal(signs @ signs.T, block * torch.eye(block)) and torch.equal(signs, signs.T)
    x, w = drawn(7, 3 * block, dtype=dtype), drawn(5, 3 * block, seed=1, dtype=dtype)
    close = {"rtol": 1e-5, "atol": 1e-4} if dtype == torch.float32 else {"rtol": 1e-12, "atol": 1e-12}
    torch.testing.assert_close(rotate(x, signs) @ rotate(w, signs).T, x @ w.T, **close)
    torch.testing.assert_close(rotate(rotate(x, signs), signs), x, **close)
    assert not torch.allclose(rotate(x, signs), x)


def test_a_rotation_spreads_an_outlier():
    x = drawn(1, 128) * 0.01
    x[0, 5] = 10.0
    turned = rotate(x, hadamard_signs(128))
    assert turned.abs().max() < 1.0 < 10 * turned.abs().median()


def test_half_levels_are_those_of_the_grid():
    assert [half_levels(b, "absmax") for b in (2, 4, 8)] == [1, 7, 127]
    assert [half_levels(b, "gaussian") for b in (2, 4, 8)] == [1.5, 7.5, 127.5]


@pytest.mark.parametrize("shape", SHAPES)
def test_e4m3_takes_the_nearest_of_its_numbers_and_its_gradient_is_exact(shape):
    codes = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn).double()
    levels = codes[codes.isfinite()].unique()
    assert levels.max() == 448 and len(levels) == 253  # 2 x 126 and zero
    x = drawn(*shape)
    top = x.abs().amax(dim=-1, keepdim=True)
    scaled = x * (448 / top)
    distances = (scaled[..., None] - levels).abs()
    found = quantize(x, 8, "e4m3")
    assert torch.allclose((found * (448 / top) - scaled).abs(), distances.amin(-1), atol=2e-5)
    w = x.clone().requires_grad_()
    gradient = torch.full(shape, 1e-7, dtype=torch.float64)  # far below what e4m3 could hold
    quantize(w, 8, "e4m3").backward(gradient)
    assert torch.equal(w.grad, gradient)
    assert torch.equal(quantize(torch.zeros(shape), 8, "e4m3"), torch.zeros(shape))
