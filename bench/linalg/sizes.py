"""Factors that make one learning rate fit orthogonalized steps of all shapes (out, in)."""

import math


def spectral(rows: int, columns: int) -> float:
    """Return sqrt(max(1, out / in)): Jordan's, which lengthens the steps of tall matrices. Jordan 2024, Muon's code."""
    return math.sqrt(max(1.0, rows / columns))


def unit_gain(rows: int, columns: int) -> float:
    """Return sqrt(out / in): outputs change as much as inputs are large, root mean squares of both.

    Bernstein and Newhouse 2024, arXiv:2410.21265.
    """
    return math.sqrt(rows / columns)


def rms_matched(rows: int, columns: int) -> float:
    """Return 0.2 sqrt(max(out, in)): entries of root mean square 0.2, about AdamW's.

    Liu et al. 2025, arXiv:2502.16982, Section 2.2.
    """
    return 0.2 * math.sqrt(max(rows, columns))
