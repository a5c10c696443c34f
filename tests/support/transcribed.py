"""Matrix maps in NumPy, that transcriptions of more than one method are written with."""

import numpy as np


def polar(x: np.ndarray) -> np.ndarray:
    """Return U V^T over the singular values that are not zero."""
    u, s, vh = np.linalg.svd(x, full_matrices=False)
    return (u * (s > 1e-12 * s[0])) @ vh


def newton_schulz(u: np.ndarray) -> np.ndarray:
    """Return five of Jordan's quintic steps."""
    x = u / (np.linalg.norm(u) + 1e-7)
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x


def base_map(x: np.ndarray, base: str, rounds: int = 5) -> np.ndarray:
    """Return ARO's base maps without memory: "sign", "row-norm", or so many rounds of Sinkhorn."""
    if base == "sign":
        return np.sign(x)
    if base == "row-norm":
        return x / np.linalg.norm(x, axis=1, keepdims=True)
    for _ in range(rounds):
        x = x / np.linalg.norm(x, axis=1, keepdims=True) / np.linalg.norm(x, axis=0, keepdims=True)
    return x
