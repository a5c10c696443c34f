"""An entry: a variant of an algorithm with a name on the board. Its TOML says what it is, its folder has the code."""

import ast
import importlib.metadata
import importlib.util
import sys
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from bench.digest import digest_of, digest_of_sources
from bench.domains import expected
from bench.errors import BenchError, did_you_mean
from bench.spec import Spec, read_text, read_toml

Value = float | int | bool | str
WARMUP = "warmup_fraction"  # the harness's own dimension of every entry's space
BATCH, MODE = "batch_factor", "mode"  # a trial's: the task's batch times this, and the mode that it trains in


class Range(Spec):
    """One dimension of the search space, with its declared default."""

    default: Annotated[float, Field(ge=0)]
    low: Annotated[float, Field(ge=0)]
    high: Annotated[float, Field(gt=0)]
    scale: Literal["log", "linear"]

    @model_validator(mode="after")
    def _ordered(self) -> "Range":
        if not self.low < self.high:
            raise ValueError(f"the range {self.low}..{self.high} is empty")
        if not self.low <= self.default <= self.high:
            raise ValueError(f"the default {self.default} lies outside {self.low}..{self.high}")
        if self.scale == "log" and self.low == 0:
            raise ValueError("a log range cannot start at 0")
        return self


class Schedule(Spec):
    kind: Literal["decay", "constant", "cosine", "wsd", "refined"]  # constant: schedule-free; the last three: studies
    warmup_fraction: Annotated[float, Field(ge=0, lt=1)]  # declared default
    shape: tuple[Annotated[float, Field(ge=0, le=1)], ...] = ()  # of a refined one, at equal distances over the budget

    @model_validator(mode="after")
    def _shaped(self) -> "Schedule":
        if (self.kind == "refined") != (len(self.shape) >= 2):
            raise ValueError("a refined schedule, and no other, has a shape of at least two numbers (bench refine)")
        return self


class Wraps(Spec):
    """The entry that an entry wraps."""

    entry: str  # its TOML, beside this one or by the way from here: "../adamw/adamw.toml"


class Facts(Spec):
    """The TOML of an entry."""

    title: str
    family: Literal[
        "element-wise", "orthogonalized", "Kronecker", "rotated", "low-rank", "stateless", "controller", "control"
    ]  # fmt: skip
    paper: str  # arXiv id or address
    authors: tuple[str, ...]
    scope: Literal["full", "hidden", "mixed"]  # full: claims all parameters; hidden: the blocks' matrices only
    control: bool = False  # a control is run and tested like any entry, and never ranked
    clip: bool = True  # false: the entry asks for no gradient clipping
    transfer: bool = True  # false: the method sets its own step size
    transfer_reason: str | None = None
    coupled: bool = False  # the step of one parameter depends on others': not shared out over ranks
    controls_batch: bool = False  # chooses how large the next batch is: has a token order of its own
    wraps: Wraps | None = None  # an entry whose values stand with its own; it is built first, and handed to build()
    schedule: Schedule
    fixed: dict[str, Value] = Field(default_factory=dict)
    search: dict[str, Range] = Field(default_factory=dict)
    deviations: tuple[str, ...] = ()  # known departures from the source
    compared_with: tuple[str, ...] = ()  # dotted names of other people's optimizers whose steps a test holds ours to

    @model_validator(mode="after")
    def _consistent(self) -> "Facts":
        if both := sorted(set(self.fixed) & set(self.search)):
            raise ValueError(f"{both[0]} is both fixed and searched")
        if self.schedule.kind in ("cosine", "wsd", "refined") and not self.control:
            raise ValueError(f"schedule.kind {self.schedule.kind} is for controls: entries decay linearly, all alike")
        if taken := {BATCH, MODE, WARMUP} & {*self.fixed, *self.search}:
            raise ValueError(f"{min(taken)} is the harness's name; a warm-up's default stands in [schedule]")
        if len(self.search) > 3 + ("lr" in self.search):
            raise ValueError("at most 3 dimensions beside the learning rate and the warm-up are searched")
        if not self.transfer and self.transfer_reason is None:
            raise ValueError("transfer = false needs a transfer_reason")
        return self


class Entry:
    """An entry as found on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.stem
        self.facts = read_toml(path, Facts)
        self.source = path.parent / "optimizer.py"
        self.wrapped = self._wrapped()
        declared = {name: dimension.default for name, dimension in self.facts.search.items()}
        self.defaults: dict[str, Value] = {
            **(self.wrapped.defaults if self.wrapped else {}),
            **self.facts.fixed,
            **declared,
            WARMUP: self.facts.schedule.warmup_fraction,
        }
        self.annotations = self._check_code()
        self._check_domains(self.defaults)
        for name, dimension in self.facts.search.items():
            self._check_domains({name: dimension.low})
            self._check_domains({name: dimension.high})

    @cached_property
    def digest(self) -> str:
        """The digest of the algorithm's code and of the facts that move a number; prose and search ranges do not."""
        facts = self.facts.model_dump(mode="json", include={"scope", "clip", "schedule"})
        facts["schedule"].pop(WARMUP)  # a value, recorded with the values
        if not self.facts.schedule.shape:
            facts["schedule"].pop("shape")
        inner = {"wraps": self.wrapped.digest} if self.wrapped else {}
        return digest_of(
            {"source": digest_of_sources(self.sources), "facts": facts, "libraries": self.libraries, **inner}
        )

    def _wrapped(self) -> "Entry | None":
        if self.facts.wraps is None:
            return None
        path = self.path.parent / self.facts.wraps.entry
        if not path.is_file():
            near = did_you_mean(self.facts.wraps.entry, (f"../{e.parent.name}/{e.name}" for e in _around(self.path)))
            raise BenchError(
                f"{self.path}: wraps.entry: there is no entry {self.facts.wraps.entry}{near}",
                'name its TOML by the way from this one, as in "../<algorithm>/<entry>.toml"',
            )
        facts = read_toml(path, Facts)
        inner = None if facts.wraps or facts.controls_batch else Entry(path)
        if inner is None or inner.swaps_weights:
            raise BenchError(
                f"{self.path}: wraps.entry: {path.stem} cannot be wrapped",
                "an entry that wraps, chooses its batch, or evaluates at other weights is no other's part",
            )
        if inner.facts.coupled and not self.facts.coupled:
            raise BenchError(f"{self.path}: wraps {inner.name}, which is coupled", "then coupled = true here too")
        return inner

    @property
    def sources(self) -> dict[str, Path]:
        """optimizer.py and the shared mathematics it imports of bench.linalg, near and far."""
        found = {self.source.name: self.source}
        waiting = [self.source]
        while waiting:
            for name in {name for name in _imports(waiting.pop()) if name.startswith("bench.linalg.")} - set(found):
                found[name] = Path(__file__).parent / "linalg" / f"{name.rsplit('.', 1)[1]}.py"
                waiting.append(found[name])
        return found

    @property
    def libraries(self) -> dict[str, str]:
        """Installed versions of the libraries that optimizer.py imports beside torch, which the machine kind holds."""
        names = {name.split(".")[0] for name in _imports(self.source)} - set(sys.stdlib_module_names)
        return {name: _version(name) for name in sorted(names - {"bench", "torch"})}

    def values(self, changed: dict[str, Value], given: Path | None = None) -> dict[str, Value]:
        """Return the declared values with some changed, those of a given file; an unknown name is refused."""
        where = given or self.path
        for name in changed:
            if name not in self.defaults:
                raise BenchError(
                    f"{where}: {self.name} has no hyperparameter {name}{did_you_mean(name, self.defaults)}",
                    f"known: {', '.join(sorted(self.defaults))}",
                )
        values = {**self.defaults, **changed}
        warmup = values[WARMUP]
        if isinstance(warmup, str) or not 0 <= warmup < 1:
            raise BenchError(f"{where}: {WARMUP} is {warmup!r}, expected a number from 0 up to but not 1")
        self._check_domains(values, where)
        return values

    def _check_domains(self, values: dict[str, Value], where: Path | None = None) -> None:
        for name, annotation in self.annotations.items():
            if name in values and (wanted := expected(name, annotation, values[name])) is not None:
                raise BenchError(f"{where or self.path}: {name} is {values[name]!r}, expected {wanted}")

    def _check_code(self) -> dict[str, str]:
        """Check without running it that optimizer.py fits the TOML; return the type it says of each hyperparameter."""
        tree = _parse(self.source)
        names = {node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
        for wanted in ("Hyperparameters", "build"):
            if wanted not in names:
                raise BenchError(f"{self.source}: defines no {wanted}", "CONTRIBUTING.md shows the parts of an entry")
        self.swaps_weights = "evaluation_weights" in names
        fields = _fields(next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "Hyperparameters"))
        inner = self.wrapped.annotations if self.wrapped else {}
        for name in sorted(set(fields) & set(inner)):
            raise BenchError(f"{self.source}: {name} is a hyperparameter of what it wraps too", "give it another name")
        fields = {**inner, **fields}
        given = set(self.defaults) - {WARMUP}
        for name in sorted(set(fields) - given):
            near = did_you_mean(name, given - set(fields))
            raise BenchError(
                f"{self.path}: no value for hyperparameter {name}{near}", f"give it under [search.{name}] or [fixed]"
            )
        for name in sorted(given - set(fields)):
            raise BenchError(
                f"{self.path}: {name} is no field of Hyperparameters{did_you_mean(name, fields)}",
                f"fields: {', '.join(fields) or 'none'}",
            )
        return fields

    def module(self) -> ModuleType:
        """Return optimizer.py, run once under a name made from its digest; this is where torch gets imported."""
        name = f"bench_entry_{self.digest[:16]}"
        if name in sys.modules:
            return sys.modules[name]
        spec = importlib.util.spec_from_file_location(name, self.source)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses look their module up
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            del sys.modules[name]
            raise BenchError(f"{self.source}: cannot be imported: {type(error).__name__}: {error}") from None
        return module

    def build(self, values: dict[str, Value], roles: Any, run: Any) -> Any:
        """Return what optimizer.py builds; a wrapper's build() is given the wrapped optimizers as well."""
        hyperparameters = self.hyperparameters(values)
        if self.wrapped is None:
            return self.module().build(roles, hyperparameters, run)
        built = self.wrapped.build({name: values[name] for name in self.wrapped.defaults}, roles, run)
        return self.module().build(roles, hyperparameters, run, list(built) if isinstance(built, list) else [built])

    def hyperparameters(self, values: dict[str, Value]) -> Any:
        """Return the frozen dataclass that build() takes."""
        wrapped = self.wrapped.annotations if self.wrapped else {}
        given = {name: value for name, value in values.items() if name != WARMUP and name not in wrapped}
        try:
            return self.module().Hyperparameters(**given)
        except (TypeError, ValueError) as error:
            raise BenchError(f"{self.path}: hyperparameters refused: {error}") from None


def _parse(source: Path) -> ast.Module:
    text = read_text(source)
    try:
        return ast.parse(text, source.name)
    except (SyntaxError, ValueError) as error:
        raise BenchError(f"{source}: not readable as Python: {error}") from None


def _imports(source: Path) -> set[str]:
    """Return the full names of what a file imports; a name imported from bench.linalg counts as its module."""
    found: set[str] = set()
    for node in ast.walk(_parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            if node.level or node.module is None:
                raise BenchError(f"{source}: relative imports are not followed", "import bench.linalg.<module> in full")
            listed = node.module == "bench.linalg"
            found |= {f"bench.linalg.{alias.name}" for alias in node.names} if listed else {node.module}
    return found


def _around(path: Path) -> list[Path]:
    """Return the TOMLs of the algorithms beside an entry's own."""
    return sorted(path.parent.parent.glob("*/*.toml"))


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _fields(node: ast.ClassDef) -> dict[str, str]:
    """Return the type of each field of a dataclass, as written."""
    lines = [line for line in node.body if isinstance(line, ast.AnnAssign)]
    return {line.target.id: ast.unparse(line.annotation) for line in lines if isinstance(line.target, ast.Name)}


def find_entries(folder: Path) -> list[Entry]:
    """Return every entry below a folder of algorithms, by name; the folder is the registry."""
    entries = [Entry(path) for path in sorted(folder.glob("*/*.toml"))]
    seen: dict[str, Path] = {}
    for entry in entries:
        if entry.name in seen:
            raise BenchError(f"{entry.path}: the name {entry.name} is taken by {seen[entry.name]}")
        seen[entry.name] = entry.path
    return sorted(entries, key=lambda entry: entry.name)
