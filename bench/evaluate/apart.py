"""Evaluation in a process that gets only weights: it never loads the entry, so nothing that one patched is in it.

Where it runs as the run did (processor, threads, compiled or not) its losses are the record's to the bit.
"""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench.errors import BenchError
from bench.spec import Spec, validate

ROOT = Path(__file__).parents[2]


class Losses(Spec):
    evaluated: str  # digest of the weights
    select_loss: float | None
    score_loss: float | None


def losses_apart(task: Path, weights: Path, data: Path, compiled: bool) -> Losses:
    """Return both halves' losses at exported weights, measured by another process."""
    words = [task.absolute(), weights.absolute(), data.absolute(), int(compiled)]
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-m", "bench.evaluate.apart", *map(str, words)],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths},
    )  # fmt: skip
    if done.returncode:
        raise BenchError(f"{weights}: could not be evaluated: {(done.stderr.strip() or 'no word').splitlines()[-1]}")
    return validate(json.loads(done.stdout), Losses, str(weights))


def _measure(task_path: Path, weights: Path, data: Path, compiled: bool) -> Losses:
    import torch
    from torch import Tensor

    from bench.data.sequences import Sequences
    from bench.data.tokens import prepare
    from bench.evaluate.loss import evaluate
    from bench.evaluate.weights import read_model
    from bench.machine import make_deterministic
    from bench.model import sequence_losses, weights_digest
    from bench.task import read_task

    task = read_task(task_path)
    make_deterministic(task.training.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = read_model(weights, task.model.attention).to(device)
    losses_of: Callable[[Tensor], Tensor] = partial(sequence_losses, model)
    if compiled:
        losses_of = torch.compile(losses_of, dynamic=False, fullgraph=not task.training.activation_checkpointing)
    tokens = prepare(task.data, task.model.vocabulary, data)
    halves = [Sequences(tokens[half], task.training.context) for half in ("select", "score")]
    means = [
        float(evaluate(losses_of, half.in_order(0, len(half)), task.evaluation.batch_sequences, device).mean())
        for half in halves
    ]
    select, score = means if all(map(math.isfinite, means)) else (None, None)
    return Losses(evaluated=weights_digest(model), select_loss=select, score_loss=score)


if __name__ == "__main__":
    print(_measure(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4] == "1").model_dump_json())
