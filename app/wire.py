"""Bytes to float32 rows and back, in JSON and in binary; says which number is wrong and how to mend it.

JSON goes through orjson and the checks below, not through a pydantic list of floats: as fast (26 µs for a row of 287,
the array included), with one message for the first wrong number in place of one for each.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import orjson

from app.errors import InvalidInput, Loc, MalformedBody, TooManyRows
from app.pace import Array

FLOAT32_LE = np.dtype("<f4")
_NUMBERS = frozenset((float, int))
_NOT_A_NUMBER = {
    str: "is text; write the number without quotes",
    bool: "is a boolean; write 1 or 0",
    type(None): "is null; replace it",
    list: "is a list; a row is a flat list of numbers",
    dict: "is an object; a row is a flat list of numbers",
}


@dataclass(frozen=True)
class Layout:
    """What the rows of a field must be: so wide, for that model, with columns of these names where they have names."""

    field: str
    width: int
    model: str
    columns: Sequence[str] = ()
    can_hide: bool = False

    def too_wide_or_narrow(self, loc: Loc, width: int) -> InvalidInput:
        if width == self.width + 1:
            hint = "if the last one is padding, leave it out"
        elif self.columns:
            hint = f"/models/{self.model} names them in order"
        else:
            hint = "send embeddings of this model"
        return _invalid(loc, f"has {_count(width, 'number')}, model '{self.model}' takes {self.width}; {hint}")


def parse_json(body: bytes) -> Any:
    """The document. NaN, Infinity and 1e999 get through, so that `json_rows` can say where they are."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        try:
            return json.loads(body, parse_int=float)
        except (ValueError, RecursionError):
            raise MalformedBody(f"the body is no JSON: {error}") from None


def json_bytes(document: Any) -> bytes:
    """Float32 arrays get the fewest digits that read back the same."""
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def float32_bytes(rows: Array) -> bytes:
    return rows.astype(FLOAT32_LE, copy=False).tobytes()


def json_rows(value: Any, layout: Layout, max_rows: int) -> Array:
    """A list of numbers, or a list of such rows → [D] or [B, D], every number finite."""
    field = layout.field
    if not isinstance(value, list):
        raise _invalid((field,), "must be a list of numbers, or a list of such rows")
    if not value:
        raise _invalid((field,), "is empty; send at least one row")
    if not isinstance(value[0], list):
        _check_row(value, layout, (field,))
    else:
        _check_count(len(value), max_rows)
        for i, row in enumerate(value):
            _check_row(row, layout, (field, i))
    with np.errstate(over="ignore"):  # what overflows becomes infinite and is found below
        rows = np.array(value, np.float32)
    _check_finite(rows, layout)
    return rows


def binary_rows(body: bytes, layouts: Sequence[Layout], max_rows: int) -> list[Array]:
    """Little-endian float32, row-major, the fields of a row side by side → [B, D] a field, every number finite."""
    width = sum(layout.width for layout in layouts)
    if not body:
        raise InvalidInput(((), f"the body is empty; send rows of {width} little-endian float32 numbers"))
    count, rest = divmod(len(body), 4 * width)
    if rest:
        padded = len(body) % (4 * (width + len(layouts))) == 0
        raise InvalidInput(
            (
                (),
                f"the body has {len(body)} bytes, which is no whole number of rows: model '{layouts[0].model}' takes "
                f"{width} float32 numbers, {4 * width} bytes, a row"
                + (f"; if number {layouts[0].width + 1} of each row is padding, leave it out" if padded else ""),
            )
        )
    _check_count(count, max_rows)
    rows = np.frombuffer(body, FLOAT32_LE).astype(np.float32, copy=False).reshape(count, width)
    edges = accumulate((layout.width for layout in layouts), initial=0)
    fields = [rows[:, start:end] for start, end in pairwise(edges)]
    for field, layout in zip(fields, layouts, strict=True):
        _check_finite(field, layout)
    return fields


def _check_count(rows: int, max_rows: int) -> None:
    if rows > max_rows:
        raise TooManyRows(f"the request has {rows} rows, the limit is {max_rows}; send them in several requests")


def _check_row(row: Any, layout: Layout, loc: Loc) -> None:
    """Types and width; whether the numbers are finite is quicker to see in the array."""
    if not isinstance(row, list):
        raise _invalid(loc, "is not a list; send either one row or a list of rows")
    if not _NUMBERS.issuperset(map(type, row)):
        column = next(i for i, number in enumerate(row) if type(number) not in _NUMBERS)
        raise _invalid((*loc, column), _NOT_A_NUMBER[type(row[column])], layout.columns)
    if len(row) != layout.width:
        raise layout.too_wide_or_narrow(loc, len(row))


def _check_finite(rows: Array, layout: Layout) -> None:
    """[…, D]"""
    finite = np.isfinite(rows)
    if not finite.all():
        index = np.unravel_index(int(np.argmin(finite)), rows.shape)
        what = "is NaN" if math.isnan(rows[index]) else "is infinite or beyond float32, whose largest is 3.4e38"
        mend = 'replace it, or hide its group with "hidden"' if layout.can_hide else "replace it"
        raise _invalid((layout.field, *map(int, index)), f"{what}; {mend}", layout.columns)


def _invalid(loc: Loc, what: str, columns: Sequence[str] = ()) -> InvalidInput:
    """`features[0][113] (opponent_x) is NaN; …`, the last step of `loc` being a column where `columns` are given."""
    field, *steps = loc
    column = steps[-1] if steps else None
    name = f" ({columns[column]})" if isinstance(column, int) and column < len(columns) else ""
    return InvalidInput((loc, f"{field}{''.join(f'[{step}]' for step in steps)}{name} {what}"))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
