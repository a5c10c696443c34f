"""A mode: the arithmetic of training or of a finished checkpoint. One TOML file; its name is the file's name.

In every mode the head, the embeddings, the norms and the products inside attention stay float; what a mode rounds are
the weights and the inputs of the linear layers inside the blocks.
"""

from functools import cache
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from bench.digest import digest_of, digest_of_sources
from bench.errors import BenchError, did_you_mean
from bench.spec import Spec, read_toml

QUANTIZE = Path(__file__).parent / "quantize"
MODES = QUANTIZE / "modes"

Bits = Annotated[int, Field(ge=2, le=8)]
Gradient = Literal["identity", "clip", "trust"]
Grid = Literal["absmax", "gaussian", "e4m3"]


class Operand(Spec):
    """How one side of a product is rounded."""

    bits: Bits | None = None  # of hawq's weights none: it chooses them
    grid: Grid
    over: Literal["row"] | Annotated[int, Field(ge=2)]  # values that share a scale: an output channel's or a token's

    @property
    def group(self) -> int:
        """Return the values that share a scale; 0 for a whole row."""
        return 0 if self.over == "row" else self.over


class Mode(Spec):
    summary: str
    kind: Literal["training", "after"]
    autocast: Literal["bfloat16"]  # of the products; whatever a file can say, the harness does
    weights: Operand | None = None
    activations: Operand | None = None
    gradient: Gradient | None = None  # through the rounding; of training
    hadamard: Annotated[int, Field(ge=0)] | None = None  # largest block rotated, a power of two; 0 or none: no rotation
    algorithm: Literal["round", "gptq", "hawq"] | None = None  # of a finished checkpoint
    average_bits: Annotated[float, Field(ge=2, le=8)] | None = None  # of hawq
    candidate_bits: tuple[Bits, ...] | None = None  # of hawq
    on_request: bool = False  # a plan has it only where it is named

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        block, hawq = self.hadamard or 0, self.algorithm == "hawq"
        if block & (block - 1):
            raise ValueError(f"hadamard must be 0 or a power of two, such as 128, got {block}")
        if block and not self.quantizes:
            raise ValueError("hadamard rotates what is rounded: a table [weights] or [activations] is missing")
        if (self.gradient is not None) != (self.kind == "training" and self.quantizes):
            raise ValueError("gradient goes with training that rounds, and with nothing else")
        if (self.algorithm is not None) != (self.kind == "after"):
            raise ValueError('algorithm goes with kind = "after", and with nothing else')
        if self.algorithm in ("gptq", "hawq") and self.weights is None:
            raise ValueError(f"{self.algorithm} rounds weights: the table [weights] is missing")
        if self.kind == "after" and not self.quantizes:
            raise ValueError("nothing is rounded: a table [weights] or [activations] is missing")
        if (self.average_bits is not None, self.candidate_bits is not None) != (hawq, hawq):
            raise ValueError("average_bits and candidate_bits go with hawq, and with nothing else")
        if self.candidate_bits is not None and self.average_bits is not None:
            self._check_candidates(self.candidate_bits, self.average_bits)
        if self.weights and (self.weights.bits is None) != hawq:
            raise ValueError("weights.bits is needed, except by hawq, which chooses them")
        if self.activations and self.activations.bits is None:
            raise ValueError("activations.bits is missing")
        if any(side.grid == "e4m3" for side in (self.weights, self.activations) if side):
            self._check_e4m3()
        return self

    def _check_candidates(self, candidates: tuple[int, ...], average: float) -> None:
        if not candidates or len(set(candidates)) < len(candidates):
            raise ValueError(f"candidate_bits must be different widths, one at least, got {list(candidates)}")
        if average < min(candidates):
            raise ValueError(f"average_bits {average:g} is below the least of candidate_bits, {min(candidates)}")

    def _check_e4m3(self) -> None:
        """e4m3 has 8 bits, no clip below its largest value to trust, and no other widths to choose from."""
        sides = [side for side in (self.weights, self.activations) if side and side.grid == "e4m3"]
        if any(side.bits != 8 for side in sides):
            raise ValueError("grid e4m3 has 8 bits")
        if self.gradient == "trust" or self.algorithm not in (None, "round"):
            raise ValueError("grid e4m3 goes with a gradient that is identity or clip, and with algorithm round")

    @property
    def quantizes(self) -> bool:
        return self.weights is not None or self.activations is not None

    @property
    def digest(self) -> str:
        """Return the digest of what the file says and, where something is rounded, of the code that rounds."""
        says = self.model_dump(mode="json", exclude={"summary", "on_request"}, exclude_none=True)
        return digest_of({**says, "code": _code(self.algorithm)} if self.quantizes else says)


@cache
def _code(algorithm: str | None) -> str:
    own = {"gptq": ["calibration.py", "gptq.py"], "hawq": ["calibration.py", "hawq.py"]}.get(algorithm or "", [])
    return digest_of_sources([QUANTIZE / name for name in ("arithmetic.py", "linear.py", *own)])


def mode_names() -> list[str]:
    return sorted(path.stem for path in MODES.glob("*.toml"))


def read_mode(name: str, kind: Literal["training", "after"] | None = None) -> Mode:
    """Return the named mode; an unknown one, or one that is not of the kind asked for, is refused in one line."""
    known = mode_names()
    if name not in known:
        raise BenchError(f"no mode {name}{did_you_mean(name, known)}", f"known: {', '.join(known)}")
    mode = read_toml(MODES / f"{name}.toml", Mode)
    if kind and mode.kind != kind:
        like = ", ".join(other for other in known if read_mode(other).kind == kind)
        what = "acts on a finished checkpoint" if mode.kind == "after" else "is one of training"
        raise BenchError(f"mode {name} {what} and cannot be used here", f"use one of {like or 'none yet'}")
    return mode


def check_mode(name: str, trained: str) -> Mode:
    """Return the mode that a run's model is to be evaluated in; one that does not fit how it was trained is refused."""
    mode = read_mode(name)
    if mode.quantizes and mode.kind == "training" and name != trained:
        raise BenchError(
            f"mode {name} is one of training, and this record was trained in {trained}",
            f"make a record in it: bench run ... --mode {name}",
        )
    if mode.kind == "after" and read_mode(trained).quantizes:
        raise BenchError(f"mode {name} acts on runs in float, and this record was trained in {trained}")
    return mode


FLOAT = "bf16"  # the mode that degradations are measured against
SETS = ("standard", "all", "after", "none")  # of modes, as a plan is told them


def modes_named(text: str) -> tuple[str, ...]:
    """Return the modes of a plan: bf16, then those of training, then those of finished checkpoints.

    text: none; after, all of finished checkpoints; all; standard, all but those on request; or names with commas.
    """
    known = {name: read_mode(name) for name in mode_names()}
    named = set(text.split(","))
    if len(named) == 1 and named <= set(SETS):
        kept = {
            "standard": lambda mode: not mode.on_request,
            "all": lambda mode: True,
            "after": lambda mode: mode.kind == "after",
            "none": lambda mode: False,
        }[text]
        named = {name for name, mode in known.items() if kept(mode)}
    for name in named - set(known):
        raise BenchError(f"no mode {name}{did_you_mean(name, [*known, *SETS])}", f"known: {', '.join([*SETS, *known])}")
    return FLOAT, *sorted(named - {FLOAT}, key=lambda name: (known[name].kind == "after", name))
