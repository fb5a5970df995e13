"""What float32 makes of numbers that have more digits than it, such as the time since 1970 or long ids."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.data import columns as of_column
from model.data.selection import Part

# Of a column, float32 must be able to tell this many values apart.
MIN_STEPS = 100
# Up to here float32 holds every whole number.
EXACT = 1 << 24
# Columns that have a sentence of their own; the rest are only counted.
MAX_SENTENCES = 5


class Range(NamedTuple):
    """What is known of some columns [n] so far."""

    low: NDArray[Any]
    high: NDArray[Any]
    # Whether float32 changes a whole number among them.
    changed: NDArray[np.bool_]


class Rounding:
    """Looks at a table one part after another for columns that lose what tells their numbers apart."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._places: dict[str, list[Part]] = {}
        for part in parts:
            self._places.setdefault(part.column, []).append(part)
        self._ranges: dict[str, Range] = {}

    def look(self, table: Any) -> None:
        """Takes the next rows into account."""
        for name in self._places:
            column = table[name]
            if of_column.is_wide(of_column.innermost(column.type)):
                values = of_column.as_stored(column)
                found = Range(np.fmin.reduce(values), np.fmax.reduce(values), _changed(values))
                before = self._ranges.get(name, found)
                self._ranges[name] = Range(
                    np.fmin(before.low, found.low), np.fmax(before.high, found.high), before.changed | found.changed
                )

    def notes(self) -> list[str]:
        """A sentence for each column of which something is lost, up to a number."""
        said = [
            sentence
            for name, found in self._ranges.items()
            for part in self._places[name]
            if (sentence := _sentence(part.name, found, part.place or 0))
        ]
        rest = len(said) - MAX_SENTENCES
        return said[:MAX_SENTENCES] + ([f"float32 rounds {rest} more columns in such a way"] if rest > 0 else [])


def _changed(values: NDArray[Any]) -> NDArray[np.bool_]:
    """[columns] whether float32 changes a whole number of the rows [n, columns]."""
    if values.dtype.kind not in "iu" or (values.min() >= -EXACT and values.max() <= EXACT):
        return np.zeros(values.shape[1], np.bool_)
    size = (np.abs(values.astype(np.int64)) if values.dtype.kind == "i" else values).astype(np.uint64)
    # Without the zeros that it ends with in binary, as float64 holds no more than 2⁵³ either.
    digits = size // np.maximum(size & (~size + np.uint64(1)), np.uint64(1))
    changed: NDArray[np.bool_] = digits > EXACT
    return np.asarray(changed.any(0))


def _sentence(name: str, found: Range, place: int) -> str | None:
    # As Python's numbers, whose difference is exact.
    low, high = found.low[place].item(), found.high[place].item()
    if not (math.isfinite(low) and math.isfinite(high)):
        return None
    step = float(np.spacing(np.float32(max(abs(low), abs(high)))))
    if 0 < high - low < MIN_STEPS * step:
        return (
            f"'{name}' goes from {low:.12g} to {high:.12g}, and float32 rounds such numbers to multiples of "
            f"{step:.3g}; record how far they are from the first, or leave the column out with --exclude '{name}'"
        )
    if found.changed[place]:
        return (
            f"'{name}' holds whole numbers from {low:.12g} to {high:.12g}, and float32 rounds those above {EXACT:,} to "
            f"multiples of up to {step:.3g}; number ids anew, or leave the column out with --exclude '{name}'"
        )
    return None
