"""What a task costs before anyone runs it: parameters, tokens, steps, operations, memory, and the floor of the loss."""

from typing import Any

from tabulate import tabulate

from bench.task import SyntheticText, Task, rung_name

BYTES_PER_PARAMETER = 16  # fp32 weights, gradients and two moments
BYTES_PER_ACTIVATION = 2  # bf16


def forecast(name: str, task: Task) -> dict[str, Any]:
    """Return the facts of `bench task`, for a script."""
    training = task.training
    rungs = [
        {"rung": rung_name(rung), "tokens": task.tokens(rung), "steps": task.steps(rung),
         "flops": task.tokens(rung) * task.flops_per_token}
        for rung in task.budget.rungs
    ]  # fmt: skip
    return {
        "task": name,
        "version": task.version,
        "digest": task.digest,
        "summary": task.summary,
        "parameters": task.parameters,
        "non_embedding_parameters": task.matrix_parameters + task.vector_parameters,
        "batch_tokens": training.batch_tokens,
        "flops_per_token": task.flops_per_token,
        "memory_bytes": task.parameters * BYTES_PER_PARAMETER + _activation_bytes(task),
        "loss_floor": _floor(task),
        "rungs": rungs,
    }


def _activation_bytes(task: Task) -> int:
    """Return about what one micro-batch keeps for its backward pass: 34 widths a token and layer, and the logits."""
    model, training = task.model, task.training
    tokens = training.micro_batch_sequences * training.context
    pairs = model.heads * training.context if model.attention == "eager" else 0
    per_layer = 14 * model.width + 4 * model.ffn + 3 * pairs
    logits = 6 * model.padded_vocabulary  # bf16, then fp32
    return tokens * (model.layers * per_layer * BYTES_PER_ACTIVATION + logits)


def _floor(task: Task) -> float | None:
    """Return the entropy rate of a generated language in nats per token; real text has none that is known."""
    if not isinstance(task.data, SyntheticText):
        return None
    from bench.data.synthetic import entropy_rate

    return entropy_rate(task.data)


def render_forecast(facts: dict[str, Any]) -> str:
    rows = [
        [rung["rung"], f"{rung['tokens']:,}", f"{rung['steps']:,}", f"{rung['flops']:.3g}"] for rung in facts["rungs"]
    ]
    lines = [
        f"{facts['task']} (version {facts['version']}): {facts['summary']}",
        f"  {facts['parameters']:,} parameters, {facts['non_embedding_parameters']:,} without embeddings",
        f"  {facts['batch_tokens']:,} tokens a step, {facts['flops_per_token']:.3g} operations a token, "
        f"about {facts['memory_bytes'] / 2**20:,.0f} MiB with AdamW",
    ]
    if facts["loss_floor"] is not None:
        lines.append(f"  no model can end below {facts['loss_floor']:.4f} nats a token: the language's entropy rate")
    headers, align = ["rung", "tokens", "steps", "operations"], ("left", "right", "right", "right")
    table = tabulate(rows, headers=headers, colalign=align, disable_numparse=True)
    return "\n".join([*lines, "", table])
