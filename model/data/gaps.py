"""What becomes of numbers that are not there: NaN, or nothing at all."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bundle.schema import Group

MISSING = ("refuse", "hide", "drop", "mean")

Rows = NDArray[np.float32]
Mask = NDArray[np.bool_]


class Gaps:
    """Where the numbers of rows are missing that are looked at one part after another."""

    def __init__(self, names: Sequence[str], missing: object, training: Sequence[float] | None = None) -> None:
        """`training` [C] are the means of the columns in the training of a model, where they are known."""
        if missing not in MISSING:
            raise ValueError(f"missing is {missing!r}; it must be one of {', '.join(MISSING)}")
        self.names, self.missing, self.training = names, missing, training
        self.rows = 0
        self._parts: list[Mask] = []
        self._sums, self._lacks = np.zeros(len(names)), np.zeros(len(names), np.int64)

    def look(self, values: Rows) -> Mask:
        """Which of the next rows [n, C] have a gap; ValueError for infinite numbers, and for gaps if they are
        refused."""
        odd = np.zeros(len(values), np.bool_)
        # A sum in float64 is not finite exactly if one of its float32 terms is not, and is far cheaper than isfinite.
        with np.errstate(invalid="ignore"):
            sums = values.sum(0, dtype=np.float64)
        for i in np.flatnonzero(~np.isfinite(sums)).tolist():
            gap = np.isnan(values[:, i])
            self._refuse(i, values[:, i], np.isinf(values[:, i]) | (gap & (self.missing == "refuse")))
            sums[i] = values[~gap, i].sum(dtype=np.float64)
            self._lacks[i] += gap.sum()
            odd |= gap
        self._sums += sums
        self.rows += len(values)
        self._parts.append(odd)
        return odd

    @property
    def columns(self) -> list[int]:
        """Those that have gaps."""
        columns: list[int] = np.flatnonzero(self._lacks).tolist()
        return columns

    def odd_rows(self) -> Mask:
        """[rows]: which of all the rows have a gap."""
        return np.concatenate(self._parts)

    def means(self) -> Rows:
        """What stands in the gaps of each of the `columns`: its mean in training, else that of the rest of it;
        ValueError for a column that is all gaps then."""
        if self.training is not None:
            return np.asarray(self.training, np.float32)[self.columns]
        for i in self.columns:
            if self._lacks[i] == self.rows:
                name = self.names[i]
                raise ValueError(f"{name} is missing in every row; leave it out with --exclude '{name}'")
        found: Rows = (self._sums / np.maximum(self.rows - self._lacks, 1))[self.columns].astype(np.float32)
        return found

    def _refuse(self, column: int, values: Rows, odd: Mask) -> None:
        at = np.flatnonzero(odd)
        if not at.size:
            return
        name, value = self.names[column], values[at[0]]
        way = (
            "; --missing hide, drop or mean goes on without what is missing"
            if np.isnan(value)
            else f"; mend the recording, or leave the column out with --exclude '{name}'"
        )
        raise ValueError(f"{name} is {value} in row {self.rows + at[0]}; features must be finite numbers{way}")


def fill(values: Rows, columns: Sequence[int], means: Rows) -> None:
    """Puts the means into the gaps of the columns of the rows, in place."""
    for i, mean in zip(columns, means, strict=True):
        values[np.isnan(values[:, i]), i] = mean


def absent(values: Rows, columns: Sequence[int], groups: Sequence[Group]) -> Mask:
    """[rows, G]: whether a number of the group is missing in the row."""
    mask = np.zeros((len(values), len(groups)), np.bool_)
    for i in columns:
        at = next(at for at, group in enumerate(groups) if group.start <= i < group.stop)
        mask[:, at] |= np.isnan(values[:, i])
    return mask
