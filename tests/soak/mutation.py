"""Errors to plant: single changes of a source, found on its syntax tree, such as a hand or a merge would make them.

Left alone is what no test need notice: docstrings, annotations, decorators, the words of messages, and whatever only leads to them.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass

COMPARISONS = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq}
COMPARISONS |= {ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In}
SIGNS = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult}
AXES = ("dim", "axis", "dims", "start_dim", "end_dim", "dim0", "dim1")
KINDS = ("comparison", "sign", "axis", "default", "dropped call", "dropped argument", "swapped arguments", "neighbour", "number", "branch")


@dataclass(frozen=True)
class Mutant:
    """A change: of which kind, in which line, from which character on, what stood there and what stands there now."""

    kind: str
    line: int
    start: int
    before: str
    after: str

    def plant(self, source: str) -> str | None:
        """The source with the change; ``None`` where that says the same as before, or nothing that Python understands."""
        changed = f"{source[: self.start]}({self.after}){source[self.start + len(self.before) :]}"
        try:
            return changed if ast.dump(ast.parse(changed)) != ast.dump(ast.parse(source)) else None
        except SyntaxError:
            return None


def mutants(source: str) -> list[Mutant]:
    """Every change that can be made, in the order of the source."""
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))

    def offset(line: int, column: int) -> int:  # the tree's columns count bytes
        text = source[starts[line - 1] : starts[line]]
        return starts[line - 1] + (column if text.isascii() else len(text.encode()[:column].decode()))

    found = []
    for kind, node, replacement in changes(ast.parse(source)):
        start, end = offset(node.lineno, node.col_offset), offset(node.end_lineno, node.end_col_offset)
        found.append(Mutant(kind, node.lineno, start, source[start:end], ast.unparse(replacement)))
    return sorted(found, key=lambda each: (each.start, each.kind, each.after))


def changes(tree: ast.AST) -> Iterator[tuple[str, ast.expr, ast.expr]]:
    """``(kind, expression, what to put in its place)`` below a node."""
    for function in ast.walk(tree):
        if isinstance(function, (ast.FunctionDef, ast.Lambda)):
            yield from defaults(function)
        if isinstance(function, ast.FunctionDef):
            yield from neighbours(function)
    for node in counted(tree):
        if isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARISONS:
            yield "comparison", node, ast.Compare(node.left, [COMPARISONS[type(node.ops[0])](), *node.ops[1:]], node.comparators)
        if isinstance(node, ast.BinOp) and type(node.op) in SIGNS and not isinstance(node.left, ast.List):
            yield "sign", node, ast.BinOp(node.left, SIGNS[type(node.op)](), node.right)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            yield "sign", node, node.operand
        if isinstance(node, ast.Constant) and type(node.value) in (int, float):
            yield "number", node, ast.Constant(node.value + 1)
        if isinstance(node, ast.BoolOp):
            yield "branch", node, ast.BoolOp(ast.And() if isinstance(node.op, ast.Or) else ast.Or(), node.values)
        if isinstance(node, ast.IfExp):
            yield "branch", node, ast.IfExp(node.test, node.orelse, node.body)
        if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Constant) and (changed := another(node.value)):
            yield "default", node.value, changed  # a field of a configuration
        if isinstance(node, ast.Call):
            yield from calls(node)


def counted(node: ast.AST) -> Iterator[ast.AST]:
    """All below a node but what is left alone."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "type_params", "bases"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or isinstance(child, (ast.Raise, ast.JoinedStr, ast.Assert, ast.Import, ast.ImportFrom)):
                continue
            yield child
            yield from counted(child)


def another(constant: ast.Constant) -> ast.Constant | None:
    value = constant.value
    if isinstance(value, bool):
        return ast.Constant(not value)
    return ast.Constant(value * 2 + 1) if isinstance(value, (int, float)) else None


def defaults(function: ast.FunctionDef | ast.Lambda) -> Iterator[tuple[str, ast.expr, ast.expr]]:
    for value in [*function.args.defaults, *filter(None, function.args.kw_defaults)]:
        if isinstance(value, ast.Constant) and (changed := another(value)):
            yield "default", value, changed


def neighbours(function: ast.FunctionDef) -> Iterator[tuple[str, ast.expr, ast.expr]]:
    """A parameter or local variable that is read, for the one that is read next in the same function."""
    given = function.args.posonlyargs + function.args.args + function.args.kwonlyargs
    nodes = [node for statement in function.body for node in [statement, *counted(statement)] if isinstance(node, ast.Name)]
    own = {one.arg for one in given} | {node.id for node in nodes if isinstance(node.ctx, ast.Store)}
    read = [node for node in nodes if isinstance(node.ctx, ast.Load) and node.id in own - {"self", "cls"}]
    for place, node in enumerate(read):
        others = [other.id for other in read[place + 1 :] + read[:place] if other.id != node.id]
        if others:
            yield "neighbour", node, ast.Name(others[0], ast.Load())


def calls(call: ast.Call) -> Iterator[tuple[str, ast.expr, ast.expr]]:
    plain = [one for one in call.args if not isinstance(one, ast.Starred)]
    if isinstance(call.func, ast.Attribute) and not call.args and not isinstance(call.func.value, ast.Call):
        yield "dropped call", call, call.func.value
    elif plain and plain[0] is call.args[0]:
        yield "dropped call", call, call.args[0]
    for place in range(len(call.keywords)):
        yield "dropped argument", call, ast.Call(call.func, call.args, call.keywords[:place] + call.keywords[place + 1 :])
    if len(plain) == len(call.args) > 1:
        yield "swapped arguments", call, ast.Call(call.func, [call.args[1], call.args[0], *call.args[2:]], call.keywords)
    for keyword in call.keywords:
        if keyword.arg in AXES and (value := integer(keyword.value)) in range(-4, 5):
            yield "axis", keyword.value, ast.Constant({-1: -2, -2: -1, 0: 1, 1: 0}.get(value, value - 1))


def integer(node: ast.expr) -> int | None:
    try:
        value = ast.literal_eval(node)
    except ValueError:
        return None
    return value if type(value) is int else None
