"""The columns of a table as arrays of what they must hold; ValueError for others, naming the column and the row."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from model.data.odd_text import odd_text

# Options that a message spells out.
MAX_FLAGS = 8
# What int64 cannot hold any more.
MAX_WHOLE = 2**63
# What a split is called: by this program, and by others.
SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "eval"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}


def is_number(kind: pa.DataType) -> bool:
    """Whether a column of the type holds numbers; one of which nothing is known holds none yet."""
    known = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    return bool(known or pa.types.is_null(kind))


def is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def innermost(kind: pa.DataType) -> pa.DataType:
    """What lists, or lists of lists, are of."""
    while is_list(kind):
        kind = kind.value_type
    return kind


def check_numbers(kinds: Mapping[str, pa.DataType], column_of: Callable[[str], pa.ChunkedArray]) -> None:
    """ValueError that names all columns, given by their types, which hold neither numbers nor lists; `column_of` gives
    what is in one."""
    odd = [name for name, kind in kinds.items() if not is_number(kind) and not is_list(kind)]
    if not odd:
        return
    others = "".join(f", nor is '{name}'" for name in odd[1:MAX_FLAGS])
    flags = " ".join(f"--exclude '{name}'" for name in odd[:MAX_FLAGS]) + (" …" if len(odd) > MAX_FLAGS else "")
    raise ValueError(
        f"column '{odd[0]}' is {kinds[odd[0]]}, not numbers{others}{odd_text(odd[0], column_of(odd[0]))}; pick the "
        f"feature columns with --features, or leave {'them' if others else 'it'} out with {flags}"
    )


def numbers(name: str, column: pa.ChunkedArray) -> NDArray[np.float32]:
    """[rows], NaN where there is nothing."""
    check_numbers({name: column.type}, lambda _: column)
    if column.null_count or pa.types.is_boolean(column.type):
        column = pc.cast(column, pa.float64() if is_wide(column.type) else pa.float32(), safe=False)
    return _narrowed(name, column.to_numpy(), 1)


def listed(name: str, column: pa.ChunkedArray) -> NDArray[np.float32]:
    """[rows, columns] of a column of lists of numbers, all of one length; nested lists are laid end to end."""
    array, kind, rows = column.combine_chunks(), column.type, len(column)
    if not is_list(kind) or not is_number(innermost(kind)):
        raise ValueError(
            f"column '{name}' is {kind}; it must hold a list of numbers a row, or be left out with --exclude '{name}'"
        )
    while is_list(array.type):
        if array.null_count:
            raise ValueError(
                f"column '{name}' is empty in {array.null_count} rows; every row must have its numbers, and row "
                f"{_row(array.is_null().to_numpy(zero_copy_only=False), rows)} has none"
            )
        lengths = array.value_lengths().to_numpy(zero_copy_only=False)
        if odd := np.flatnonzero((lengths != lengths[0]) | (lengths == 0)).tolist():
            raise ValueError(
                f"column '{name}' has lists of different lengths, or empty ones: {lengths[0]} in row 0, "
                f"{lengths[odd[0]]} in row {odd[0] * rows // len(array)}; all rows must be alike, or the column left "
                f"out with --exclude '{name}'"
            )
        array = array.flatten()
    if array.null_count or pa.types.is_boolean(array.type):
        array = pc.cast(array, pa.float64() if is_wide(array.type) else pa.float32(), safe=False)
    values = array.to_numpy(zero_copy_only=False)
    return np.ascontiguousarray(_narrowed(name, values, len(values) // max(rows, 1))).reshape(rows, -1)


def _narrowed(name: str, values: NDArray[Any], width: int) -> NDArray[np.float32]:
    """The numbers, of which `width` are in a row, as float32; ValueError for those that it cannot hold."""
    if values.dtype.kind != "f" or values.itemsize <= 4:
        return np.asarray(values, np.float32)
    with np.errstate(over="ignore"):
        found: NDArray[np.float32] = values.astype(np.float32)
    if at := np.flatnonzero(np.isinf(found) & np.isfinite(values))[:1].tolist():
        raise ValueError(
            f"column '{name}' holds {values[at[0]]:g} in row {at[0] // width}, more than float32 can hold "
            f"({np.finfo(np.float32).max:.3g}); record it in another unit, or leave the column out with --exclude "
            f"'{name}'"
        )
    return found


def as_stored(column: pa.ChunkedArray) -> NDArray[Any]:
    """[rows, columns] of a column of numbers, or of lists that `listed` takes, with all their digits."""
    array, rows = column.combine_chunks(), len(column)
    while is_list(array.type):
        array = array.flatten()
    values: NDArray[Any] = array.to_numpy(zero_copy_only=False).reshape(rows, -1)
    return values


def width(name: str, column: pa.ChunkedArray) -> int:
    """How many numbers a row of a column of lists holds; ValueError if it is none, or they differ."""
    kind = column.type
    if pa.types.is_fixed_size_list(kind) and is_number(kind.value_type):
        return int(kind.list_size)
    return int(listed(name, column).shape[1])


def is_wide(kind: pa.DataType) -> bool:
    """Whether a column of the type may hold numbers that float32 rounds away."""
    return kind in (pa.int32(), pa.uint32(), pa.int64(), pa.uint64(), pa.float64())


def is_whole(column: pa.ChunkedArray) -> bool:
    """Whether every row holds a whole number."""
    return is_number(column.type) and not column.null_count and _are_whole(column.to_numpy())


def has_fractions(column: pa.ChunkedArray) -> bool:
    """Whether some rows hold numbers, and not all of these are whole."""
    if not is_number(column.type):
        return False
    values = column.drop_null().to_numpy()
    return not _are_whole(values[~np.isnan(values)] if values.dtype.kind == "f" else values)


def _are_whole(values: NDArray[Any]) -> bool:
    """Whether all values are whole numbers that int64 holds."""
    if values.dtype.kind == "f":
        return bool(((values == np.trunc(values)) & (abs(values) < MAX_WHOLE)).all())
    return values.dtype != np.uint64 or not len(values) or int(values.max()) < MAX_WHOLE


def whole(name: str, column: pa.ChunkedArray) -> NDArray[np.int64]:
    """[rows] whole numbers."""
    if not is_whole(column):
        some = ", ".join(map(str, column.to_numpy()[:3]))
        kind = "" if is_number(column.type) else f", which are {column.type}"
        at = "" if not column.null_count else f", and row {_row(column.is_null().to_numpy(), len(column))} has none"
        raise ValueError(
            f"column '{name}' holds {some} …{kind}; it must be a whole number in every row{at}: a frame counts rows, "
            "not seconds"
        )
    values: NDArray[np.int64] = column.to_numpy().astype(np.int64)
    return values


class Episodes(NamedTuple):
    number: NDArray[np.int64]  # [rows]
    # The name of each number where numbers are not the data's own.
    names: tuple[str, ...] = ()
    # How many go on from one file to another, and where the first does.
    going_on: int = 0
    first: str = ""


def episodes(
    name: str,
    column: pa.ChunkedArray,
    file: NDArray[np.int64],
    files: Sequence[str],
    frame: NDArray[np.int64] | None = None,
) -> Episodes:
    """The game of each row.

    Any value tells games apart; the same in two files (`file` [rows] into `files`) is two games, unless the second goes
    on with the frame numbers where the first ends.
    """
    missing = column.is_null().to_numpy()
    if pa.types.is_floating(column.type):
        missing |= np.isnan(column.to_numpy())
    if missing.any():
        raise ValueError(
            f"column '{name}' has nothing in {missing.sum():,} rows, first in row {_row(missing, len(column))}; every "
            "row must say which game it is from"
        )
    own = is_whole(column) and not pa.types.is_boolean(column.type)
    encoded = column.combine_chunks().dictionary_encode()
    code, values = encoded.indices.to_numpy(), encoded.dictionary.to_pylist()
    # Rows of a game mostly stand together; there are far fewer such runs than rows.
    changes = (code[1:] != code[:-1]) | (file[1:] != file[:-1])
    begins = np.flatnonzero(np.concatenate([[True], changes])[: len(code)])
    pairs, number = np.unique(code[begins] + file[begins] * len(values), return_inverse=True)
    going_on, where = 0, ""
    if frame is not None and len(pairs) > len(values):
        ends = _ends(frame, begins, number, len(pairs))
        first, before = _earlier_file(pairs, len(values), ends)
        goes_on = np.flatnonzero(first != np.arange(len(pairs)))
        going_on = len(goes_on)
        for at in goes_on[:1].tolist():
            named = _text(values[pairs[at] % len(values)])
            one, other = (files[pairs[place] // len(values)] for place in (before[at], at))
            where = f"{named} ends in {one} with frame {ends[before[at], 1]} and begins in {other} with {ends[at, 0]}"
        kept, number = np.unique(first[number], return_inverse=True)
        pairs = pairs[kept]
    if len(pairs) == len(values) and own:
        return Episodes(whole(name, column), going_on=going_on, first=where)
    # Numbered in the order in which the games come.
    first_row = np.full(len(pairs), len(code))
    np.minimum.at(first_row, number, begins)
    rank = np.argsort(np.argsort(first_row, kind="stable"), kind="stable")
    names = [_text(values[pair % len(values)]) for pair in pairs.tolist()]
    if len(pairs) > len(values):
        names = [f"{files[pair // len(values)]}:{text}" for pair, text in zip(pairs.tolist(), names, strict=True)]
    ordered = tuple(text for _, text in sorted(zip(rank.tolist(), names, strict=True)))
    counts = np.diff(np.concatenate([begins, [len(code)]]))
    return Episodes(np.repeat(rank[number].astype(np.int64), counts), ordered, going_on, where)


def _ends(frame: NDArray[np.int64], begins: NDArray[Any], number: NDArray[Any], count: int) -> NDArray[np.int64]:
    """[count, 3] the first frame, the last and how many rows there are of each `number` of the runs from `begins`."""
    ends = np.empty((count, 3), np.int64)
    ends[:] = np.iinfo(np.int64).max, np.iinfo(np.int64).min, 0
    np.minimum.at(ends[:, 0], number, np.minimum.reduceat(frame, begins))
    np.maximum.at(ends[:, 1], number, np.maximum.reduceat(frame, begins))
    np.add.at(ends[:, 2], number, np.diff(np.concatenate([begins, [len(frame)]])))
    return ends


def _earlier_file(
    pairs: NDArray[Any], values: int, ends: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each of the pairs of a file and one of so many values the first pair that it goes on with, or itself; and the
    last one before it."""
    first, previous = np.arange(len(pairs)), np.arange(len(pairs))
    order = np.lexsort((ends[:, 0], pairs % values))
    for before, after in itertools.pairwise(order.tolist()):
        low, high, count = ends[before].tolist()
        step = (high - low) / (count - 1) if count > 1 else 1
        if pairs[before] % values == pairs[after] % values and ends[after, 0] - high == step:
            first[after], previous[after] = first[before], before
    return first, previous


def splits(name: str, column: pa.ChunkedArray) -> NDArray[np.str_]:
    """[rows] train, val or test, by whatever name."""
    encoded = column.combine_chunks().dictionary_encode(null_encoding="encode")
    code, values = encoded.indices.to_numpy(zero_copy_only=False), encoded.dictionary.to_pylist()
    known = [SPLITS.get(str(value).strip().casefold()) for value in values]
    if None in known:
        odd = known.index(None)
        raise ValueError(
            f"column '{name}' holds {values[odd]!r} in row {np.flatnonzero(code == odd)[0]}; it must be train, val or "
            f"test in every row, or left out with --exclude '{name}'"
        )
    found: NDArray[np.str_] = np.asarray(known, np.str_)[code]
    return found


def labels(columns: Mapping[str, pa.ChunkedArray]) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """One after another, each [rows], −1 for none."""
    for name, column in columns.items():
        values: NDArray[Any] = column.to_numpy()
        if values.dtype.kind == "f":
            # A column of whole numbers with gaps is stored as floats with NaN.
            values = np.where(np.isnan(values), -1, values)
        if values.dtype.kind not in "biuf" or not _are_whole(values):
            some = ", ".join(map(str, values[:3]))
            raise ValueError(
                f"label '{name}' holds {some} …; labels are whole numbers, −1 or nothing where there is none"
            )
        yield name, values.astype(np.int64)


def _row(mask: NDArray[np.bool_], rows: int) -> int:
    """The first row of a mask, whose entries several make a row where lists are nested."""
    return int(np.flatnonzero(mask)[0]) * rows // len(mask)


def _text(value: object) -> str:
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value.hex()
    return str(value)
