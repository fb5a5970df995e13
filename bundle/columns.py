"""What is known of the columns of a row from training, and whether the columns of other rows are like them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

# The statistics of each column that checkpoints and bundle.json keep.
STATISTICS = ("mean", "std", "min", "max")

Statistics = dict[str, NDArray[np.float32]]
Counts = NDArray[np.float64]
Kind = Literal["outside", "still", "woken"]

# A column whose std in training is no larger never changed there: this much may be rounding.
DEAD_STD = 1e-4
# A number may leave the range of training by this share of the range's width: held-out games do, by a little.
MARGIN = 0.05
# It may also leave the range by this share of its own size, since bundle.json keeps 7 digits of the range's ends: a
# column that always was 123,456.789 in training would lie outside its own range.
ROUNDING = 1e-6
# Of the rows, this share may be outside: every game has rare moments.
MAX_SHARE_OUTSIDE = 0.01
# In fewer rows than this, 17 s of a game at 60 Hz, many a healthy column stands still.
MIN_STILL_ROWS = 1000
# A column stands still when its std is below this many of its stds in training; not 0, since sums of squares round.
MAX_STILL_STDS = 1e-4
# A column looks like another when its mean and its std differ from those of the other in training, added up and in
# stds of the other, by less than this.
MAX_ALIKE_STDS = 0.25
# A number further from the mean counts as this many stds, so that a single one neither overflows nor drowns the others.
MAX_STDS = 1e6
# Rows are summarised this many at a time: in float64, 287 columns of them take 19 MB.
ROWS_AT_ONCE = 8192

KINDS: Mapping[Kind, str] = {
    "outside": "lies outside the range of training; look for other units, or columns out of place",
    "still": "never changes but did in training; look whether it is lost or filled with zeros on the way",
    "woken": "never changed in training, so the model takes no notice of it, but does here",
}


class RowSource(Protocol):
    """Rows [n, C] that may lie in a file and be read in parts: an array, or what is indexed like one."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    def __len__(self) -> int: ...
    def __getitem__(self, rows: Any, /) -> NDArray[np.float32]: ...
    def __array__(self) -> NDArray[Any]: ...


def column_statistics(rows: RowSource) -> Statistics:
    """mean, std, min and max of each raw column, float32 [C] each."""
    return statistics_of_parts(rows[start : start + ROWS_AT_ONCE] for start in range(0, len(rows), ROWS_AT_ONCE))


def statistics_of_parts(parts: Iterable[NDArray[np.float32]]) -> Statistics:
    """The same of rows that come in parts [n, C], in one pass, without numbers that are not there (NaN); sums of
    squares are joined as in Chan et al. (1979)."""
    # [C], or 1 where no number is missing.
    rows: NDArray[np.int64] = np.zeros(1, np.int64)
    mean, squares = np.zeros(1), np.zeros(1)
    low, high = np.full(1, np.inf, np.float32), np.full(1, -np.inf, np.float32)
    for part in parts:
        count, here = np.full(1, len(part)), part.mean(0, dtype=np.float64)
        if np.isnan(here).any():
            count = len(part) - np.isnan(part).sum(0)
            here = np.nansum(part, 0, dtype=np.float64) / count.clip(min=1)
        away, both = here - mean, (rows + count).clip(min=1)
        squares = squares + np.nansum(np.square(part - here), 0) + away**2 * (rows * count / both)
        rows, mean = rows + count, mean + away * (count / both)
        low, high = np.fmin(low, np.fmin.reduce(part)), np.fmax(high, np.fmax.reduce(part))
    # Of a column that nothing is known of.
    empty = rows == 0
    return {
        "mean": mean.astype(np.float32),
        "std": np.sqrt(squares / rows.clip(min=1)).astype(np.float32),
        "min": np.where(empty, np.float32(0), low),
        "max": np.where(empty, np.float32(0), high),
    }


@dataclass(frozen=True)
class Summary:
    """What the columns [C] of some rows are like, seen from training."""

    rows: int
    share_outside: NDArray[np.float64]
    mean: NDArray[np.float64]
    std: NDArray[np.float64]


class Finding(NamedTuple):
    """How a column is unlike the same column in training."""

    column: int
    kind: Kind
    share_outside: float
    mean: float
    std: float
    # The other column that had this mean and std in training, if one had.
    looks_like: int | None


class TrainingColumns:
    """The columns [C] of the rows that a model was trained on, with which those of other rows are compared."""

    def __init__(self, statistics: Mapping[str, ArrayLike]) -> None:
        """`statistics` [C] each, as `column_statistics` gives them."""
        self.mean, self.std, low, high = (np.asarray(statistics[name], np.float64) for name in STATISTICS)
        self.alive = self.std > DEAD_STD
        self.scale = np.where(self.alive, self.std, 1.0)
        margin = np.maximum(MARGIN * (high - low), np.maximum(DEAD_STD, ROUNDING * np.maximum(-low, high)))
        self._low, self._high = low - margin, high + margin

    @classmethod
    def of(cls, statistics: Mapping[str, ArrayLike], width: int) -> Self | None:
        """None unless `statistics`, which bundles may lack, are all there for `width` columns."""
        whole = all(np.shape(statistics.get(name, ())) == (width,) for name in STATISTICS)
        return cls(statistics) if whole else None

    def count(self, rows: NDArray[np.float32]) -> Counts:
        """rows [B, C] → [3, C]: how many are outside the range, and the sums of standardised numbers and their squares.

        The counts of several batches may be added.
        """
        standardised = np.clip((rows - self.mean) / self.scale, -MAX_STDS, MAX_STDS)
        outside = (rows < self._low) | (rows > self._high)
        return np.stack([outside.sum(0), standardised.sum(0), np.square(standardised).sum(0)])

    def summary(self, rows: int, counts: Counts) -> Summary:
        """Of the `counts` [3, C] of that many rows."""
        outside, total, squares = counts / max(rows, 1)
        std = np.sqrt(np.maximum(squares - total**2, 0.0))
        return Summary(rows, outside, self.mean + total * self.scale, std * self.scale)

    def summarise(self, rows: RowSource) -> Summary:
        """Of rows [n, C], counted in parts so that the copies in float64 stay small."""
        counts = np.zeros((3, len(self.mean)))
        for start in range(0, len(rows), ROWS_AT_ONCE):
            counts += self.count(rows[start : start + ROWS_AT_ONCE])
        return self.summary(len(rows), counts)


def findings(training: TrainingColumns, seen: Summary) -> list[Finding]:
    """Which columns of the rows summed up in `seen` are unlike those of training, in the order of the columns."""
    far = seen.share_outside > MAX_SHARE_OUTSIDE
    kinds: dict[Kind, NDArray[np.bool_]] = {
        "outside": training.alive & far,
        "still": training.alive & (seen.std < MAX_STILL_STDS * training.std) & (seen.rows >= MIN_STILL_ROWS),
        "woken": ~training.alive & far,
    }
    odd = sorted((column, kind) for kind, columns in kinds.items() for column in np.flatnonzero(columns).tolist())
    return [
        Finding(
            column,
            kind,
            float(seen.share_outside[column]),
            float(seen.mean[column]),
            float(seen.std[column]),
            None if kind == "still" else _look_alike(training, column, seen.mean[column], seen.std[column]),
        )
        for column, kind in odd
    ]


def _look_alike(training: TrainingColumns, column: int, mean: float, std: float) -> int | None:
    """The column other than `column` that had this mean and std in training."""
    distance = (np.abs(mean - training.mean) + np.abs(std - training.std)) / training.scale
    distance[~training.alive | (np.arange(len(distance)) == column)] = np.inf
    nearest = int(distance.argmin())
    return nearest if distance[nearest] < MAX_ALIKE_STDS else None
