"""What an entry is given: the parameters by part, and the facts of the run. No entry needs a parameter's name."""

from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch.nn import Module, Parameter

# Which side of a weight (out, in) is the residual stream: writers put out into it, readers take from it.
WRITERS = ("o_proj", "down_proj", "c_proj")
READERS = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "c_attn", "c_fc")
FUSED = {"c_attn": 3}  # query, key and value, one below the other


@dataclass(frozen=True, eq=False)
class Matrix:
    """A weight matrix inside a block, shape (out, in)."""

    weight: Parameter
    layer: int
    part: str  # "q_proj", "down_proj", ...: for looking at, not for deciding by
    residual: Literal["in", "out"]  # the side that is the residual stream
    blocks: tuple[int, ...]  # rows of each matrix in a weight that is several side by side; one where it is one
    heads: tuple[int, ...] = ()  # of each block: attention heads whose queries or keys its rows make; 0 for others


@dataclass(frozen=True, eq=False)
class Roles:
    hidden: tuple[Matrix, ...]
    embedding: tuple[Parameter, ...]  # of tokens, and of positions where they are learned; a tied head belongs here
    head: tuple[Parameter, ...]
    vectors: tuple[Parameter, ...]  # norm gains and biases

    @property
    def matrices(self) -> list[Parameter]:
        """The hidden matrices' weights."""
        return [matrix.weight for matrix in self.hidden]

    @property
    def by_name(self) -> dict[str, list[Parameter]]:
        return {
            "hidden": self.matrices,
            "embedding": list(self.embedding),
            "head": list(self.head),
            "vectors": list(self.vectors),
        }

    @property
    def all(self) -> list[Parameter]:
        return [weight for part in self.by_name.values() for weight in part]


@dataclass(frozen=True)
class Run:
    """What some methods must know beside the parameters."""

    steps: int
    tokens: int
    batch_tokens: int
    device: torch.device
    generator: torch.Generator  # the entry's own, seeded by the run's seed; its state is checkpointed
    batch_sequences: int = 1  # of the task's batch


@runtime_checkable
class Controller(Protocol):
    """An optimizer that chooses how large the next batch is."""

    def next_batch_sequences(self) -> int:
        """Return a multiple of the sequences of a forward pass over all ranks; the last batch is what is left."""
        ...


def roles_of(model: Module) -> Roles:
    """Return every parameter of a transformers causal language model by its part, each exactly once."""
    embedding = model.get_input_embeddings().weight  # type: ignore[operator]
    head = model.get_output_embeddings().weight  # type: ignore[operator]
    hidden: list[Matrix] = []
    tables: list[Parameter] = [embedding]
    vectors: list[Parameter] = []
    for name, weight in model.named_parameters():
        if weight is embedding or weight is head:
            continue
        if weight.ndim == 1:
            vectors.append(weight)
            continue
        part = name.split(".")[-2]
        if part == "wpe":
            tables.append(weight)
            continue
        assert part in WRITERS + READERS, f"{name} is no part that roles know"
        layer = next(int(piece) for piece in name.split(".") if piece.isdigit())
        residual: Literal["in", "out"] = "out" if part in WRITERS else "in"
        count = FUSED.get(part, 1)
        blocks = (weight.shape[0] // count,) * count
        hidden.append(Matrix(weight, layer, part, residual, blocks, _heads(part, model.config)))
    heads = () if head is embedding else (head,)
    return Roles(tuple(hidden), tuple(tables), heads, tuple(vectors))


def _heads(part: str, config: Any) -> tuple[int, ...]:
    queries: int = config.num_attention_heads
    keys: int = getattr(config, "num_key_value_heads", None) or queries
    return {"q_proj": (queries,), "k_proj": (keys,), "c_attn": (queries, keys, 0)}.get(part, (0,))
