"""Memory of a training step, by accounting: what lies where when most is held, which is as the backward pass begins.

B micro-batch, T context, D width, F feed-forward width, H heads, L layers, V padded vocabulary; bytes per token, from
what autograd is seen to save (torch.autograd.graph.saved_tensors_hooks). tests/speed/memory.py measures the sums.

Kept by each layer:
    8 D           the residual stream before either norm, fp32
    4 D           what the norms give to the products, bf16
    6 D + 2 D     queries, keys and values; what attention gives to its output product; bf16
    4 H           attention's log-sum-exp, fp32; attention = "eager" keeps 6 H T of probabilities and 2 D instead
    4 F or 6 F    before and after GELU, or gate, up and their product: bf16, the rest is computed again
    8             the norms' scales, fp32
Run eagerly a GELU keeps 10 F, for its polynomial is six operations; LLaMA keeps 8 F, and 14 D more, for its norms keep
their fp32 results and autocast makes a bf16 copy for each product. Once, for all layers: the last norm (6 D), bf16
copies of the hidden matrices. Checkpointing keeps 4 D of each layer (its fp32 input), and holds one layer in full while
it is made again.
"""

from dataclasses import asdict, dataclass

from bench.task import Model, Task

LARGE_VOCABULARY = 8192  # as in bench/model.py: above it the loss is made in pieces of so many tokens
PIECE_TOKENS = 1024
FP32, BF16 = 4, 2
MOMENTS = 2  # of AdamW


@dataclass(frozen=True)
class Memory:
    """Bytes on one device, with AdamW."""

    weights: int  # fp32
    gradients: int  # fp32, summed over micro-batches
    state: int  # fp32; ranks share the hidden matrices' state out, and each holds all of the rest's
    activations: int  # of one micro-batch
    workspace: int  # of the loss, or what the end of the step takes beyond the activations

    @property
    def total(self) -> int:
        return sum(asdict(self).values())


def step_memory(task: Task, micro_batch: int, ranks: int = 1, compiled: bool | None = None) -> Memory:
    """Return what a rank holds at the peak of a step of several micro-batches; compiled as the task says by default."""
    compiled = task.training.compiled if compiled is None else compiled
    tokens = micro_batch * task.training.context
    hidden = task.matrix_parameters
    owned = -(-hidden // ranks)
    activations = _activations(task, tokens, compiled)
    workspace = max(_loss(task.model, tokens, compiled), _end(task, tokens, compiled) - activations)
    return Memory(
        weights=FP32 * task.parameters,
        gradients=FP32 * task.parameters,
        state=MOMENTS * FP32 * (task.parameters - hidden + owned),
        activations=activations,
        workspace=workspace,
    )


def largest_micro_batch(task: Task, share: int, ranks: int, limit: int) -> int | None:
    """Return the largest micro-batch that divides a rank's share of the batch and fits, or None where none does."""
    sizes = (size for size in range(share, 0, -1) if share % size == 0)
    return next((size for size in sizes if step_memory(task, size, ranks).total <= limit), None)


def _activations(task: Task, tokens: int, compiled: bool) -> int:
    """Return what the forward pass leaves for the backward pass."""
    model = task.model
    layer = tokens * _layer_token(model, task.training.context, compiled) + BF16 * (
        task.matrix_parameters // model.layers
    )
    once = tokens * (6 * model.width + _logits(model, compiled))
    if task.training.activation_checkpointing:
        return tokens * FP32 * model.width * model.layers + layer + once
    return model.layers * layer + once


def _layer_token(model: Model, context: int, compiled: bool) -> int:
    """Return the bytes that a layer keeps per token."""
    widths, ffns = 20, 4 if model.family == "gpt2" else 6
    if not compiled:
        widths, ffns = (20, 10) if model.family == "gpt2" else (34, 8)
    attention = 4 * model.heads if model.attention == "sdpa" else 2 * model.width + 6 * model.heads * context
    return widths * model.width + ffns * model.ffn + attention + 8


def _logits(model: Model, compiled: bool) -> int:
    """Return the bytes of logits per token that stay until the backward pass: none where they are made again."""
    if model.padded_vocabulary > LARGE_VOCABULARY:
        return 0
    return model.padded_vocabulary * (BF16 if compiled else FP32)


def _loss(model: Model, tokens: int, compiled: bool) -> int:
    """Return what the loss holds as its backward pass begins.

    Eagerly one piece at a time: logits in bf16 and fp32, their softmax and its gradient in fp32. Compiled for a CPU the
    pieces' loops are fused, so the bf16 logits of all lie there at once, and as each goes the head's gradient of its
    piece, bf16, comes and stays. Beside them the head's bf16 copy, and the first such gradient.
    """
    vocabulary, width = model.padded_vocabulary, model.width
    if vocabulary <= LARGE_VOCABULARY:
        return tokens * vocabulary * (BF16 if compiled else 2 * FP32)
    if not compiled:
        return vocabulary * (min(tokens, PIECE_TOKENS) * (BF16 + 3 * FP32) + BF16 * width)
    return BF16 * vocabulary * (_pieces(tokens) * max(PIECE_TOKENS, width) + 2 * width)


def _end(task: Task, tokens: int, compiled: bool) -> int:
    """Return what the end of the step holds when the activations are gone: it is more where micro-batches are small.

    A copy of the weights at steps whose change is measured; or, compiled, this micro-batch's gradients before they are
    added: those of the head piece by piece, and a tied embedding's twice.
    """
    model = task.model
    gradients = FP32 * task.parameters
    table = model.padded_vocabulary * model.width
    if not compiled or model.padded_vocabulary <= LARGE_VOCABULARY:
        return gradients
    return gradients + _pieces(tokens) * BF16 * table + (FP32 * table if model.tied else 0)


def _pieces(tokens: int) -> int:
    return -(-tokens // PIECE_TOKENS)
