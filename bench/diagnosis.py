"""Diagnoses as a file: layer by layer, beside the child record whose modes have them in short. One compressed JSON."""

import gzip
import zlib
from pathlib import Path

from bench.children import SCHEMA, Child, Quantized, check_child
from bench.digest import canonical, digest_of
from bench.errors import BenchError
from bench.record import seal, write_atomically
from bench.spec import Spec

DIAGNOSIS = "diagnosis.json.gz"  # what follows the parent's run_id in the file's name

ByPart = dict[str, dict[str, list[float | None]]]  # by the layer's name inside its block, by quantity: a value a block


class Diagnosed(Spec):
    """One mode of one checkpoint, in the words of bench.diagnose: four digits, null where there is no such figure."""

    tokens: int  # looked at, the first of the scoring half
    block: int  # Hadamard block that rotates what is looked at; 0 is none
    weights: ByPart  # outliers
    activations: ByPart
    propagation: dict[str, list[str] | list[float | None]]  # names, and each quantity, in order of execution

    @property
    def digest(self) -> str:
        return digest_of(self.model_dump(mode="json"))


class Diagnosis(Child):
    modes: dict[str, Diagnosed]


def diagnosis_path(record: Path) -> Path:
    return record.with_suffix(f".{DIAGNOSIS}")


def is_diagnosis(path: Path) -> bool:
    return path.name.endswith(f".{DIAGNOSIS}")


def write_diagnosis(path: Path, run_id: str, weights: str, mode: str, found: Diagnosed) -> None:
    """Add a mode, or put it in the old one's place, in one move; the child record that names its digest follows."""
    old = read_diagnosis(path).modes if path.exists() else {}
    modes = {name: one.model_dump(mode="json") for name, one in sorted({**old, mode: found}.items())}
    facts = seal({"schema": SCHEMA, "run_id": run_id, "weights": weights, "modes": modes})
    write_atomically(path, gzip.compress(canonical(facts), mtime=0))


def read_diagnosis(path: Path) -> Diagnosis:
    """Return the diagnoses beside a record; a file that is damaged or was edited is refused."""
    try:
        text = gzip.decompress(path.read_bytes()).decode()
    except FileNotFoundError:
        raise BenchError(
            f"{path}: the diagnosis of a measured checkpoint is missing", "bench quantize --again"
        ) from None
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise BenchError(
            f"{path}: the file is damaged: {error}",
            "restore it from version control, or remove it: bench quantize --again",
        ) from None
    return check_child(path, text, DIAGNOSIS, Diagnosis)


def check_diagnosis(child: Quantized, path: Path) -> Diagnosis:
    """Return the diagnoses of a child record's modes, each of which must be the one that it names."""
    found = read_diagnosis(path)
    for name, measured in child.modes.items():
        if name not in found.modes or found.modes[name].digest != measured.diagnosis.digest:
            raise BenchError(
                f"{path}: has not the diagnosis of {name} that the child record names", "bench quantize --again"
            )
    return found
