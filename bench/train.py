"""The training loop. There is one, for every task, entry and mode; the order of events is the order of lines."""

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from bench.clock import Clock
from bench.errors import BenchError
from bench.probe import Batch, Means, Probe, step_with
from bench.roles import Controller
from bench.workers import ALONE, Workers

FLUSH_STEPS = 16  # losses are read from the device, checked and reported this often
MILESTONES = 256  # at most so many running digests are kept
RMS_SAMPLES = 16  # steps whose change of the weights is measured


@dataclass
class Progress:
    """All that a resumed run must know beside weights and optimizer state; plain values only."""

    step: int = 0  # steps done
    tokens: int = 0  # spent, fresh ones of a probe among them
    last_seen: int = 0  # tokens before the last step
    batches: list[int] = field(default_factory=list)  # sequences of each step
    probe: dict[str, Any] = field(default_factory=dict)  # what bench.probe.Probe.told() says
    data_chain: str = ""
    loss_chain: str = ""
    losses: list[float] = field(default_factory=list)  # nats per token, one per step
    norms: list[float] = field(default_factory=list)  # global gradient norm before clipping
    milestones: list[dict[str, Any]] = field(default_factory=list)
    curve: list[dict[str, Any]] = field(default_factory=list)
    train_seconds: float = 0.0
    lap_step_seconds: list[float] = field(default_factory=list)  # mean step time between two flushes
    initial_loss: float | None = None
    peak_memory_bytes: int | None = None  # of training and its curve, in the last sitting of a run that was resumed

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Course:
    """The numbers of one run's course."""

    steps: int  # at the task's batch
    batch_tokens: int
    context: int  # tokens of a sequence
    micro_batch: int  # sequences per forward pass, of each rank
    clip: float | None
    multiplier: Callable[[int], float]  # of the step that starts after so many tokens
    curve_every: int  # steps
    stop_after: int | None = None  # replay stops early; the schedule does not know

    @property
    def tokens(self) -> int:
        return self.steps * self.batch_tokens

    def grain(self, workers: Workers) -> int:
        """Return the sequences of one forward pass over all ranks: every batch is a multiple of it."""
        return self.micro_batch * workers.ranks


@dataclass(frozen=True)
class Parts:
    """What is trained, by whom, on what. One argument instead of six, since replay and tests pass them on."""

    parameters: dict[str, list[Parameter]]  # by role
    optimizers: Sequence[Optimizer]
    peaks: Sequence[Sequence[float]]  # learning rate of each optimizer's groups before the schedule
    losses_of: Callable[[Tensor], Tensor]  # (B, S) tokens -> (B,) nats per token
    batch_at: Callable[[int, int], Tensor]  # (first, count) -> (count, S) tokens of the global order, on the CPU
    curve_loss: Callable[[], float]  # validation loss for the curve
    device: torch.device
    workers: Workers = ALONE
    owned: Sequence[Sequence[Parameter]] = ()  # by rank: parameters that it alone steps, and then hands round
    around_step: Callable[[], AbstractContextManager[None]] = nullcontext  # the transfer track's rescaling
    probe: Means | None = None  # what probe calls are made with, where an optimizer wants one

    @property
    def controller(self) -> Controller | None:
        """The optimizer that chooses how large the next batch is, if one does."""
        return next((o for o in self.optimizers if isinstance(o, Controller)), None)


class Diverged(Exception):
    """The loss or the gradient is no longer a number."""


def train(
    parts: Parts,
    course: Course,
    progress: Progress,
    clock: Clock,
    save: Callable[[bool], None],
    report: Callable[[Progress], None],
) -> None:
    """Spend the whole budget from where progress stands; raise Diverged when a number is none.

    save(False) is called where a checkpoint may be written, save(True) where one must; report after each flush.

    Every rank reads the whole batch, which goes into the chain, and trains on its share of it.
    """
    weights = [w for group in parts.parameters.values() for w in group]
    others = [w for rank, owned in enumerate(parts.owned) if rank != parts.workers.rank for w in owned]
    probe = Probe(parts.probe, progress.probe) if parts.probe else None
    milestone_every, rms_every = _pace(parts, course)
    curve_tokens = course.curve_every * course.batch_tokens
    pending: list[_Pending] = []
    step, seen, sequences = progress.step, progress.tokens, sum(progress.batches)
    last = math.inf if course.stop_after is None else course.stop_after
    while seen < course.tokens and step < last:
        if not progress.curve or seen // curve_tokens > progress.curve[-1]["tokens"] // curve_tokens:
            _flush(pending, course, progress, clock, milestone_every, report)
            with clock.paused():
                _look(parts, progress, seen)
        left = (course.tokens - seen) // course.context
        count = min(_batch_size(parts, course), left)
        tokens_BS = parts.batch_at(sequences, count)
        digest = hashlib.sha256(tokens_BS.numpy().tobytes()).hexdigest()
        share_BS = parts.workers.share(tokens_BS).to(parts.device, non_blocking=True)
        loss = _gradients(parts, course, weights, share_BS)
        norm = _clip(weights, course.clip)
        for w in others:
            w.grad = None  # an optimizer passes over a parameter without a gradient
        m = course.multiplier(seen)
        before = _copy(parts.parameters) if (step + 1) % rms_every == 0 else None
        for optimizer, rates in zip(parts.optimizers, parts.peaks, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * m
        pending.append(_Pending(loss, norm, digest, count))
        with parts.around_step(), probe.on(Batch(step, share_BS, left - count)) if probe else nullcontext():
            _step(parts.optimizers, probe, pending)
        if probe:
            pending[-1].fresh, progress.probe = probe.taken(), probe.told()
        parts.workers.hand_round(parts.owned)
        for w in weights:
            w.grad = None
        step, sequences, seen = step + 1, sequences + count, seen + pending[-1].tokens(course)
        ended = seen >= course.tokens or step == last
        if step % FLUSH_STEPS == 0 or before is not None or ended:
            _flush(pending, course, progress, clock, milestone_every, report)
            with clock.paused():
                if before is not None:
                    progress.milestones[-1]["update_rms"] = _update_rms(before, parts.parameters)
                save(ended)
    if seen >= course.tokens:
        _look(parts, progress, seen)


@dataclass
class _Pending:
    """A step whose numbers are not read from the device yet."""

    loss: Tensor
    norm: Tensor
    data: str  # digest of the batch
    batch: int  # sequences
    fresh: int = 0  # sequences that a probe drew

    def tokens(self, course: Course) -> int:
        return (self.batch + self.fresh) * course.context


def _pace(parts: Parts, course: Course) -> tuple[int, int]:
    """Return every how many steps a milestone is kept, and a step's change of the weights is measured."""
    steps = course.steps
    if parts.controller:  # which may choose the smallest batch throughout
        steps = course.tokens // (course.grain(parts.workers) * course.context)
    milestone_every = math.ceil(steps / MILESTONES)
    return milestone_every, milestone_every * max(1, steps // milestone_every // RMS_SAMPLES)


def _batch_size(parts: Parts, course: Course) -> int:
    """Return the sequences of the next batch: the task's, or what a controller asks for."""
    if parts.controller is None:
        return course.batch_tokens // course.context
    asked, grain = parts.controller.next_batch_sequences(), course.grain(parts.workers)
    most = course.tokens // course.context
    if not isinstance(asked, int) or asked < 1 or asked > most or asked % grain:
        what = "an empty batch" if asked == 0 else f"a batch of {asked} sequences"
        raise BenchError(
            f"{type(parts.controller).__name__}.next_batch_sequences() asks for {what}",
            f"expected a multiple of {grain}, the sequences of a forward pass over all ranks, up to {most}, the budget",
        )
    return asked


def _gradients(parts: Parts, course: Course, weights: list[Parameter], tokens_BS: Tensor) -> Tensor:
    """Accumulate the gradient of the whole batch's mean loss and return that loss; the tokens are this rank's share."""
    micro_batches = tokens_BS.split(course.micro_batch)
    total = torch.zeros((), device=parts.device)
    for tokens in micro_batches:
        loss = parts.losses_of(tokens).mean() / (len(micro_batches) * parts.workers.ranks)
        loss.backward()
        total += loss.detach()
    parts.workers.sum([*(w.grad for w in weights if w.grad is not None), total])
    return total


def _clip(weights: Iterable[Parameter], limit: float | None) -> Tensor:
    """Scale gradients down to the limit and return their global norm as it was."""
    gradients = [w.grad for w in weights if w.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    if limit is not None:
        torch._foreach_mul_(gradients, (limit / norm).clamp(max=1.0))
    return norm


def _step(optimizers: Sequence[Optimizer], probe: Probe | None, pending: list[_Pending]) -> None:
    """Step all, and pass over what fails on numbers that are none: the next flush tells, to all ranks at one step."""
    try:
        for optimizer in optimizers:
            step_with(optimizer, probe)
    except Exception:
        if all(math.isfinite(number) for waiting in pending for number in (waiting.loss, waiting.norm)):
            raise


def _flush(
    pending: list[_Pending],
    course: Course,
    progress: Progress,
    clock: Clock,
    milestone_every: int,
    report: Callable[[Progress], None],
) -> None:
    """Read what is pending from the device and link it into the chains; raise Diverged at the first non-number."""
    if not pending:
        return
    numbers = torch.stack([torch.stack([waiting.loss, waiting.norm]) for waiting in pending]).float().cpu()
    progress.lap_step_seconds.append(clock.lap() / len(pending))
    progress.train_seconds = clock.seconds
    for (loss, norm), waiting in zip(numbers, pending, strict=True):
        progress.data_chain = _link(progress.data_chain, bytes.fromhex(waiting.data))
        bits = progress.step.to_bytes(8, "little") + torch.stack([loss, norm]).numpy().tobytes()
        progress.loss_chain = _link(progress.loss_chain, bits)
        progress.losses.append(loss.item())
        progress.norms.append(norm.item())
        progress.step += 1
        progress.batches.append(waiting.batch)
        progress.last_seen, progress.tokens = progress.tokens, progress.tokens + waiting.tokens(course)
        if progress.step % milestone_every == 0:
            progress.milestones.append(
                {"step": progress.step, "data": progress.data_chain, "loss": progress.loss_chain, "update_rms": {}}
            )
        if not (math.isfinite(progress.losses[-1]) and math.isfinite(progress.norms[-1])):
            pending.clear()
            raise Diverged(f"loss {progress.losses[-1]} and gradient norm {progress.norms[-1]} at step {progress.step}")
    pending.clear()
    report(progress)


def _link(chain: str, data: bytes) -> str:
    return hashlib.sha256(bytes.fromhex(chain) + data).hexdigest()


def _look(parts: Parts, progress: Progress, tokens: int) -> None:
    """Add a point to the curve, after so many tokens."""
    if progress.curve and progress.curve[-1]["tokens"] == tokens:  # resumed right here
        return
    loss = parts.curve_loss()
    point = {"tokens": tokens, "loss": loss if math.isfinite(loss) else None, "train_seconds": progress.train_seconds}
    progress.curve.append(point)
    if tokens == 0:
        progress.initial_loss = point["loss"]


def _copy(parameters: dict[str, list[Parameter]]) -> dict[str, list[Tensor]]:
    return {role: [w.detach().clone() for w in group] for role, group in parameters.items()}


def _update_rms(before: dict[str, list[Tensor]], after: dict[str, list[Parameter]]) -> dict[str, float]:
    """Return the root mean square of the change of the weights, by role."""
    result = {}
    for role, old in before.items():
        if old:
            squares = sum(
                (new.detach() - w).double().square().sum().item() for w, new in zip(old, after[role], strict=True)
            )
            result[role] = math.sqrt(squares / sum(w.numel() for w in old))
    return result
