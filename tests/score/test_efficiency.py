"""Parameter efficiency: recovered from losses that follow the law, and absent where too few sizes stand."""

import math

import numpy as np
import pytest

from bench.errors import BenchError
from bench.score.efficiency import efficiency

SIZES = (25e6, 85e6, 308e6, 1.2e9)


def law(n, rho=1.0):
    return 40.0 / (n * rho) ** 0.2 + 1.7


@pytest.mark.parametrize("rho", [0.863, 0.739, 0.433])
@pytest.mark.parametrize("sizes", [SIZES[:3], SIZES], ids=len)
def test_the_law_gives_its_efficiency_back(sizes, rho):
    found = efficiency(sizes, [law(n) for n in sizes], [law(n, rho) for n in sizes])
    assert found.pairs == pytest.approx([rho] * len(sizes), rel=1e-3) and found.residual < 1e-5
    assert found.exponent == pytest.approx(0.2, rel=0.02) and found.floor == pytest.approx(1.7, rel=0.02)
    assert (found.rho is None) == (found.low is None) == (len(sizes) == 3)
    if found.rho is not None:
        assert found.rho == pytest.approx(rho, rel=1e-3)
        assert found.low <= found.high and found.low == pytest.approx(rho, rel=1e-2)


def test_each_size_has_its_own_share_by_the_law_of_bf16():
    shares = (0.9, 0.8, 0.7)
    found = efficiency(
        SIZES[:3], [law(n) for n in SIZES[:3]], [law(*one) for one in zip(SIZES[:3], shares, strict=True)]
    )
    assert found.pairs == pytest.approx(shares, rel=1e-3)
    gain = efficiency(SIZES[:3], [law(n) for n in SIZES[:3]], [1.0, law(SIZES[1]), law(SIZES[2], 1.1)])
    assert gain.pairs[0] is None and gain.pairs[1:] == pytest.approx((1.0, 1.1), rel=1e-3)


def test_noise_widens_what_the_fits_without_a_size_span():
    rng = np.random.default_rng(0)
    floats, losses = ([law(n, rho) * math.exp(rng.normal(0, 1e-3)) for n in SIZES] for rho in (1.0, 0.8))
    found = efficiency(SIZES, floats, losses)
    assert 0.7 < found.rho < 0.9 and found.low <= 0.8 <= found.high + 0.03 and found.high - found.low > 1e-3


def test_two_sizes_tell_nothing_and_odd_numbers_are_refused():
    assert efficiency(SIZES[:2], [3.0, 2.9], [3.1, 3.0]) is None
    with pytest.raises(BenchError, match="finite numbers above 0"):
        efficiency(SIZES[:3], [3.0, 2.9, float("nan")], [3.1, 3.0, 2.9])
    with pytest.raises(BenchError, match="3 sizes with 2 and 3 losses"):
        efficiency(SIZES[:3], [3.0, 2.9], [3.1, 3.0, 2.9])
