"""What an optimizer's source may not do, found without running it. An entry is a function of weights, gradients, its
values and its own state; whatever reaches past these is refused, and named with its line.

This stops mistakes and shortcuts; it is no sandbox. What a determined author hides is for readers, for the guard of a
run (bench.guard), and for runs by another party.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.digest import text_of_source
from bench.errors import BenchError
from bench.reach import Reach, names_set
from bench.recognition import recognitions
from bench.spec import read_text

SOURCE_BYTES = 40_000
TEXT = 500  # characters of a string that is no docstring
NUMBERS_IN_ALL = 400  # literal numbers of a source
NUMBERS = 128  # literal numbers in one container: coefficients fit, weights do not

BUILTINS = {
    "__builtins__": "reaches the interpreter", "__import__": "imports by name", "breakpoint": "stops the run",
    "compile": "makes code", "delattr": "changes objects by name", "eval": "makes code", "exec": "makes code",
    "exit": "stops the run", "globals": "keeps state outside of the optimizer", "input": "waits for a person",
    "locals": "reaches the interpreter", "memoryview": "writes past the version of a tensor", "open": "reads files",
    "quit": "stops the run", "setattr": "changes objects by name",
}  # fmt: skip
ATTRIBUTES = {
    "autograd": "runs a backward pass of its own", "backward": "runs a backward pass of its own",
    "enable_grad": "runs a backward pass of its own", "func": "runs a backward pass of its own",
    "grad_fn": "reaches the graph of the loss", "requires_grad": "changes what is trained",
    "requires_grad_": "changes what is trained", "set_grad_enabled": "runs a backward pass of its own",
    "load": "reads files", "save": "writes files", "from_file": "reads files", "tofile": "writes files",
    "hub": "reads files", "package": "reads files", "serialization": "reads files", "storage": "reaches raw memory",
    "data_ptr": "reaches raw memory", "untyped_storage": "reaches raw memory", "swap_tensors": "swaps parameters",
    "data": "writes past the version of a tensor", "numpy": "writes past the version of a tensor",
    "from_dlpack": "writes past the version of a tensor", "to_dlpack": "writes past the version of a tensor",
    "set_": "swaps parameters", "share_memory_": "leaves the process",
    "manual_seed_all": "sets a random generator",
    "seed": "sets a random generator", "initial_seed": "tells one run from another",
    "set_rng_state": "sets a random generator", "set_state": "sets a random generator",
    "default_generator": "draws from another's random generator",
    "backends": "changes how everybody computes", "set_default_dtype": "changes how everybody computes",
    "set_default_device": "changes how everybody computes", "set_num_threads": "changes how everybody computes",
    "use_deterministic_algorithms": "changes how everybody computes", "library": "changes how everybody computes",
    "set_float32_matmul_precision": "changes how everybody computes", "overrides": "changes how everybody computes",
    "cuda": "looks at the machine", "version": "looks at the machine", "get_num_threads": "looks at the machine",
    "utils": "looks at the machine", "lr_scheduler": "moves the learning rate, which is the harness's",
    "swa_utils": "averages weights out of the harness's sight: evaluation_weights is the way",
    "distributed": "speaks to other processes", "multiprocessing": "speaks to other processes",
    "jit": "makes code", "ops": "makes code", "classes": "makes code",
}  # fmt: skip
DRAWS = {
    "bernoulli", "bernoulli_", "cauchy_", "exponential_", "geometric_", "log_normal_", "multinomial", "normal",
    "normal_", "poisson", "rand", "rand_like", "randint", "randint_like", "randn", "randn_like", "random_", "randperm",
    "uniform_",
}  # fmt: skip
MUTATORS = {"add", "append", "appendleft", "clear", "discard", "extend", "insert", "pop", "popitem", "remove",
            "setdefault", "update"}  # fmt: skip
STOPS = {"BaseException", "GeneratorExit", "KeyboardInterrupt", "StopIteration", "SystemExit"}
DUNDERS = {"__init__", "__post_init__", "__name__", "__setstate__", "__getstate__"}
CACHES = {"cache", "cached_property", "lru_cache"}
CONTAINERS = {"bytearray", "Counter", "defaultdict", "deque", "dict", "list", "OrderedDict", "set"}
Scope = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


@dataclass(frozen=True)
class Finding:
    line: int
    what: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.what}"


def refuse(source: Path) -> None:
    """Raise BenchError at the first thing that an optimizer's source may not do."""
    findings = forbidden(read_text(source), str(source))
    if findings:
        more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
        raise BenchError(f"{source}: {findings[0]}{more}", "an entry owns its update; CONTRIBUTING.md says what is its")


def forbidden(text: str, where: str = "optimizer.py") -> list[Finding]:
    """Return what the source may not do, by line."""
    try:
        tree = ast.parse(text_of_source(text.encode()), Path(where).name)
        module = _Module(tree)
        found = [Finding(getattr(node, "lineno", 1), what) for node in ast.walk(tree) for what in module.look(node)]
        found += [Finding(getattr(node, "lineno", 1), what) for node, what in recognitions(tree)]
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise BenchError(f"{where}: not readable as Python: {error or type(error).__name__}") from None
    if len(text.encode()) > SOURCE_BYTES:
        found.append(
            Finding(1, f"{len(text.encode()):,} bytes, expected at most {SOURCE_BYTES:,}: a rule, and no data")
        )
    if (numbers := _numbers(tree)) > NUMBERS_IN_ALL:
        found.append(Finding(1, f"{numbers} numbers carry data, expected at most {NUMBERS_IN_ALL}"))
    return sorted(set(found), key=lambda finding: (finding.line, finding.what))


class _Module:
    """What a node means depends on what the module imports, and on what it holds between runs."""

    def __init__(self, tree: ast.Module) -> None:
        self.reach = Reach(tree)
        self.own = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        self.held = {name for node in tree.body for name in names_set(node)}  # by the module, between runs
        self.docstrings = {
            id(node.value)
            for owner in ast.walk(tree)
            if isinstance(owner, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            for node in owner.body[:1]
            if isinstance(node, ast.Expr)
        }

    def look(self, node: ast.AST) -> Iterator[str]:
        yield from self.reach.look(node)
        if isinstance(node, ast.ImportFrom):
            yield from _imports(node)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in BUILTINS:
            yield f"{node.id} {BUILTINS[node.id]}"
        elif isinstance(node, ast.Name) and _is_dunder(node.id) and node.id != "__name__":
            yield f"{node.id} reaches the interpreter"
        elif isinstance(node, ast.MatchClass) and any(name.startswith("_") for name in node.kwd_attrs):
            yield f"{ast.unparse(node)} reaches another's private part"
        elif isinstance(node, ast.Attribute):
            yield from self._attribute(node)
        elif isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign | ast.Delete | ast.NamedExpr):
            yield from self._assignment(node)
        elif isinstance(node, ast.Call):
            yield from self._call(node)
        elif isinstance(node, ast.Constant) and id(node) not in self.docstrings:
            yield from _constant(node)
        elif isinstance(node, ast.Tuple | ast.List | ast.Set | ast.Dict):
            yield from _container(node)
        elif isinstance(node, ast.Global):
            yield f"global {', '.join(node.names)} keeps state outside of the optimizer"
        elif isinstance(node, ast.Raise | ast.ExceptHandler):
            yield from _ending(node)
        elif isinstance(node, ast.ClassDef):
            yield from _class(node)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from _function(node)

    def _attribute(self, node: ast.Attribute) -> Iterator[str]:
        name, base = node.attr, node.value
        mine = isinstance(base, ast.Name) and base.id in ("self", "cls")
        if name in ATTRIBUTES:  # of self too: a function may be called with anything as its self
            yield f".{name} {ATTRIBUTES[name]}"
        elif name.startswith("__") and name not in DUNDERS:
            yield f".{name} reaches the interpreter"
        elif (
            name.startswith("_")
            and name not in DUNDERS
            and not (mine or name in self.own or name.startswith("_foreach_"))
        ):
            yield f".{name} is another's private part"

    def _assignment(
        self, node: ast.Assign | ast.AugAssign | ast.AnnAssign | ast.Delete | ast.NamedExpr
    ) -> Iterator[str]:
        targets = node.targets if isinstance(node, ast.Assign | ast.Delete) else [node.target]
        for target in (part for one in targets for part in ast.walk(one)):
            if isinstance(target, ast.Attribute) and isinstance(target.ctx, ast.Store | ast.Del):
                if not (isinstance(target.value, ast.Name) and target.value.id == "self"):
                    yield f"{ast.unparse(target)} is set: an optimizer changes its own attributes only"
            elif isinstance(target, ast.Subscript) and isinstance(target.ctx, ast.Store | ast.Del):
                if isinstance(target.slice, ast.Constant) and target.slice.value in ("lr", "params"):
                    yield f"{ast.unparse(target)} is set: the harness moves it"
                if isinstance(target.value, ast.Name) and target.value.id in self.held | set(self.reach.modules):
                    yield f"{ast.unparse(target)} is set: state outside of the optimizer, which no checkpoint holds"

    def _call(self, node: ast.Call) -> Iterator[str]:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        keywords = {keyword.arg for keyword in node.keywords}
        if name in ("getattr", "hasattr") and node.args and isinstance(node.func, ast.Name):
            first = node.args[0]
            named = node.args[1] if len(node.args) > 1 else None
            plain = named is None or isinstance(named, ast.Constant | ast.Name)
            if not isinstance(first, ast.Name) or first.id in self.reach.modules or not plain:
                yield f"{ast.unparse(node)} reaches a module by name"
        if name == "vars" and [ast.unparse(argument) for argument in node.args] != ["hp"]:
            yield "vars changes objects by name"
        if name == "manual_seed" and (isinstance(node.func, ast.Name) or self.reach.is_within(node.func)):
            yield f"{ast.unparse(node.func)} sets everybody's random generator"
        if name in DRAWS and "generator" not in keywords and None not in keywords:
            yield f"{name} without generator= draws from another's random generator: run.generator is the entry's"
        if isinstance(node.func, ast.Attribute):
            held = isinstance(node.func.value, ast.Name) and node.func.value.id in self.held
            if held and name in MUTATORS:
                yield f"{ast.unparse(node.func)} changes state outside of the optimizer, which no checkpoint holds"
            sets_rate = "lr" in keywords or any(_has_key(argument, "lr") for argument in node.args)
            if name in ("update", "setdefault") and sets_rate:
                yield f"{ast.unparse(node.func)} sets lr: the harness moves it"
            if name.startswith("register_"):
                yield f".{name} acts outside of step()"


def _has_key(node: ast.expr, key: str) -> bool:
    keys = node.keys if isinstance(node, ast.Dict) else [node]
    return any(isinstance(one, ast.Constant) and one.value == key for one in keys)


def _imports(node: ast.ImportFrom) -> Iterator[str]:
    for alias in node.names:
        if alias.name in ATTRIBUTES:
            yield f"imports {alias.name}, which {ATTRIBUTES[alias.name]}"
        if alias.name in CACHES:
            yield f"imports {alias.name}, which keeps what one run leaves for the next"
        if alias.name == "*":
            yield "imports *: say what is used"


def _constant(node: ast.Constant) -> Iterator[str]:
    value = node.value
    if isinstance(value, bytes):
        yield "bytes carry data"
    elif isinstance(value, str) and "__" in value:
        yield f"{value[:40]!r} names what reaches the interpreter"
    elif isinstance(value, str) and len(value) > TEXT:
        yield f"a text of {len(value):,} characters carries data"
    elif isinstance(value, int) and value.bit_length() > 64:
        yield "a number of more than 64 bits carries data"


def _container(node: ast.Tuple | ast.List | ast.Set | ast.Dict) -> Iterator[str]:
    numbers = _numbers(node)
    if numbers > NUMBERS:
        yield f"{numbers} numbers in a literal carry data"


def _numbers(node: ast.AST) -> int:
    return sum(isinstance(n, ast.Constant) and isinstance(n.value, float | int) for n in ast.walk(node))


def _is_dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def _ending(node: ast.Raise | ast.ExceptHandler) -> Iterator[str]:
    named = node.exc if isinstance(node, ast.Raise) else node.type
    if named is None and isinstance(node, ast.ExceptHandler):
        yield "a bare except hides how the run ends"
    names = {n.id for n in ast.walk(named) if isinstance(n, ast.Name)} if named else set()
    for name in sorted(names & STOPS):
        yield f"{name} ends or hides the end of the run"


def _is_mutable(node: ast.expr | None) -> bool:
    if isinstance(node, ast.Call):
        return getattr(node.func, "id", getattr(node.func, "attr", "")) in CONTAINERS
    return isinstance(node, ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp)


def _class(node: ast.ClassDef) -> Iterator[str]:
    for line in node.body:
        if isinstance(line, ast.Assign | ast.AnnAssign) and _is_mutable(line.value):
            yield f"{node.name} holds a container that all its objects share: state that no checkpoint holds"


def _function(node: Scope) -> Iterator[str]:
    for default in (*node.args.defaults, *node.args.kw_defaults):
        if _is_mutable(default):
            yield "a default that is a container lives on between runs"
