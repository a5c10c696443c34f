"""Other singular values under the same singular vectors: U diag(f(s)) V^T of U diag(s) V^T, batched over stacks.

By a singular value decomposition in the input's dtype. Its error in a singular value, whatever its size, is a few
units of rounding by the largest, so a function as steep at 0 as s^p, p < 1, is f'(s) times as far off. Values below 8
units by the Frobenius norm are rounding error altogether, and become zero whatever the function says.
"""

from collections.abc import Callable

import torch
from torch import Tensor

ROUNDING = 8.0


def with_spectrum(stack: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """Return matrices (k, m, n) whose singular values (k, min(m, n)), given in descending order, are function's."""
    u, s, vh = torch.linalg.svd(stack, full_matrices=False)
    error = ROUNDING * torch.finfo(stack.dtype).eps * s.norm(dim=-1, keepdim=True)
    rounding = s <= error
    new = function(s.masked_fill(rounding, 0.0)).masked_fill(rounding, 0.0)
    return torch.matmul(u * new.unsqueeze(-2), vh)
