"""Which modules an optimizer's source reaches, by importing them or through others, found without importing any.

A module keeps those that it imports: torch.os is os. So a module's name may stand before a dot only, and what follows
may be no other module than one that could be imported.
"""

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from bench.recognition import own_nodes

IMPORTS = {
    "abc", "collections", "collections.abc", "contextlib", "dataclasses", "enum", "fractions", "functools", "itertools",
    "math", "numbers", "typing", "types", "torch", "torch.fft", "torch.linalg", "torch.nn", "torch.nn.functional",
    "torch.optim", "torch.optim.optimizer", "torch.special", "bench.linalg", "bench.probe", "bench.roles",
}  # fmt: skip
FUNCTIONS = {"chunk", "select", "trace"}  # of torch; modules of the standard library have these names too
MODULES = set(sys.stdlib_module_names) - FUNCTIONS | {  # torch's, and names under which others keep a module
    "accelerator", "amp", "ao", "attention", "bltns", "common_types", "compiler", "contrib", "cpp", "cpu",
    "distributions", "export", "functional", "futures", "fx", "grad", "hooks", "init", "intrinsic", "masked", "modules",
    "monitor", "mps", "mtia", "nativert", "nested", "np", "numa", "onnx", "parallel", "parameter", "profiler", "qat",
    "quantizable", "quantization", "quantized", "quasirandom", "return_types", "sparse", "stdlib_re", "testing",
    "torch", "torch_version", "windows", "xpu",
}  # fmt: skip


class Reach:
    """The modules that a source knows, by name."""

    def __init__(self, tree: ast.Module) -> None:
        self.modules: dict[str, str] = {}  # full names
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    known = alias.name if alias.asname else alias.name.split(".")[0]
                    self.modules[alias.asname or known] = known
            elif isinstance(node, ast.ImportFrom):
                full = {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
                self.modules |= {name: module for name, module in full.items() if module in IMPORTS}
        self._before_a_dot = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
        self._of_a_class = {id(node) for each in classes for node in own_nodes(each, [])}

    def look(self, node: ast.AST) -> Iterator[str]:
        if isinstance(node, ast.Import | ast.ImportFrom):
            if id(node) in self._of_a_class:
                yield f"{ast.unparse(node)} in a class: the module gets another name"
            yield from _imported(node) if isinstance(node, ast.Import) else _imported_from(node)
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load):
            if isinstance(node, ast.Attribute) and _leads_on(self._module(node.value), node.attr):
                yield f"{ast.unparse(node)} reaches a module that no optimizer needs"
            elif self._module(node) and id(node) not in self._before_a_dot:
                yield f"the module {ast.unparse(node)} gets another name"

    def _module(self, node: ast.expr) -> str | None:
        """Return the full name of the module that an expression is."""
        if isinstance(node, ast.Name):
            return self.modules.get(node.id)
        if isinstance(node, ast.Attribute) and (inner := self._module(node.value)):
            return f"{inner}.{node.attr}" if f"{inner}.{node.attr}" in IMPORTS else None
        return None

    def is_within(self, node: ast.expr) -> bool:
        """Return whether an expression is a part of a module."""
        while isinstance(node, ast.Attribute):
            node = node.value
        return isinstance(node, ast.Name) and node.id in self.modules


def _leads_on(module: str | None, name: str) -> bool:
    """Return whether a part of a module is another one that may not be imported; torch.optim's have small letters."""
    is_module = name in MODULES or (module == "torch.optim" and name.islower())
    return module is not None and is_module and f"{module}.{name}" not in IMPORTS


def _imported(node: ast.Import) -> Iterator[str]:
    for alias in node.names:
        if alias.name.startswith(("bench.linalg", "bench.probe", "bench.roles")):
            yield f"imports {alias.name} whole: say what is used, from {alias.name} import ..."
        elif alias.name not in IMPORTS:
            yield f"imports {alias.name}, which no optimizer needs"


def _imported_from(node: ast.ImportFrom) -> Iterator[str]:
    module = "." * node.level + (node.module or "")
    if module not in IMPORTS and not module.startswith("bench.linalg."):
        yield f"imports {module}, which no optimizer needs"
        return
    for alias in node.names:
        name = alias.name
        if name.startswith("_") and not name.startswith("_foreach_"):
            yield f"imports {name}, which is {module}'s private part"
        elif module.startswith("bench.") and name not in defined_in(module):
            yield f"imports {name}, which {module} does not define"
        elif _leads_on(module, name):
            yield f"imports {module}.{name}, which no optimizer needs"


@cache
def defined_in(module: str) -> frozenset[str]:
    """Return the names that a module of bench defines itself: not those of what it imports."""
    path = Path(__file__).parents[1].joinpath(*module.split(".")).with_suffix(".py")
    if not path.is_file():
        return frozenset()
    return frozenset(name for node in ast.parse(path.read_text(encoding="utf-8")).body for name in names_set(node))


def names_set(node: ast.AST) -> set[str]:
    """Return the names that a statement defines or sets."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return {part.id for target in targets if target for part in ast.walk(target) if isinstance(part, ast.Name)}
