"""Formulas over columns, such as `abs(opp_x) > 4.2 and own_stock > 0`, computed for many rows at once.

Python's parser reads them, and what it finds is computed on NumPy arrays if it is on the short list below; nothing is
ever evaluated as Python.
"""

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[Any]

MAX_FORMULA_CHARS = 10_000
# Of operations within operations; Python's own recursion ends far beyond.
MAX_DEPTH = 200

BINARY: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.divide,
    ast.FloorDiv: np.floor_divide,
    ast.Mod: np.mod,
    ast.Pow: np.power,
}
UNARY: Mapping[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.USub: np.negative,
    ast.UAdd: np.positive,
    ast.Not: lambda value: ~_truth(value),
}
COMPARISONS: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: np.less,
    ast.LtE: np.less_equal,
    ast.Gt: np.greater,
    ast.GtE: np.greater_equal,
    ast.Eq: np.equal,
    ast.NotEq: np.not_equal,
}
# With the least number of their arguments; min and max take any more.
FUNCTIONS: Mapping[str, tuple[int, Callable[..., Any]]] = {
    "abs": (1, np.abs),
    "sqrt": (1, np.sqrt),
    "floor": (1, np.floor),
    "sign": (1, np.sign),
    "min": (2, lambda *values: np.minimum.reduce(np.broadcast_arrays(*values))),
    "max": (2, lambda *values: np.maximum.reduce(np.broadcast_arrays(*values))),
    "where": (3, lambda when, then, otherwise: np.where(_truth(when), then, otherwise)),
}
ALLOWED = (
    "names of columns, numbers, text in quotes, + - * / // % **, < <= > >= == !=, and, or, not, a if b else c, "
    + ", ".join(f"{name}()" for name in FUNCTIONS)
    + " and column('a name with spaces')"
)


@dataclass(frozen=True)
class Formula:
    """What was parsed, and the columns that it needs."""

    text: str
    tree: ast.expr
    columns: tuple[str, ...]

    def values(self, columns: Mapping[str, Values]) -> Values:
        """[rows] of numbers, truth values or text; numbers of columns count as float64."""
        count = len(next(iter(columns.values())))
        with np.errstate(all="ignore"):
            try:
                found = _value(self.tree, columns)
            except (TypeError, np.exceptions.DTypePromotionError):
                raise ValueError(f"formula '{self.text}' computes with text; text can only be compared") from None
        return np.broadcast_to(found, (count,))


def parse(text: str) -> Formula:
    """ValueError says what may stand in a formula where it has something else, or no column."""
    # Of a formula on several lines.
    text = " ".join(text.splitlines()).strip()
    if len(text) > MAX_FORMULA_CHARS:
        raise ValueError(f"a formula of {len(text)} characters; it may have {MAX_FORMULA_CHARS}")
    try:
        tree = ast.parse(text, mode="eval").body
        columns: dict[str, None] = {}
        _check(tree, columns, text, 0)
    except (SyntaxError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else "nested too deep"
        raise ValueError(f"formula '{text:.200}' cannot be read ({reason}); it may have {ALLOWED}") from None
    if not columns:
        raise ValueError(f"formula '{text:.200}' names no column, so it is the same in every row")
    return Formula(text, tree, tuple(columns))


def of_column(name: str) -> Formula:
    """The formula that is a column of any name."""
    call = ast.Call(ast.Name("column"), [ast.Constant(name)], [])
    text = name if name.isidentifier() else f"column({name!r})"
    return Formula(text, call, (name,))


def _check(node: ast.AST, columns: dict[str, None], text: str, depth: int) -> None:
    """Adds the columns that a node needs; ValueError for a node that is not on the list."""
    if depth > MAX_DEPTH:
        raise RecursionError
    parts: list[ast.expr]
    match node:
        case ast.Constant(value=bool() | int() | float() | str()):
            parts = []
        case ast.Name() | ast.Attribute() if (name := _dotted(node)) is not None:
            columns[name], parts = None, []
        case ast.Call(func=ast.Name(id="column"), args=[ast.Constant(value=str() as name)], keywords=[]):
            columns[name], parts = None, []
        case ast.Call(func=ast.Name(id=function), args=args, keywords=[]) if function in FUNCTIONS:
            least, _ = FUNCTIONS[function]
            if len(args) < least or (len(args) > least and function not in ("min", "max")):
                raise ValueError(f"formula '{text:.200}' gives {function}() {len(args)} values; it takes {least}")
            parts = args
        case ast.BinOp(left=left, op=operator, right=right) if type(operator) in BINARY:
            parts = [left, right]
        case ast.UnaryOp(op=sign, operand=operand) if type(sign) in UNARY:
            parts = [operand]
        case ast.Compare(left=left, ops=ops, comparators=others) if all(type(op) in COMPARISONS for op in ops):
            parts = [left, *others]
        case ast.BoolOp(values=values):
            parts = values
        case ast.IfExp(test=test, body=body, orelse=otherwise):
            parts = [test, body, otherwise]
        case _:
            piece = ast.get_source_segment(text, node) or type(node).__name__
            raise ValueError(f"formula '{text:.200}' has '{piece:.80}'; it may have {ALLOWED}")
    for part in parts:
        _check(part, columns, text, depth + 1)


def _value(node: ast.AST, columns: Mapping[str, Values]) -> Any:
    match node:
        case ast.Constant(value=str() as text):
            return np.str_(text)
        case ast.Constant(value=bool() | int() | float() as number):
            # As floats, since whole numbers of Python may take any memory.
            return np.float64(_as_float(number))
        case ast.Call(func=ast.Name(id="column"), args=[ast.Constant(value=str() as name)]):
            return _plain(columns[name])
        case ast.Call(func=ast.Name(id=function), args=args):
            return FUNCTIONS[function][1](*(_value(each, columns) for each in args))
        case ast.BinOp(left=left, op=operator, right=right):
            return BINARY[type(operator)](_number(_value(left, columns)), _number(_value(right, columns)))
        case ast.UnaryOp(op=sign, operand=operand):
            value = _value(operand, columns)
            return UNARY[type(sign)](value if isinstance(sign, ast.Not) else _number(value))
        case ast.Compare(left=left, ops=ops, comparators=others):
            values = [_value(each, columns) for each in (left, *others)]
            pairs = zip(ops, values[:-1], values[1:], strict=True)
            return np.logical_and.reduce(np.broadcast_arrays(*(COMPARISONS[type(o)](a, b) for o, a, b in pairs)))
        case ast.BoolOp(op=ast.And() | ast.Or() as operator, values=nodes):
            truths = np.broadcast_arrays(*(_truth(_value(each, columns)) for each in nodes))
            return (np.logical_and if isinstance(operator, ast.And) else np.logical_or).reduce(truths)
        case ast.IfExp(test=test, body=body, orelse=otherwise):
            return np.where(_truth(_value(test, columns)), _value(body, columns), _value(otherwise, columns))
        case _:
            return _plain(columns[str(_dotted(node))])


def _as_float(number: float) -> float:
    try:
        return float(number)
    except OverflowError:
        return float("inf")


def _dotted(node: ast.AST) -> str | None:
    """The name of a column, which may have dots (`observation.x`)."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (start := _dotted(node.value)) is not None:
        return f"{start}.{node.attr}"
    return None


def _plain(column: Values) -> Values:
    return column if column.dtype.kind in "US" else column.astype(np.float64)


def _number(value: Any) -> Any:
    return value.astype(np.float64) if np.asarray(value).dtype.kind == "b" else value


def _truth(value: Any) -> Any:
    return np.asarray(value) != 0 if np.asarray(value).dtype.kind != "b" else value
