"""The probe: what an optimizer with `wants_probe = True` may ask of the model within its step, which is step(probe).

On the current batch no tokens are spent, and passes are counted: a forward-backward is 1, a Jacobian-vector product or
a lone forward 1/3. Fresh sequences come from a stream of their own, and their tokens shorten the run. Every call is
metered, and the run is charged for it (protocol A7).

Every rank makes the same calls in the same order; gradients are summed over ranks as the loop sums its own.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer
from transformers import PreTrainedModel

from bench.along import Along, Reduce, weights_at
from bench.digest import digest_of
from bench.errors import BenchError
from bench.machine import forget_peak_memory, peak_memory_bytes
from bench.model import sampled_losses, sequence_losses
from bench.workers import Workers

Gradients = dict[Parameter, Tensor]  # of every weight that has one, the harness's among them
Losses = Callable[[Tensor], Tensor]  # (B, S) tokens on the device -> (B,) nats per token
BACKWARD, FORWARD = 3, 1  # charges, in thirds of a forward-backward


@dataclass(frozen=True)
class Means:
    """What probe calls are made with, through the whole run."""

    model: PreTrainedModel
    losses_of: Losses  # of whole micro-batches, the only shape it may be compiled for
    weights: Sequence[Parameter]
    micro_batch: int  # sequences per forward pass, of each rank
    clip: float | None
    device: torch.device
    workers: Workers
    seed: int
    fresh_at: Callable[[int, int], Tensor]  # (first, count) -> (count, S) tokens of the separate stream
    rounds: bool  # the mode rounds: the logits have no derivative along a step


@dataclass
class Calls:
    """All calls of one kind so far."""

    calls: int = 0
    token_thirds: int = 0  # charged: tokens x thirds of a forward-backward
    seconds: float = 0.0
    peak_memory_bytes: int = 0  # of the largest


@dataclass(frozen=True)
class Batch:
    """The batch of the step that is being made."""

    step: int
    tokens_BS: Tensor  # this rank's share, on the device
    left: int  # sequences that the budget has left after it


class Probe:
    """One run's probe. The first methods are the loop's, those that follow an optimizer's."""

    def __init__(self, means: Means, told: Mapping[str, Any]) -> None:
        self._means = means
        self._batch: Batch | None = None  # of the step that is open
        self._calls = {kind: Calls(**calls) for kind, calls in told.get("calls", {}).items()}
        self._fresh: int = told.get("fresh", 0)  # sequences of the separate stream that were drawn
        self._taken = self._fresh
        self._along = Along(means.model, told.get("way"))
        self._between: int = told.get("peak_memory_bytes", 0)  # of training, which the calls' own peaks would hide

    def told(self) -> dict[str, Any]:
        """Return all that a resumed run's probe must know, and a record tells; plain values."""
        return {
            "calls": {kind: asdict(calls) for kind, calls in self._calls.items()},
            "fresh": self._fresh,
            "way": self._along.way,
            "peak_memory_bytes": self._between,
        }

    def taken(self) -> int:
        """Return the fresh sequences that were drawn since it was last asked."""
        count: int = self._fresh - self._taken
        self._taken = self._fresh
        return count

    @contextmanager
    def on(self, batch: Batch) -> Iterator[None]:
        """Open the probe for one step."""
        self._batch = batch
        try:
            yield
        finally:
            self._batch = None

    @property
    def grain(self) -> int:
        """Return the sequences of one forward pass over all ranks: batches and fresh draws come in multiples of it."""
        return self._means.micro_batch * self._means.workers.ranks

    @property
    def ranks(self) -> int:
        return self._means.workers.ranks

    @property
    def sequences(self) -> int:
        """Return the size of the current batch, over all ranks."""
        return len(self._open("sequences").tokens_BS) * self._means.workers.ranks

    @property
    def left(self) -> int:
        """Return the sequences that the budget has left after this batch and what was drawn."""
        return self._open("left").left

    def gradient(self, at: Mapping[Parameter, Tensor] | None = None, clipped: bool = False) -> Gradients:
        """Return the gradient of the batch's mean loss, with some weights at other values; one pass.

        clipped: to the task's norm, by its own norm, as the gradient is that the step is given.
        """
        tokens = self._open("gradient").tokens_BS
        with self._call("gradient", BACKWARD * tokens[:, 1:].numel()), weights_at(at or {}):
            found = self._gradient_of(tokens, self._losses_of)
            return self._clipped(found) if clipped else found

    def sampled_gradient(self) -> Gradients:
        """Return the gradient of the batch's mean loss at labels drawn from the model itself, not clipped; one pass."""
        batch = self._open("sampled_gradient")
        tokens = batch.tokens_BS
        with self._call("sampled_gradient", BACKWARD * tokens[:, 1:].numel()) as calls:
            seed = int(digest_of(["labels", self._means.seed, batch.step, calls.calls])[:15], 16)
            whole = (len(tokens) * self._means.workers.ranks, tokens.shape[1] - 1)
            uniform = self._means.workers.share(torch.rand(whole, generator=torch.Generator().manual_seed(seed)))
            draws = iter(uniform.to(self._means.device).split(self._means.micro_batch))
            return self._gradient_of(tokens, lambda part: sampled_losses(self._means.model, part, next(draws)))

    def group_gradients(self, groups: int) -> Iterator[Gradients]:
        """Yield the gradient of the mean loss of each of so many equal parts of the batch; one pass together."""
        tokens = self._open("group_gradients").tokens_BS
        if groups < 1 or len(tokens) % groups:
            fit = [n for n in range(1, len(tokens) + 1) if len(tokens) % n == 0]
            raise BenchError(
                f"a probe was asked for {groups} groups of {len(tokens)} sequences a rank",
                f"equal groups can be {', '.join(map(str, fit))}",
            )
        for part in tokens.chunk(groups):
            with self._call("group_gradients", BACKWARD * part[:, 1:].numel()):
                found = self._gradient_of(part, self._losses_of)
            yield found

    def sequence_jacobian(self, residual: Callable[[Tensor], Tensor]) -> tuple[Tensor, Gradients]:
        """Return residual(loss) of each sequence, (B,), and for each weight its Jacobian (B, *shape); one pass.

        One rank only: the whole has B rows of all parameters.
        """
        tokens = self._open("sequence_jacobian").tokens_BS
        if self._means.workers.ranks > 1:
            raise BenchError("a Jacobian by sequence is made on one rank only", "run this entry on one device")
        with self._call("sequence_jacobian", BACKWARD * tokens[:, 1:].numel()):
            residuals: list[Tensor] = []
            rows: Gradients = {}
            for place, sequence in enumerate(tokens.split(1)):
                value = residual(self._losses_of(sequence)).sum()
                residuals.append(value.detach())
                for w, g in self._differentiated(value).items():
                    rows.setdefault(w, g.new_zeros(len(tokens), *g.shape))[place] = g
            return torch.stack(residuals), rows

    def logits_along(self, direction: Mapping[Parameter, Tensor], reduced: Reduce) -> Tensor:
        """Return the derivative of the batch's logits as the weights move along a direction; a third of a pass.

        reduced is given (1, T, V) of each sequence, V padded vocabulary, and returns (1, ...); the result has all
        sequences of all ranks, (B, ...). Central differences, where they have to do, cost two thirds. A mode that
        rounds is refused: its logits have no derivative.
        """
        tokens = self._open("logits_along").tokens_BS
        if self._means.rounds:
            raise BenchError(
                "the logits of a mode that rounds have no derivative along a step",
                "run an entry that asks for it in a mode of full precision",
            )
        count = tokens[:, 1:].numel()
        with self._call("logits_along", FORWARD * count) as calls:
            parts = tokens[:, :-1].split(self._means.micro_batch)
            own = torch.cat([self._along(part, direction, reduced) for part in parts])
            if self._along.way == "finite differences":
                calls.token_thirds += FORWARD * count * self._means.workers.ranks
            return self._gathered(own)

    def fresh_gradient(self, sequences: int, clipped: bool = False) -> Gradients | None:
        """Return the gradient of the mean loss of so many sequences of the separate stream; clipped as in gradient().

        They are as many as the budget has left where that is fewer; None where it has none, as in the last step.
        """
        batch = self._open("fresh_gradient")
        if sequences < 1 or sequences % self.grain:
            raise BenchError(
                f"a probe was asked for {sequences} fresh sequences",
                f"expected a multiple of {self.grain}, the sequences of a forward pass over all ranks",
            )
        count = min(sequences, batch.left)
        if not count:
            return None
        drawn = self._means.fresh_at(self._fresh, count)
        self._fresh += count
        self._batch = replace(batch, left=batch.left - count)
        tokens = self._means.workers.share(drawn).to(self._means.device)
        with self._call("fresh_gradient", BACKWARD * tokens[:, 1:].numel()):
            found = self._gradient_of(tokens, self._losses_of)
            return self._clipped(found) if clipped else found

    def _open(self, name: str) -> Batch:
        if self._batch is None:
            raise BenchError(
                f"probe.{name} was asked for outside of step()", "a probe serves the step that it is given to, no later"
            )
        return self._batch

    @contextmanager
    def _call(self, kind: str, thirds: int) -> Iterator[Calls]:
        """Meter a call; thirds are this rank's."""
        calls, device = self._calls.setdefault(kind, Calls()), self._means.device
        self._between = max(self._between, peak_memory_bytes(device) or 0)
        forget_peak_memory(device)
        _wait(device)
        start = time.perf_counter()
        with torch.enable_grad():
            yield calls
        _wait(device)
        calls.seconds += time.perf_counter() - start
        calls.calls += 1
        calls.token_thirds += thirds * self._means.workers.ranks
        calls.peak_memory_bytes = max(calls.peak_memory_bytes, peak_memory_bytes(device) or 0)

    def _losses_of(self, tokens_BS: Tensor) -> Tensor:
        """Return losses, by the compiled code where the shape is the one it is made for."""
        whole = len(tokens_BS) == self._means.micro_batch
        return self._means.losses_of(tokens_BS) if whole else sequence_losses(self._means.model, tokens_BS)

    def _differentiated(self, value: Tensor) -> Gradients:
        weights = list(self._means.weights)
        found = torch.autograd.grad(value, weights, allow_unused=True)
        return {w: g for w, g in zip(weights, found, strict=True) if g is not None}

    def _gradient_of(self, tokens_BS: Tensor, losses_of: Losses) -> Gradients:
        """Return the gradient of the mean over all ranks, added up as in the loop: micro-batches, then ranks."""
        parts = tokens_BS.split(self._means.micro_batch)
        total: Gradients = {}
        for part in parts:
            loss = losses_of(part).mean() / (len(parts) * self._means.workers.ranks)
            for w, g in self._differentiated(loss).items():
                total[w] = total[w].add_(g) if w in total else g
        self._means.workers.sum(list(total.values()))
        return total

    def _clipped(self, found: Gradients) -> Gradients:
        if self._means.clip is not None:
            norm = torch.nn.utils.get_total_norm(list(found.values()))
            torch._foreach_mul_(list(found.values()), (self._means.clip / norm).clamp(max=1.0))
        return found

    def _gathered(self, own: Tensor) -> Tensor:
        """Return every rank's rows in the order of ranks."""
        workers = self._means.workers
        if workers.ranks == 1:
            return own
        everything = own.new_zeros(workers.ranks * len(own), *own.shape[1:])
        workers.share(everything).copy_(own)
        workers.sum([everything])
        return everything


def step_with(optimizer: Optimizer, probe: Probe | None) -> None:
    """Make one optimizer's step, with the probe where it wants one."""
    if getattr(optimizer, "wants_probe", False):
        optimizer.step(probe)  # type: ignore[arg-type]
    else:
        optimizer.step()


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
