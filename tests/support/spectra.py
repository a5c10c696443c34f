"""Symmetric matrices of known spectra."""

import torch


def symmetric(k: int, n: int, condition: float = 1e3, seed: int = 0) -> torch.Tensor:
    """Return float64 matrices whose eigenvalues fall geometrically from 1 to 1 / condition."""
    generator = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(k, n, n, generator=generator, dtype=torch.float64))[0]
    return (basis * condition ** -torch.linspace(0, 1, n, dtype=torch.float64)) @ basis.mT
