"""Same-shaped matrices together: one batched product instead of many small ones."""

from collections import defaultdict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def map_stacks(matrices: Sequence[Tensor], function: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """Return function applied to stacks (k, m, n), m <= n, of all matrices of a shape or its transpose, in order.

    For functions that commute with transposition, as orthogonalization does.
    """
    places: dict[tuple[int, int], list[int]] = defaultdict(list)
    for place, matrix in enumerate(matrices):
        rows, columns = sorted(matrix.shape)
        places[rows, columns].append(place)
    results: list[Tensor] = list(matrices)
    for members in places.values():
        flat = [m.mT if m.shape[0] > m.shape[1] else m for m in (matrices[place] for place in members)]
        for place, result in zip(members, function(torch.stack(flat)), strict=True):
            tall = matrices[place].shape[0] > matrices[place].shape[1]
            results[place] = result.mT if tall else result
    return results
