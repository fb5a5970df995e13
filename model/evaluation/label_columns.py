"""The columns that formulas are computed from: features of frames, and what else is in the data."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bundle.matching import nearest
from model.data.frames import Frames
from model.data.recordings import Source, recording
from model.data.roles import LABEL_NAMES, matching
from model.data.selection import Part, parts_of, values_of
from model.evaluation.formulas import Formula

# Rows whose formulas are computed at once, so that what they need in between does not grow with the data.
CHUNK_ROWS = 2**16

Values = NDArray[Any]


class Columns:
    """The columns of a data set by name."""

    def __init__(self, frames: Frames, source: Source, formulas: Sequence[Formula], labels: Sequence[str] = ()) -> None:
        """Reads what the formulas need beside the frames; columns that match `labels`, or are named y_*, hold −1 where
        a row has none. ValueError for a column that is not there."""
        self._frames = frames
        self._labels = (*labels, *LABEL_NAMES)
        self._places = {name: place for place, name in enumerate(frames.schema.names)}
        groups = frames.schema.groups
        self._group_of = np.repeat(np.arange(len(groups)), [group.width for group in groups])
        needed = dict.fromkeys(name for formula in formulas for name in formula.columns)
        others = [name for name in needed if name not in self._places]
        known = [column.name for column in frames.roles]
        for name in others:
            if name not in known:
                raise ValueError(
                    f"the data has no column '{name}'; the nearest is '{nearest(name, [*self._places, *known])}'"
                )
        self._others = _read(source, others, len(frames)) if others else {}

    def compute(self, formula: Formula) -> tuple[Values, NDArray[np.bool_]]:
        """[rows] what the formula gives, and whether every number that it needs is there."""
        values, known = [], []
        for start in range(0, len(self._frames), CHUNK_ROWS):
            parts = {name: self._part(name, slice(start, start + CHUNK_ROWS)) for name in formula.columns}
            found = formula.values({name: part for name, (part, _) in parts.items()})
            is_known = np.logical_and.reduce([known for _, known in parts.values()])
            if found.dtype.kind == "f":
                is_known = is_known & np.isfinite(found)
            # A part of a larger array would keep that array.
            values.append(found.astype(np.float32) if found.dtype.kind in "bf" else found.copy())
            known.append(is_known)
        return np.concatenate(values), np.concatenate(known)

    def _part(self, name: str, rows: slice) -> tuple[Values, NDArray[np.bool_]]:
        if (place := self._places.get(name)) is not None:
            values: Values = self._frames.features[rows, place]
            absent = self._frames.absent
            known = np.ones(len(values), bool) if absent is None else ~absent[rows, self._group_of[place]]
            return values, known
        values = self._others[name][rows]
        if values.dtype.kind == "U":
            return values, values != ""
        known = np.isfinite(values)
        if matching([name], self._labels):
            known &= values != -1
        return values, known


def _read(source: Source, names: Sequence[str], rows: int) -> Mapping[str, Values]:
    # Of Parquet files only the columns that are asked for are read.
    data = recording(source, in_memory_bytes=0)
    if len(data.table) != rows:
        raise ValueError(
            f"{len(data.table) - rows:,} rows were dropped, so labels and rows do not go together; choose --missing "
            "hide or mean"
        )
    parts = parts_of(data.table, data.told)
    return {name: _array(data.table, parts[name]) for name in names}


def _array(table: pa.Table, part: Part) -> Values:
    """[rows] of numbers, NaN where there is nothing, or of text."""
    if part.place is not None:
        return values_of(table, [part])[:, 0]
    name, column = part.name, table[part.column]
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return np.array(["" if text is None else text for text in column.to_pylist()])
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        raise ValueError(f"column '{name}' is {kind}; labels and formulas take numbers, truth values and text")
    return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(), np.float64)
