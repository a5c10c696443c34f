"""A mode: the arithmetic of training or of a finished checkpoint. One TOML file; its name is the file's name."""

from pathlib import Path
from typing import Literal

from bench.digest import digest_of
from bench.errors import BenchError, did_you_mean
from bench.spec import Spec, read_toml

MODES = Path(__file__).parent / "quantize" / "modes"


class Mode(Spec):
    summary: str
    kind: Literal["training"]
    autocast: Literal["bfloat16"]  # of the products; whatever a file can say, the harness does

    @property
    def digest(self) -> str:
        return digest_of(self.model_dump(mode="json", exclude={"summary"}))


def read_mode(name: str) -> Mode:
    """Return the named mode; an unknown name is refused with the nearest one."""
    known = sorted(path.stem for path in MODES.glob("*.toml"))
    if name not in known:
        raise BenchError(f"no mode {name}{did_you_mean(name, known)}", f"known: {', '.join(known)}")
    return read_toml(MODES / f"{name}.toml", Mode)
