"""Converts JSON and binary bodies to float32 rows and back; errors say which number is wrong and how to fix it.

orjson parses the JSON into lists of Python floats, and `array("f").fromlist` converts a list to float32 in one C call
that also raises if an element is no number. A pydantic `list[float]` would be about as fast (26 µs for a row of 287
numbers, with the array), but it answers with one message for each wrong number instead of one for the first. What
fromlist accepts by mistake is checked where that is cheapest: booleans only if the body can contain any, and finiteness
once, on the finished array.
"""

import json
import math
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from app.errors import InvalidInput, Loc, MalformedBody, TooManyRows
from bundle.manifest import Manifest

Array = NDArray[np.float32]
# A function of arrays [B, …] with the same B that returns [B, D].
Run = Callable[..., Array]

FLOAT32_LE = np.dtype("<f4")
MAX_VDOT_NUMBERS = 8192
# A row of so many times its width is refused for that alone, before any of its numbers is looked at.
MAX_SURPLUS = 100
_NUMBERS = frozenset((float, int))
_NOT_A_NUMBER = {
    str: "is text; write the number without quotes",
    bool: "is a boolean; write 1 or 0",
    type(None): "is null; replace it",
    list: "is a list; a row is a flat list of numbers",
    dict: "is an object; a row is a flat list of numbers",
}


def all_finite(rows: Array) -> bool:
    """Whether no number is NaN or infinite."""
    # The sum of squares is finite only if every number is, and takes half the time of isfinite. It may overflow, so an
    # infinite sum proves nothing (and `dot`, which is a little faster, would warn). For larger arrays BLAS would wake
    # another thread.
    if rows.size <= MAX_VDOT_NUMBERS and math.isfinite(np.vdot(rows, rows)):
        return True
    return bool(np.isfinite(rows).all())


@dataclass(frozen=True)
class Layout:
    """What the rows of one field must look like: their width, and the names of their columns if they have names."""

    field: str
    width: int
    model: str
    columns: Sequence[str] = ()
    can_hide: bool = False

    def wrong_width(self, loc: Loc, width: int) -> InvalidInput:
        """The error for a row of `width` numbers."""
        if width == self.width + 1:
            hint = "if the last one is padding, leave it out"
        elif self.columns:
            hint = f"/models/{self.model} names them in order"
        else:
            hint = "send embeddings of this model"
        return invalid(loc, f"has {counted(width, 'number')}, model '{self.model}' takes {self.width}; {hint}")


class Fields:
    """The fields of one request, which have the same number of rows; in a binary body they are side by side."""

    def __init__(self, *layouts: Layout) -> None:
        self.layouts = layouts
        self.width = sum(layout.width for layout in layouts)
        edges = accumulate((layout.width for layout in layouts), initial=0)
        self.columns = [slice(start, stop) for start, stop in pairwise(edges)]


class Forms:
    """The fields that requests to one model may have, by the kind of request."""

    def __init__(self, manifest: Manifest) -> None:
        model, columns = manifest.name, manifest.feature_schema.names
        self.features = Fields(Layout("features", manifest.input_dim, model, columns, can_hide=True))
        self.context = Fields(Layout("context", manifest.embed_dim, model))
        self.frames = Fields(
            *(Layout(field, manifest.input_dim, model, columns) for field in ("features", "target_features"))
        )
        self.embeddings = Fields(*(Layout(field, manifest.embed_dim, model) for field in ("predicted", "target")))


def parse_json(body: bytes) -> Any:
    """The parsed document; NaN, Infinity and 1e999 are accepted here, so that `json_rows` can say where they are."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        try:
            return json.loads(body, parse_int=float)
        except (ValueError, RecursionError):
            raise MalformedBody(f"the body is no JSON: {error}") from None


def json_bytes(document: Any) -> bytes:
    """The document as JSON; float32 arrays are written with the fewest digits that read back as the same float32."""
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def float32_bytes(rows: Array) -> bytes:
    """Little-endian float32, row-major."""
    return rows.astype(FLOAT32_LE, copy=False).tobytes()


def may_hold_booleans(body: bytes) -> bool:
    """False only if no list in the JSON contains a boolean: `true` has a "u" and `false` an "s", numbers neither."""
    start = body.find(b"[")
    return body.find(b"u", start) >= 0 or body.find(b"s", start) >= 0


def json_rows(value: Any, layout: Layout, max_rows: int, *, booleans: bool = True) -> tuple[Array, bool]:
    """A list of numbers, or a list of such rows → [B, D], every number finite, and whether it was a single row.

    `booleans` is whether the value may contain any, from `may_hold_booleans`.
    """
    field = layout.field
    if not isinstance(value, list):
        raise invalid((field,), "must be a list of numbers, or a list of such rows")
    if not value:
        raise invalid((field,), "is empty; send at least one row")
    numbers = array("f")
    if single := not isinstance(value[0], list):
        _add_row(numbers, value, layout, (field,), booleans)
    else:
        check_count(len(value), max_rows)
        for i, row in enumerate(value):
            _add_row(numbers, row, layout, (field, i), booleans)
    rows = np.frombuffer(numbers, np.float32).reshape(-1, layout.width)
    check_finite(rows, layout, single)
    return rows, single


def binary_rows(body: bytes, fields: Fields, max_rows: int) -> list[Array]:
    """Little-endian float32, row-major → one [B, D] for each field, every number finite."""
    count, rest = divmod(len(body), 4 * fields.width)
    if rest or not count:
        raise _no_whole_rows(len(body), fields)
    if count > max_rows:
        check_count(count, max_rows)
    rows = np.ndarray((count, fields.width), FLOAT32_LE, body).astype(np.float32, copy=False)
    if not all_finite(rows):
        for columns, layout in zip(fields.columns, fields.layouts, strict=True):
            check_finite(rows[:, columns], layout)
    return [rows] if len(fields.columns) == 1 else [rows[:, columns] for columns in fields.columns]


def check_alike(rows: Mapping[str, Array]) -> None:
    """Raises InvalidInput unless all fields have the same number of rows."""
    if len({len(each) for each in rows.values()}) > 1:
        counts = " and ".join(f"{field} has {len(each)} rows" for field, each in rows.items())
        raise InvalidInput((([*rows][-1],), f"{counts}; send as many of one as of the other"))


def _no_whole_rows(size: int, fields: Fields) -> InvalidInput:
    if not size:
        return InvalidInput(((), f"the body is empty; send rows of {fields.width} little-endian float32 numbers"))
    first, padded_width = fields.layouts[0], fields.width + len(fields.layouts)
    hint = "" if size % (4 * padded_width) else f"; if number {first.width + 1} of each row is padding, leave it out"
    return InvalidInput(
        (
            (),
            f"the body has {size} bytes, which is no whole number of rows: model '{first.model}' takes "
            f"{fields.width} float32 numbers, {4 * fields.width} bytes, a row{hint}",
        )
    )


def check_count(rows: int, max_rows: int) -> None:
    if rows > max_rows:
        raise TooManyRows(f"the request has {rows} rows, the limit is {max_rows}; send them in several requests")


def _add_row(numbers: "array[float]", row: Any, layout: Layout, loc: Loc, booleans: bool) -> None:
    """Appends a row to `numbers`; a number beyond float32 becomes infinite, which `check_finite` finds later."""
    if not isinstance(row, list):
        raise invalid(loc, "is not a list; send either one row or a list of rows")
    if len(row) > MAX_SURPLUS * layout.width:
        raise layout.wrong_width(loc, len(row))
    try:
        if booleans and not _NUMBERS.issuperset(map(type, row)):
            raise TypeError
        numbers.fromlist(row)
    except TypeError:
        raise no_number(row, loc, layout.columns) from None
    if len(row) != layout.width:
        raise layout.wrong_width(loc, len(row))


def check_finite(rows: Array, layout: Layout, single: bool = False) -> None:
    """Raises InvalidInput for the first number of rows [B, D] that is NaN or infinite."""
    if not all_finite(rows):
        row, column = np.unravel_index(int(np.argmin(np.isfinite(rows))), rows.shape)
        what = "is NaN" if math.isnan(rows[row, column]) else "is infinite or beyond float32, whose largest is 3.4e38"
        mend = 'replace it, or hide its group with "hidden"' if layout.can_hide else "replace it"
        place = (int(column),) if single else (int(row), int(column))
        raise invalid((layout.field, *place), f"{what}; {mend}", layout.columns)


def no_number(row: Sequence[Any], loc: Loc, columns: Sequence[str]) -> InvalidInput:
    """The error for the first item of a row that is text, null, a list or the like."""
    column = next(i for i, number in enumerate(row) if type(number) not in _NUMBERS)
    return invalid((*loc, column), _NOT_A_NUMBER[type(row[column])], columns)


def invalid(loc: Loc, what: str, columns: Sequence[str] = ()) -> InvalidInput:
    """`features[0][113] (opponent_x) is NaN; …`; the last step of `loc` is a column if `columns` are given."""
    field, *steps = loc
    column = steps[-1] if steps else None
    name = f" ({columns[column]})" if isinstance(column, int) and column < len(columns) else ""
    return InvalidInput((loc, f"{field}{''.join(f'[{step}]' for step in steps)}{name} {what}"))


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
