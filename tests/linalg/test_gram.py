"""Running Gram matrices: the lower triangle is the full product's, whatever the panels; mirrored, both are."""

import pytest
import torch

from bench.linalg import gram


@pytest.mark.parametrize("rows", [1, 7, 8, 9, 20])
def test_a_lower_triangle_is_the_full_product_s_and_mirroring_fills_the_upper(monkeypatch, rows):
    monkeypatch.setattr(gram, "PANEL", 8)
    x = torch.randn(3, rows, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    total = torch.eye(rows, dtype=torch.float64).repeat(3, 1, 1)
    expected = 0.9 * total + 0.1 * x @ x.mT
    gram.accumulate(total, x, 0.9, 0.1)
    torch.testing.assert_close(total.tril(), expected.tril(), rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(gram.mirror(total), expected, rtol=1e-14, atol=1e-14)


def test_in_fp32_it_is_near_float64():
    x = torch.randn(2, 300, 700, generator=torch.Generator().manual_seed(1))
    total = torch.zeros(2, 300, 300)
    gram.accumulate(total, x, 0.0, 1.0)
    exact = x.double() @ x.double().mT
    assert (gram.mirror(total) - exact).abs().max() < 1e-5 * 700
