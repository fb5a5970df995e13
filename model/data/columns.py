"""The columns of a table as arrays of what they must hold; ValueError for others, naming the column and the row."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

# Of a column, float32 must be able to tell this many values apart.
MIN_STEPS = 100
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


def numbers(name: str, column: pa.ChunkedArray) -> NDArray[np.float32]:
    """[rows], NaN where there is nothing."""
    if not is_number(column.type):
        raise ValueError(
            f"column '{name}' is {column.type}, not numbers; pick the feature columns with --features, or leave it "
            f"out with --exclude '{name}'"
        )
    if column.null_count or pa.types.is_boolean(column.type):
        column = pc.cast(column, pa.float32(), safe=False)
    return np.asarray(column.to_numpy(), np.float32)


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
        array = pc.cast(array, pa.float32(), safe=False)
    return np.ascontiguousarray(array.to_numpy(zero_copy_only=False), np.float32).reshape(rows, -1)


def width(name: str, column: pa.ChunkedArray) -> int:
    """How many numbers a row of a column of lists holds; ValueError if it is none, or they differ."""
    kind = column.type
    if pa.types.is_fixed_size_list(kind) and is_number(kind.value_type):
        return int(kind.list_size)
    return int(listed(name, column).shape[1])


def is_wide(kind: pa.DataType) -> bool:
    """Whether a column of the type may hold numbers that float32 rounds away."""
    return kind in (pa.int64(), pa.uint64(), pa.float64())


def rounded(name: str, column: pa.ChunkedArray) -> str | None:
    """What float32 makes of a column whose numbers hardly differ for their size, such as the time since 1970, as a
    sentence."""
    if not is_wide(column.type):
        return None
    ends = pc.min_max(column).as_py()
    if ends["min"] is None or not np.isfinite([ends["min"], ends["max"]]).all():
        return None
    step = float(np.spacing(np.float32(max(abs(ends["min"]), abs(ends["max"])))))
    if not 0 < ends["max"] - ends["min"] < MIN_STEPS * step:
        return None
    return (
        f"'{name}' goes from {ends['min']:.12g} to {ends['max']:.12g}, and float32 rounds such numbers to multiples of "
        f"{step:.3g}; record how far they are from the first, or leave the column out with --exclude '{name}'"
    )


def is_whole(column: pa.ChunkedArray) -> bool:
    """Whether every row holds a whole number."""
    if not is_number(column.type) or column.null_count:
        return False
    if not pa.types.is_floating(column.type):
        return True
    values = column.to_numpy()
    return bool((np.isfinite(values) & (values == np.trunc(values))).all())


def whole(name: str, column: pa.ChunkedArray) -> NDArray[np.int64]:
    """[rows] whole numbers."""
    if not is_whole(column):
        some = ", ".join(map(str, column.to_numpy()[:3]))
        at = "" if not column.null_count else f", and row {_row(column.is_null().to_numpy(), len(column))} has none"
        raise ValueError(
            f"column '{name}' holds {some} …; it must be a whole number in every row{at}: a frame counts rows, not "
            "seconds"
        )
    values: NDArray[np.int64] = column.to_numpy().astype(np.int64)
    return values


def episodes(
    name: str, column: pa.ChunkedArray, file: NDArray[np.int64], files: Sequence[str]
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """[rows] the number of each row's game, and the name of each number where numbers are not the data's own.

    Any value tells games apart; the same in two files (`file` [rows] into `files`) is two games.
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
    if len(pairs) == len(values) and own:
        return whole(name, column), ()
    # Numbered in the order in which the games come.
    first = np.full(len(pairs), len(code))
    np.minimum.at(first, number, begins)
    rank = np.argsort(np.argsort(first, kind="stable"), kind="stable")
    named = [_text(values[pair % len(values)]) for pair in pairs.tolist()]
    if len(pairs) > len(values):
        named = [f"{files[pair // len(values)]}:{text}" for pair, text in zip(pairs.tolist(), named, strict=True)]
    ordered = tuple(text for _, text in sorted(zip(rank.tolist(), named, strict=True)))
    counts = np.diff(np.concatenate([begins, [len(code)]]))
    return np.repeat(rank[number].astype(np.int64), counts), ordered


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
        is_right = values.dtype.kind in "biu"
        if values.dtype.kind == "f":
            # A column of whole numbers with gaps is stored as floats with NaN.
            values = np.where(np.isnan(values), -1, values)
            is_right = bool((np.isfinite(values) & (values == np.trunc(values))).all())
        if not is_right:
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
