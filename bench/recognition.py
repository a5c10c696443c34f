"""Whether a source tells one task or machine from another: an exact look at sizes, lengths and numbers of tokens,
by a comparison, a case or a table.

A step may depend on the sides of a matrix, not on which task or machine has such sides. Names that stand for such a
fact, or for a constant, are followed within a function; what is computed with them further is for readers.
"""

import ast
from collections.abc import Iterator

FACTS = {
    "batch_sequences", "batch_tokens", "blocks", "device", "grain", "heads", "layer", "left", "nelement", "numel",
    "part", "ranks", "sequences", "shape", "size", "steps", "tokens", "type",
}  # fmt: skip
LOOKUPS = {"get", "pop", "setdefault"}  # in a table, by what is given first
SMALL = 8  # numbers below it are counts of dimensions, blocks and sides: no task is told by them

Scope = ast.Module | ast.FunctionDef | ast.AsyncFunctionDef
Told = Iterator[tuple[ast.AST, str]]  # (where, what)


def recognitions(tree: ast.Module) -> Told:
    """Yield every place where a fact of the task or machine is held against what only some have."""
    yield from _Scope(tree, set(), {}, set(), {}).all()


class _Scope:
    """A function's body, with what its names stand for and what the names around it do."""

    def __init__(self, scope: Scope, facts: set[str], constants: dict[str, list[ast.Constant]], held: set[str],
                 tables: dict[str, ast.expr]) -> None:  # fmt: skip
        """held: attributes of self that stand for a fact, whichever method sets them; tables: literals with a name."""
        functions: list[Scope] = []
        self.held = held
        self.nodes = list(own_nodes(scope, functions))
        self.facts, self.constants, self.tables = set(facts), dict(constants), dict(tables)
        for _ in range(2):  # a name may stand for a name that stands for a fact
            for node in self.nodes:
                self._follow(node)
        self.inside = [_Scope(function, self.facts, self.constants, held, self.tables) for function in functions]

    def _follow(self, node: ast.AST) -> None:
        """Note what an assignment makes of a name, or of an attribute of self."""
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr) and node.value is not None:
            value: ast.AST = node.value
            targets: list[ast.AST] = [*node.targets] if isinstance(node, ast.Assign) else [node.target]
            targets = [
                part for one in targets for part in (one.elts if isinstance(one, ast.Tuple | ast.List) else [one])
            ]
        elif isinstance(node, ast.Match):
            targets, value = [part for case in node.cases for part in ast.walk(case.pattern)], node.subject
        else:
            return
        names = {name for target in targets if (name := _name(target))}
        if isinstance(value, ast.Dict | ast.Tuple | ast.List):
            self.tables |= dict.fromkeys(names, value)
        if self._stands_for_fact(value):
            self.facts |= names
            self.held |= {name for name in names if name.startswith("self.")}
        elif all(
            isinstance(part, ast.Constant | ast.Tuple | ast.List | ast.Set | ast.Load) for part in ast.walk(value)
        ):
            literals = [part for part in ast.walk(value) if isinstance(part, ast.Constant)]
            self.constants |= {name: [*self.constants.get(name, []), *literals] for name in names}

    def _stands_for_fact(self, node: ast.AST) -> bool:
        """Return whether a name for the expression would be one for a fact: itself, a part, or arithmetic of some."""
        if isinstance(node, ast.Subscript):
            return self._stands_for_fact(node.value)
        if isinstance(node, ast.Tuple | ast.List | ast.BinOp):
            return any(self._stands_for_fact(part) for part in ast.iter_child_nodes(node))
        if isinstance(node, ast.Call):
            called = getattr(node.func, "id", "")
            inner = called in ("int", "float", "str", "tuple", "list") and any(map(self._stands_for_fact, node.args))
            return called == "len" or inner or self._stands_for_fact(node.func)
        return (isinstance(node, ast.Attribute) and node.attr in FACTS) or _name(node) in self.facts | self.held

    def _is_fact(self, node: ast.AST) -> bool:
        """Return whether a fact stands anywhere in the expression."""
        return any(
            (isinstance(part, ast.Attribute) and part.attr in FACTS)
            or (isinstance(part, ast.Call) and getattr(part.func, "id", "") == "len")
            or (_name(part) in self.facts | self.held)
            for part in ast.walk(node)
        )

    def _telling(self, node: ast.AST) -> set[object]:
        """Return the texts and the larger numbers that stand in an expression, or that its names stand for."""
        parts = [constant for part in ast.walk(node) for constant in [part, *self.constants.get(_name(part) or "", [])]]
        values = [part.value for part in parts if isinstance(part, ast.Constant)]
        return {v for v in values if isinstance(v, str) or (isinstance(v, int | float) and abs(v) >= SMALL)}

    def all(self) -> Told:
        for node in self.nodes:
            if isinstance(node, ast.Compare):
                yield from self._comparison(node)
            elif isinstance(node, ast.Subscript):
                yield from self._lookup(node, node.value, node.slice)
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
                if node.func.attr in LOOKUPS:
                    yield from self._lookup(node, node.func.value, node.args[0])
            elif isinstance(node, ast.Match) and self._is_fact(node.subject):
                for case in node.cases:
                    if self._telling(case.pattern):
                        yield case.pattern, f"case {ast.unparse(case.pattern)} tells one task or machine from another"
        for scope in self.inside:
            yield from scope.all()

    def _comparison(self, node: ast.Compare) -> Told:
        sides = [node.left, *node.comparators]
        telling = {value for side in sides for value in self._telling(side)}
        exact = any(isinstance(op, ast.Eq | ast.NotEq | ast.In | ast.NotIn) for op in node.ops) or len(telling) > 1
        if telling and exact and any(self._is_fact(side) for side in sides):
            yield node, f"{ast.unparse(node)} tells one task or machine from another"

    def _lookup(self, node: ast.AST, table: ast.expr, key: ast.expr) -> Told:
        """Of a dict the keys tell; of a tuple or a list what a fact is set against to make it a place."""
        literal = self.tables.get(_name(table) or "", table)
        keys: list[ast.AST] = [one for one in literal.keys if one] if isinstance(literal, ast.Dict) else []
        if isinstance(literal, ast.Tuple | ast.List):
            parts = (part for part in ast.walk(key) if isinstance(part, ast.Constant | ast.Name))
            keys = [part for part in parts if _name(part) not in self.tables]
        if self._is_fact(key) and any(map(self._telling, keys)):
            yield node, f"{ast.unparse(node)} tells one task or machine from another"


def own_nodes(scope: ast.AST, functions: list[Scope]) -> Iterator[ast.AST]:
    """Yield the nodes of a scope; functions within it are added to the list, for scopes of their own."""
    for child in ast.iter_child_nodes(scope):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            functions.append(child)
        else:
            yield child
            yield from own_nodes(child, functions)


def _name(node: ast.AST) -> str | None:
    """Return the name that a node reads or sets: of a variable, of an attribute of self, or of a pattern."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self":
        return f"self.{node.attr}"
    return node.name if isinstance(node, ast.MatchAs) else None
