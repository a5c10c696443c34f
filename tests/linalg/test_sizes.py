"""Sizes of orthogonalized steps: each makes one norm of the step the same for every shape."""

import pytest
import torch

from bench.linalg.newton_schulz import polar_factor
from bench.linalg.sizes import rms_matched, spectral, unit_gain

every_shape = pytest.mark.parametrize("shape", [(24, 8), (8, 24), (16, 16)], ids=["tall", "wide", "square"])


def step_of(shape: tuple[int, int]) -> torch.Tensor:
    drawn = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return polar_factor(drawn)[0]


@every_shape
def test_rms_matched_steps_have_entries_of_adamw_s_size(shape):
    assert float((rms_matched(*shape) * step_of(shape)).square().mean().sqrt()) == pytest.approx(0.2)


@every_shape
def test_steps_of_unit_gain_change_outputs_by_as_much_as_inputs_are_large(shape):
    inputs = torch.linalg.svd(step_of(shape)).Vh[0] * shape[1] ** 0.5  # of root mean square 1, along the largest value
    assert float((unit_gain(*shape) * step_of(shape) @ inputs).square().mean().sqrt()) == pytest.approx(1.0)


@every_shape
def test_the_spectral_size_is_that_of_unit_gain_and_shortens_no_step(shape):
    assert spectral(*shape) == max(1.0, unit_gain(*shape))
