"""A task: what every run of it shares. One TOML file; its name is the file's name."""

import re
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from bench.digest import digest_of
from bench.errors import BenchError, did_you_mean
from bench.spec import Spec, read_toml

Positive = Annotated[int, Field(gt=0)]
Rate = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


class Model(Spec):
    """A decoder-only transformer, initialised at random."""

    family: Literal["llama", "gpt2"]
    layers: Positive
    width: Positive
    ffn: Positive  # width of the feed-forward part
    heads: Positive
    vocabulary: Positive  # tokens that occur
    padded_vocabulary: Positive  # rows of the embedding
    tied: bool  # the head is the embedding
    attention: Literal["sdpa", "eager"]  # eager: two batched products, faster than SDPA on a CPU at small sizes

    @model_validator(mode="after")
    def _shapes_fit(self) -> "Model":
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        if self.family == "llama" and self.width // self.heads % 2:
            raise ValueError(f"a head of {self.width // self.heads} is odd, and rotary positions need pairs")
        if self.padded_vocabulary < self.vocabulary:
            raise ValueError(f"padded_vocabulary {self.padded_vocabulary} is less than vocabulary {self.vocabulary}")
        return self


class Documents(Spec):
    """Documents first..last-1 of the files' lines, counted over all files in order."""

    files: tuple[str, ...]  # names below the dataset; {0..9} and {000..127} stand for a range
    first: Annotated[int, Field(ge=0)]
    last: Positive | None  # one past the last; null for all

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(path for pattern in self.files for path in expand_range(pattern))

    @model_validator(mode="after")
    def _not_empty(self) -> "Documents":
        if not self.files:
            raise ValueError("files must name at least one file")
        if self.last is not None and self.last <= self.first:
            raise ValueError(f"documents {self.first}..{self.last} hold nothing")
        return self


class HubText(Spec):
    """Text of a hub dataset, or of the mirror with the same layout."""

    kind: Literal["hub"]
    dataset: str
    revision: str  # commit of the dataset
    tokenizer: str  # "bytes" (end token 256), or a hub name
    tokenizer_revision: str | None = None  # commit of the tokenizer's repository; bytes have none
    train: Documents
    select: Documents  # validation documents that tuning may see
    score: Documents  # validation documents that only scores see

    @model_validator(mode="after")
    def _pinned(self) -> "HubText":
        if (self.tokenizer == "bytes") != (self.tokenizer_revision is None):
            raise ValueError("tokenizer_revision must name a commit of a hub tokenizer, and bytes have none")
        return self


class SyntheticText(Spec):
    """A generated language; see bench/data/synthetic.py for the process."""

    kind: Literal["synthetic"]
    language_seed: int
    words: Positive
    zipf_exponent: Rate  # stationary word frequencies fall as rank to minus this
    successors: Positive  # words that may follow a word
    copy_probability: Fraction  # chance that a word repeats the one copy_distance before it
    copy_distance: Positive
    document_words: Positive  # mean length
    train_documents: Positive
    select_documents: Positive
    score_documents: Positive

    @property
    def tokenizer(self) -> str:
        return "words"


class Training(Spec):
    context: Positive  # tokens predicted per sequence
    batch_sequences: Positive
    micro_batch_sequences: Positive  # sequences per forward pass; a fact, since it moves the last bits
    clip: Rate  # largest global gradient norm
    compiled: bool
    threads: Positive  # CPU threads; 1 and 2 give different bits
    activation_checkpointing: bool

    @property
    def batch_tokens(self) -> int:
        return self.batch_sequences * self.context

    @model_validator(mode="after")
    def _micro_batches_divide(self) -> "Training":
        if self.batch_sequences % self.micro_batch_sequences:
            raise ValueError(
                f"batch_sequences {self.batch_sequences} is not a multiple of "
                f"micro_batch_sequences {self.micro_batch_sequences}"
            )
        return self


class Budget(Spec):
    tokens: Positive  # training tokens of 1x
    rungs: tuple[Rate, ...]  # the yardstick's ladder, as multiples of 1x
    compared: tuple[Rate, ...]  # the rungs that entries run; the first is where they are tuned

    @field_validator("rungs", "compared")
    @classmethod
    def _rising(cls, rungs: tuple[float, ...]) -> tuple[float, ...]:
        if not rungs or list(rungs) != sorted(set(rungs)):
            raise ValueError("rungs must rise and not repeat")
        return rungs

    @model_validator(mode="after")
    def _compared_within_the_ladder(self) -> "Budget":
        if not self.compared or not set(self.compared) <= set(self.rungs):
            raise ValueError(f"compared {self.compared} must name rungs of the ladder {self.rungs}")
        return self


class Evaluation(Spec):
    curve_points: Positive  # evaluations along a run, for looking at
    curve_sequences: Positive  # of the selecting half, the first so many
    batch_sequences: Positive


class Rest(Spec):
    """AdamW for every parameter that an entry does not claim: the same for all."""

    lr: Rate
    beta1: Fraction
    beta2: Fraction
    eps: Rate
    weight_decay: Annotated[float, Field(ge=0)]


class Replay(Spec):
    band: Rate  # nats by which losses may differ on another kind of machine


class Task(Spec):
    version: Positive  # to be raised with any change that orphans records
    summary: str
    reference: str  # the entry whose ladder speedups are read from
    model: Model
    data: Annotated[HubText | SyntheticText, Field(discriminator="kind")]
    training: Training
    budget: Budget
    evaluation: Evaluation
    rest: Rest
    replay: Replay
    common_losses: tuple[Rate, ...] = ()  # nats, falling: at each, weights are kept and rounded (bench.crossings)

    @model_validator(mode="after")
    def _budgets_are_whole_steps(self) -> "Task":
        for rung in self.budget.rungs:
            if (self.budget.tokens * rung) % self.training.batch_tokens:
                raise ValueError(
                    f"budget.rungs: {rung:g}x is {self.budget.tokens * rung:g} tokens, "
                    f"not a whole number of batches of {self.training.batch_tokens}"
                )
        return self

    @field_validator("common_losses")
    @classmethod
    def _falling(cls, losses: tuple[float, ...]) -> tuple[float, ...]:
        if list(losses) != sorted(set(losses), reverse=True):
            raise ValueError("common_losses must fall and not repeat")
        return losses

    @cached_property
    def digest(self) -> str:
        """The digest of what moves a number: prose, the ladder's length, common losses, the reference's name do not.

        The rest's values move one where the harness trains a part, and there they stand with the record's values.
        """
        facts = self.model_dump(
            mode="json",
            exclude={
                "summary": True,
                "reference": True,
                "replay": True,
                "rest": True,
                "common_losses": True,
                "budget": {"rungs", "compared"},
            },
        )
        return digest_of(facts)

    def with_batch(self, factor: float, rung: float) -> "Task":
        """Return the task at one rung with its batch times a factor, for the study of batches: another task."""
        sequences = round(self.training.batch_sequences * factor)
        if sequences < 1 or sequences != self.training.batch_sequences * factor:
            raise BenchError(f"a batch of {self.training.batch_sequences} sequences cannot be had {factor:g} times")
        micro = min(self.training.micro_batch_sequences, sequences)
        training = self.training.model_copy(update={"batch_sequences": sequences, "micro_batch_sequences": micro})
        budget = self.budget.model_copy(update={"rungs": (rung,), "compared": (rung,)})
        whole = {name: getattr(self, name) for name in Task.model_fields}
        return Task(**{**whole, "training": training, "budget": budget})

    def steps(self, rung: float) -> int:
        return int(self.tokens(rung)) // self.training.batch_tokens

    def tokens(self, rung: float) -> int:
        return int(self.budget.tokens * rung)

    @property
    def scoring_documents(self) -> int | None:
        """How many documents the scoring half has; None where a task takes all that its files hold."""
        data = self.data
        if isinstance(data, SyntheticText):
            return data.score_documents
        return None if data.score.last is None else data.score.last - data.score.first

    @property
    def matrix_parameters(self) -> int:
        """Parameters in the blocks' matrices (norm gains and biases left out)."""
        m = self.model
        ffn_matrices = 3 if m.family == "llama" else 2
        return m.layers * (4 * m.width**2 + ffn_matrices * m.width * m.ffn)

    @property
    def vector_parameters(self) -> int:
        """Norm gains, and where the family has them biases."""
        m = self.model
        gains = (2 * m.layers + 1) * m.width
        if m.family == "llama":
            return gains
        return 2 * gains + m.layers * (5 * m.width + m.ffn)  # biases: norms; query, key, value, output; up, down

    @property
    def parameters(self) -> int:
        """All parameters, padded rows included."""
        m = self.model
        tables = (1 if m.tied else 2) * m.width * m.padded_vocabulary
        positions = self.training.context * m.width if m.family == "gpt2" else 0  # the others rotate
        return self.matrix_parameters + self.vector_parameters + tables + positions

    @property
    def flops_per_token(self) -> int:
        """Floating-point operations of one forward-backward per token: 6 per parameter used, 12 per attended pair."""
        m, context = self.model, self.training.context
        used = self.matrix_parameters + m.width * m.padded_vocabulary
        return 6 * used + 12 * m.layers * m.width * context // 2  # causal: half of the pairs


def read_task(path: Path) -> Task:
    if (path.parent / "optimizer.py").exists():
        raise BenchError(
            f"{path}: is an entry, expected a task", "the task comes first: tasks/nano.toml, then the entry"
        )
    return read_toml(path, Task)


def parse_rung(text: str, task: Task, where: str) -> float:
    """Return 0.5 for '0.5x'; a rung that the task's ladder does not have is refused."""
    names = {rung_name(rung): rung for rung in task.budget.rungs}
    if text not in names:
        raise BenchError(f"{where}: no budget {text}{did_you_mean(text, names)}", f"the ladder: {', '.join(names)}")
    return names[text]


def rung_name(rung: float) -> str:
    return f"{rung:g}x"


def expand_range(pattern: str) -> list[str]:
    """Return the names that a pattern with at most one {first..last} stands for; zeros in front are kept."""
    match = re.search(r"\{(\d+)\.\.(\d+)\}", pattern)
    if match is None:
        return [pattern]
    first, last = match.groups()
    return [
        f"{pattern[: match.start()]}{number:0{len(first)}d}{pattern[match.end() :]}"
        for number in range(int(first), int(last) + 1)
    ]
