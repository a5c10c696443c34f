"""Validation loss: by the harness, on the same tokens for everyone, outside the clock."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from bench.workers import ALONE, Workers

SequenceLosses = Callable[[Tensor], Tensor]  # (B, S) tokens on the device -> (B,) nats per token


@torch.no_grad()
def evaluate(
    losses_of: SequenceLosses, tokens_NS: np.ndarray, batch: int, device: torch.device, workers: Workers = ALONE
) -> np.ndarray:
    """Return the loss of each sequence, shape (N,), float64; the last batch is filled up, so one shape is compiled.

    Ranks take the batches in turn; each batch is what it is with one rank, and so are its losses' bits.
    """
    missing = -len(tokens_NS) % batch
    padded = np.concatenate([tokens_NS, np.repeat(tokens_NS[-1:], missing, axis=0)])
    losses = torch.zeros(len(padded), dtype=torch.float64, device=device)
    for start in range(workers.rank * batch, len(padded), workers.ranks * batch):
        losses[start : start + batch] = losses_of(torch.from_numpy(padded[start : start + batch]).to(device))
    workers.sum([losses])
    return losses.cpu().numpy()[: len(tokens_NS)]


def block_means(losses_N: np.ndarray, blocks: int = 512) -> tuple[float, ...]:
    """Return mean losses of consecutive blocks of sequences, for resampling the validation text."""
    return tuple(float(np.float32(block.mean())) for block in np.array_split(losses_N, min(blocks, len(losses_N))))
