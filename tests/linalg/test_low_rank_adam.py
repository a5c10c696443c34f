"""Leading singular vectors against NumPy's in float64, and Adam in the subspace that they span."""

import numpy as np
import pytest
import torch
from open_loop import SQUARE, TALL, WIDE, displacements, gradients_of, roles_with, weights_of

from bench.linalg.low_rank_adam import LowRankAdam, factors, leading_vectors

SETTINGS = {"lr": 1.0, "rank": 0.5, "subspace_frequency": 4, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8}


class Projected(LowRankAdam):
    def update(self, gradients, state, group):
        _, direction, correction = self.direction(gradients, state, group)
        left, right = factors(direction, state["basis"])
        return correction * left @ right


def steep(k: int, m: int, n: int, decades: float) -> torch.Tensor:
    """Return float64 matrices whose singular values fall geometrically from 1 by so many decades."""
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.linalg.qr(torch.randn(k, s, m, generator=generator, dtype=torch.float64))[0] for s in (m, n))
    return (left * torch.logspace(0, -decades, m, dtype=torch.float64)) @ right.mT


@pytest.mark.parametrize("decades", [1.0, 6.0])
@pytest.mark.parametrize("shape", [(16, 40), (24, 24)])
def test_they_are_numpy_s_singular_vectors_with_the_largest_entry_positive(shape, decades):
    """In fp32 they are within rounding of the gap to the next singular value, small values among them."""
    stack = steep(3, *shape, decades)
    for dtype, bound in ((torch.float64, 1e-9), (torch.float32, 1e-5)):
        found = leading_vectors(stack.to(dtype), 8)
        for vectors, matrix in zip(found.double().numpy(), stack.to(dtype).double().numpy(), strict=True):
            expected = np.linalg.svd(matrix)[0][:, :8]
            largest = expected[np.abs(expected).argmax(axis=0), np.arange(8)]
            assert np.abs(vectors - expected * np.sign(largest)).max() < bound


def test_they_are_orthonormal_for_gradients_of_low_rank_and_of_zeros():
    generator = torch.Generator().manual_seed(1)
    thin = torch.randn(2, 16, 3, generator=generator) @ torch.randn(2, 3, 40, generator=generator)
    for stack in (thin, 1e-20 * thin, 1e15 * thin, torch.zeros(2, 16, 40)):
        found = leading_vectors(stack, 8)
        torch.testing.assert_close(found.mT @ found, torch.eye(8).expand(2, 8, 8), rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(32, 48), (128, 384)])
def test_the_bits_of_a_matrix_do_not_depend_on_its_neighbours(shape):
    stack = torch.randn(4, *shape, generator=torch.Generator().manual_seed(2))
    together = leading_vectors(stack, 8)
    for first in range(4):
        assert torch.equal(leading_vectors(stack[first : first + 1], 8), together[first : first + 1])


@pytest.mark.parametrize("shape", [TALL, WIDE, SQUARE])
def test_at_full_rank_it_is_adam_in_a_rotated_basis(shape):
    """One basis throughout: Adam on P^T G, turned back."""
    gradients = gradients_of([shape])
    weights = weights_of([shape], torch.float64)
    settings = {**SETTINGS, "rank": 1.0, "subspace_frequency": 100, "lr": 0.1, "eps": 0.0}
    mine = displacements(weights, [Projected(roles_with(weights).hidden, settings)], gradients)
    tall = shape[0] >= shape[1]
    u, _, vh = torch.linalg.svd(gradients[0][0].double(), full_matrices=False)
    turned = [[(g.double() @ vh.mT if tall else u.mT @ g.double())] for (g,) in gradients]
    others = weights_of([shape], torch.float64)
    theirs = displacements(others, [torch.optim.Adam(others, lr=0.1, betas=(0.9, 0.99), eps=0.0)], turned)
    for step, ((a,), (b,)) in enumerate(zip(mine, theirs, strict=True)):
        expected = b @ vh if tall else u @ b
        torch.testing.assert_close(a, expected, rtol=1e-5, atol=1e-6, msg=f"step {step + 1}")


@pytest.mark.parametrize("shape", [TALL, WIDE, SQUARE])
def test_between_two_projections_a_weight_moves_in_their_span_only(shape):
    weights = weights_of([shape], torch.float64)
    optimizer = Projected(roles_with(weights).hidden, SETTINGS)
    spans = []
    for step in gradients_of([shape], steps=6):
        ((moved,),) = displacements(weights, [optimizer], [step])
        basis = optimizer.state[weights[0]]["basis"][0]
        spans.append(basis.clone())
        seen = moved.mT if shape[0] >= shape[1] else moved
        assert (seen - basis @ (basis.mT @ seen)).abs().max() < 1e-12
    assert [torch.equal(spans[0], span) for span in spans] == [True] * 4 + [False] * 2  # renewed at the fifth step
