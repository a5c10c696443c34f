"""Adam's denominators: bias correction by the group's rates, or by the second moment's own."""

import pytest
import torch

from bench.linalg.moments import denominators

GROUP = {"beta1": 0.9, "beta2": 0.99, "eps": 0.0, "step": 2}


@pytest.mark.parametrize("own, used", [(None, 0.99), (0.0, 0.0), (0.5, 0.5)])
def test_the_second_moment_is_corrected_by_its_own_rate_where_it_has_one(own, used):
    (found,) = denominators([torch.tensor([4.0])], GROUP, own)
    assert float(found) == pytest.approx((1 - 0.9**2) * (4.0 / (1 - used**2)) ** 0.5)
