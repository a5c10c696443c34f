"""Doubles without their last bits, in which processors differ: boards and releases are built again to the byte."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

LAST = 12  # bits of 52: an exponential or a logarithm is within one of them, and what follows adds a few


def steady(numbers: ArrayLike) -> NDArray[np.float64]:
    """Return numbers rounded to 40 bits after the first, 1 part in 2e12.

    numpy's exp and log take the widest instructions that there are, and end with other last bits on another processor.
    """
    bits = np.asarray(numbers, dtype=np.float64).view(np.int64)
    rounded: NDArray[np.float64] = ((bits + (1 << LAST - 1)) & -(1 << LAST)).view(np.float64)
    return rounded
