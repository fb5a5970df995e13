"""What becomes of numbers that are not there: NaN, or nothing at all."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bundle.schema import Group

MISSING = ("refuse", "hide", "drop", "mean")

Rows = NDArray[np.float32]
Mask = NDArray[np.bool_]


def gaps(values: Rows, names: Sequence[str], missing: object) -> list[int]:
    """The columns of `values` [rows, C] that have gaps; ValueError for infinite numbers, and for gaps if they are
    refused."""
    if missing not in MISSING:
        raise ValueError(f"missing is {missing!r}; it must be one of {', '.join(MISSING)}")
    found = []
    # A sum in float64 is not finite exactly if one of its float32 terms is not, and is far cheaper than isfinite.
    for i in np.flatnonzero(~np.isfinite(values.sum(0, dtype=np.float64))).tolist():
        odd = np.flatnonzero(np.isinf(values[:, i]) if missing != "refuse" else ~np.isfinite(values[:, i]))
        if odd.size:
            value, row = values[odd[0], i], int(odd[0])
            way = (
                "; --missing hide, drop or mean goes on without what is missing"
                if np.isnan(value)
                else f"; mend the recording, or leave the column out with --exclude '{names[i]}'"
            )
            raise ValueError(f"{names[i]} is {value} in row {row}; features must be finite numbers{way}")
        found.append(i)
    return found


def fill(values: Rows, columns: Sequence[int], names: Sequence[str]) -> None:
    """Puts the mean of the rest into the gaps of the columns, in place; ValueError for a column that is all gaps."""
    for i in columns:
        gap = np.isnan(values[:, i])
        if gap.all():
            raise ValueError(f"{names[i]} is missing in every row; leave it out with --exclude '{names[i]}'")
        values[gap, i] = values[~gap, i].mean(dtype=np.float64)


def absent(values: Rows, columns: Sequence[int], groups: Sequence[Group]) -> Mask:
    """[rows, G]: whether a number of the group is missing in the row."""
    mask = np.zeros((len(values), len(groups)), np.bool_)
    for i in columns:
        at = next(at for at, group in enumerate(groups) if group.start <= i < group.stop)
        mask[:, at] |= np.isnan(values[:, i])
    return mask
