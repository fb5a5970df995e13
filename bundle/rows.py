"""Rows of a model's columns, from what a program holds in memory: arrays, or tables whose columns are taken by name.

No library of tables is imported: whatever gives its columns by name is a table.
"""

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np
from numpy import ma
from numpy.typing import NDArray

from bundle.matching import by_position, check_names
from bundle.schema import Schema, unnamed_columns

Rows = NDArray[np.float32]


def rows_of(source: Any, wanted: Sequence[str]) -> Rows:
    """[rows, C] of the columns `wanted`; ValueError where one is missing or does not hold numbers."""
    if isinstance(source, str | PathLike):
        raise ValueError(
            f"{source} is a path; read it first, as with pandas.read_parquet or pyarrow.parquet.read_table, or embed "
            "the file with jepa embed"
        )
    columns = _names(source)
    if columns is None:
        return _matrix(source, len(wanted))
    if "features" in columns and "features" not in wanted:
        return _matrix(_array("features", source["features"]), len(wanted))
    found = _columns(source, columns, wanted)
    lengths = {name: len(column) for name, column in found.items()}
    if len({*lengths.values()}) > 1:
        raise ValueError(f"columns have different lengths ({str(lengths)[:200]}); a row has one number of each")
    rows = np.empty((next(iter(lengths.values())), len(wanted)), np.float32)
    for i, column in enumerate(found.values()):
        rows[:, i] = column
    return rows


def unmasked(values: Any) -> Any:
    """With NaN for the numbers that a masked array of NumPy hides, in whose place anything may stand."""
    if not isinstance(values, ma.MaskedArray) or not ma.is_masked(values) or values.dtype.kind not in "biuf":
        return values
    return ma.filled(values.astype(np.promote_types(values.dtype, np.float32)), np.nan)


def hide(rows: Rows, schema: Schema, missing: str) -> Rows:
    """The rows with NaN in whole groups where a number is missing, which is how graphs are told what to hide;
    ValueError where missing numbers are refused, for infinite ones, and where nothing would be left to see."""
    if missing not in ("refuse", "hide"):
        raise ValueError(f"missing is {missing!r}; it must be refuse or hide")
    finite = np.isfinite(rows)
    if finite.all():
        return rows
    refused = ~finite if missing == "refuse" else np.isinf(rows)
    if refused.any():
        row, column = (int(at[0]) for at in np.nonzero(refused))
        way = '; missing="hide" hides its group in that row' if np.isnan(rows[row, column]) else ""
        raise ValueError(f"{schema.names[column]} is {rows[row, column]} in row {row}; numbers must be finite{way}")
    rows = rows.copy()
    for group in schema.groups:
        part = slice(group.start, group.stop)
        rows[~finite[:, part].all(1), part] = np.nan
    if (blind := np.isnan(rows).all(1)).any():
        raise ValueError(f"row {int(np.flatnonzero(blind)[0])} has nothing left to see; leave such rows out")
    return rows


def _names(source: Any) -> list[str] | None:
    """The names of a table's columns, None for what is no table."""
    if isinstance(source, np.ndarray):
        return None if source.dtype.names is None else [*source.dtype.names]
    if isinstance(source, Mapping):
        return [str(name) for name in source]
    for attribute in ("column_names", "columns"):
        names = getattr(source, attribute, None)
        # Of an Arrow table `columns` are the columns themselves.
        if names is not None and all(isinstance(name, str) for name in names):
            return [*names]
    return None


def _columns(source: Any, columns: list[str], wanted: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    by_name = {name: (name, 0) for name in columns if name in {*wanted}}
    lists: dict[str, NDArray[np.float32]] = {}
    for name in columns:
        # A column of lists, of which training made a column for each place: obs_0, obs_1, …
        if name not in by_name and f"{name}_0" in wanted and f"{name}_0" not in columns:
            lists[name] = _array(name, source[name])
            width = lists[name].shape[1] if lists[name].ndim == 2 else 0
            by_name |= {f"{name}_{place}": (name, place) for place in range(width)}
    if [*wanted] == unnamed_columns(len(wanted)) and not {*wanted} <= by_name.keys():
        by_position(wanted, columns)
        by_name = {want: (name, 0) for want, name in zip(wanted, columns, strict=True)}
    check_names(wanted, [*by_name, *(name for name in columns if name not in by_name)])
    found = {}
    for want in wanted:
        name, place = by_name[want]
        if name in lists:
            found[want] = lists[name][:, place]
        else:
            found[want] = _array(name, source[name])
            if found[want].ndim != 1:
                raise ValueError(f"column '{name}' has shape {found[want].shape}; it must be one number a row")
    return found


def _array(name: str, column: Any) -> NDArray[np.float32]:
    """[rows] or, of a column of lists, [rows, …] as float32, NaN for nothing."""
    try:
        array = np.asarray(unmasked(column))
        if array.dtype.kind == "O":
            # Columns of lists, and numbers with gaps.
            array = np.asarray([_number(each) for each in column], np.float32)
        # A timestamp would become a number, too.
        if array.dtype.kind not in "biuf":
            raise ValueError(f"they are {array.dtype}")
        with np.errstate(over="ignore"):
            array = array.astype(np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"column '{name}' does not hold numbers, or lists of one length ({reason})") from None
    return array.reshape(len(array), -1) if array.ndim > 2 else array


def _number(value: Any) -> Any:
    # None, and the values that pandas and Arrow have for nothing, which are not equal to anything.
    if value is None or type(value).__name__ in ("NAType", "NullScalar"):
        return np.nan
    if isinstance(value, str | bytes):
        raise ValueError(f"{value!r:.40} is text")
    return value.tolist() if hasattr(value, "tolist") else value


def _matrix(source: Any, width: int) -> Rows:
    try:
        array = np.asarray(unmasked(source))
    except ValueError as error:
        raise ValueError(f"the rows cannot be made an array ({error}); they must be [rows, {width}]") from None
    if array.dtype.kind not in "biuf":
        kind = f"{type(source).__module__}.{type(source).__qualname__}"
        raise ValueError(f"the data is a {kind} of {array.dtype}; give numbers [rows, {width}] or a table")
    with np.errstate(over="ignore"):
        array = array.astype(np.float32)
    array = array[None] if array.ndim == 1 else array
    if array.ndim != 2 or array.shape[1] != width:
        raise ValueError(f"the array has shape {list(array.shape)}; the model takes [rows, {width}]")
    return array
