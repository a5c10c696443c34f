"""Grids, rounding, rotation and gradient masks: pure functions over the last dimension of a tensor.

A grid is set by its largest level `top`, one per row of the last dimension, shape (..., 1), and by how many steps lie
between zero and it, `half`. AbsMax: top = max|x|, half = 2^(b-1) - 1, levels are the integers from -half to half.
Gaussian: top = alpha_b * rms(x), half = (2^b - 1) / 2, levels are half-integers: 2^b of them, none at zero (the
mid-rise grid of QuEST, arXiv 2502.05003). e4m3: top = max|x|, levels are the 8-bit floating-point numbers with 4 bits
of exponent and 3 of mantissa (arXiv 2209.05433), whose largest is 448; only their values are used, products stay bf16,
so that no gradient passes through a narrow format. All scale with x, and a row of zeros stays one.
"""

from typing import Any

import torch
from torch import Tensor

# alpha_b minimises the mean squared error of the mid-rise grid on N(0, 1).
ALPHA = {2: 1.493530, 3: 2.051068, 4: 2.514005, 5: 2.916151, 6: 3.277985, 7: 3.611097, 8: 3.922204}
LARGEST_E4M3 = 448.0
SMALLEST_TOP = 1e-30  # its reciprocal is finite in fp32; rows smaller than this round to nothing


def half_levels(bits: int, grid: str) -> float:
    """Return the steps from zero to the largest level."""
    if grid == "e4m3":
        return LARGEST_E4M3
    return 2.0 ** (bits - 1) - 1 if grid == "absmax" else (2.0**bits - 1) / 2


def largest_level(x: Tensor, bits: int, grid: str) -> Tensor:
    """Return top, shape (..., 1)."""
    if grid in ("absmax", "e4m3"):
        return x.abs().amax(dim=-1, keepdim=True)
    return ALPHA[bits] * x.square().mean(dim=-1, keepdim=True).sqrt()


def round_to_grid(x: Tensor, top: Tensor, bits: int, grid: str) -> Tensor:
    """Return the nearest levels; beyond the largest, the largest."""
    half = half_levels(bits, grid)
    steps = x * (half / top.clamp(min=SMALLEST_TOP))
    if grid == "absmax":
        return steps.round() * (top / half)
    if grid == "e4m3":
        level = steps.clamp(-half, half).to(torch.float32).to(torch.float8_e4m3fn).to(x.dtype)
        return level * (top / half)
    return (steps.floor().clamp(-(half + 0.5), half - 0.5) + 0.5) * (top / half)


def gradient_mask(x: Tensor, top: Tensor, bits: int, grid: str, gradient: str) -> Tensor:
    """Return where a gradient passes, as booleans; bounds included.

    clip: up to the largest level. trust: where the rounding error is at most half a step (QuEST, section 3.3), which is
    up to half a step beyond the largest level. The bound is on |x|, not on the error, whose own rounding would cut
    entries that lie between two levels.
    """
    if gradient == "identity":
        return torch.ones_like(x, dtype=torch.bool)
    beyond = 0.0 if gradient == "clip" else 0.5 / half_levels(bits, grid)
    return x.abs() <= top * (1.0 + beyond)


class _Rounding(torch.autograd.Function):
    """x -> its levels; backward the gradient times a mask written out, never the derivative of clamp or round."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bits: int, grid: str, gradient: str) -> Tensor:
        top = largest_level(x, bits, grid)
        ctx.masked = gradient != "identity"
        if ctx.masked:
            ctx.save_for_backward(gradient_mask(x, top, bits, grid, gradient))
        return round_to_grid(x, top, bits, grid)

    @staticmethod
    def backward(ctx: Any, *outputs: Any) -> Any:
        (g,) = outputs
        if ctx.masked:
            (mask,) = ctx.saved_tensors
            g = g * mask
        return g, None, None, None


def grouped(x: Tensor, group: int) -> Tensor:
    """Return x with the values that share a scale as its last dimension; group 0 is a whole row."""
    return x.unflatten(-1, (-1, group)) if group else x


def quantize(x: Tensor, bits: int, grid: str, group: int = 0, gradient: str = "identity") -> Tensor:
    """Return x rounded to its grid, of the same shape and dtype; the arithmetic is fp32 or wider."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    levels: Tensor = _Rounding.apply(grouped(wide, group), bits, grid, gradient)
    return levels.view(x.shape).to(x.dtype)


def hadamard_block(width: int, largest: int) -> int:
    """Return the largest power of two up to `largest` that divides the width; 1 leaves the vector as it is."""
    return min(width & -width, largest) if largest else 1


def hadamard_signs(block: int, device: torch.device | None = None) -> Tensor:
    """Return Sylvester's Hadamard matrix, entries +1 and -1, which are exact in every dtype; it is symmetric."""
    signs = torch.ones(1, 1, device=device)
    while len(signs) < block:
        signs = torch.cat([torch.cat([signs, signs], dim=1), torch.cat([signs, -signs], dim=1)])
    return signs


def rotate(x: Tensor, signs: Tensor) -> Tensor:
    """Return x H, H block-diagonal and orthonormal; (x H)(w H)^T = x w^T. The product is autocast's, the scale wide."""
    block = len(signs)
    turned: Tensor = x.unflatten(-1, (-1, block)) @ signs.to(x.dtype)
    return turned.to(torch.promote_types(x.dtype, torch.float32)).mul(block**-0.5).view(x.shape)
