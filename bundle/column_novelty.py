"""How badly the numbers of a frame fit each other and what their columns held in training.

The embedding of a frame whose columns are out of place is that of some other frame, which may be a usual one. What
gives it away is each number beside those of all other columns: its residual, by linear regression on them.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bundle.columns import DEAD_STD

Array = NDArray[np.float32]

# Frames of more columns have no such measure: it takes a product with the square of their number.
MAX_COLUMNS = 1024
MIN_ROWS = 20
# Added to the variances of standardised columns, so that one which others determine keeps a residual.
RIDGE = 1e-4
# Of the training rows, this share has a residual below 1.
USUAL_SHARE = 0.999
# So much is a number worth that lies halfway between the only two that its column had in training.
FLAG_WEIGHT = 15.0
# A held-out row is unlike training if it is odder than every row of that, and than so many times the median of held-out
# ones: a regression on few rows fits all other games worse.
STRANGE = 10
# A number counts as no more than this, so that the fourth power of none overflows.
MAX_ODDITY = 1e6


@dataclass(frozen=True)
class ColumnNovelty:
    """A measure of raw rows [B, C], and its values for held-out ones; `offsets` [B, C] are rows less `mean`."""

    mean: Array  # [C]
    residuals: Array  # [C, C]: offsets · residuals are the residuals, of which the usual ones are below 1
    flags: Array  # [2, C] the two numbers that a column had in training, alike for a column of more or of one
    quantiles: Array  # of held-out rows like those of training, ascending

    @classmethod
    def fit(cls, training: Array, held_out: Array, count: int) -> "ColumnNovelty | None":
        """From rows [n, C] and [m, C] of other games, with so many quantiles, of those of the latter that are like some
        of training; None of too many columns or too few rows."""
        columns = training.shape[1]
        if columns > MAX_COLUMNS or min(len(training), len(held_out)) < MIN_ROWS:
            return None
        mean, spread = training.mean(0, dtype=np.float64), training.std(0, dtype=np.float64)
        alive = np.flatnonzero(spread > DEAD_STD)
        residuals = np.zeros((columns, columns))
        z = (training[:, alive] - mean[alive]) / spread[alive]
        precision = np.linalg.inv(z.T @ z / len(z) + RIDGE * np.eye(len(alive)))
        # The regression on all other columns (Lauritzen 1996): its residuals are those of the precision matrix, over
        # the diagonal.
        weights = precision / np.diag(precision)
        usual = np.quantile(np.abs(z @ weights), USUAL_SHARE, axis=0) + 1e-3 if len(alive) else 1.0
        residuals[np.ix_(alive, alive)] = weights / usual / spread[alive, None]
        shape = cls(
            mean.astype(np.float32), residuals.astype(np.float32), _flags(training), np.zeros(count, np.float32)
        )
        judged = shape.oddity(held_out)
        # A game of what training never saw, such as another character, would hide whatever is less odd than it.
        limit = max(shape.oddity(training).max(), STRANGE * np.median(judged))
        quantiles = np.quantile(judged[judged <= limit], np.linspace(0, 1, count))
        return replace(shape, quantiles=quantiles.astype(np.float32))

    def oddity(self, rows: Array) -> Array:
        """[B, C] → [B]: about the largest residual; a large one counts for more than many small ones."""
        residuals, off = self._parts(rows)
        fourth = _fourth_powers(residuals) + _fourth_powers(off)
        found: Array = np.sqrt(np.sqrt(fourth))
        return found

    def parts(self, rows: Array) -> tuple[Array, Array]:
        """[B, C] → [B, C] each: the residual of each column, and how far flags are from being one."""
        residuals, off = self._parts(rows)
        flags = np.zeros(rows.shape, np.float32)
        flags[:, self._flag_columns[0]] = np.minimum(off, MAX_ODDITY)
        return np.clip(residuals, -MAX_ODDITY, MAX_ODDITY).astype(np.float32, copy=False), flags

    def percentiles(self, oddities: float | NDArray[np.floating]) -> NDArray[np.float64]:
        """0–100 of each: the share of those held-out rows that are less odd."""
        return np.asarray(np.interp(oddities, self.quantiles, np.linspace(0, 100, len(self.quantiles))))

    def _parts(self, rows: Array) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """[B, C] → [B, C] residuals, and [B, F] of flags."""
        places, low, high, weights = self._flag_columns
        flags = rows[:, places]
        # Numbers of any size are asked about; of too large ones the sum may be none.
        with np.errstate(over="ignore", invalid="ignore"):
            residuals = np.nan_to_num((rows - self.mean) @ self.residuals, copy=False, nan=MAX_ODDITY)
            off: NDArray[np.floating] = np.minimum(np.abs(flags - low), np.abs(flags - high)) * weights
        return residuals, off

    @cached_property
    def _flag_columns(self) -> tuple[NDArray[np.intp], Array, Array, Array]:
        """Their places [F], their two numbers [F] each, and what a distance from either is worth [F]."""
        low, high = self.flags
        places = np.flatnonzero(high > low)
        low, high = low[places], high[places]
        # Two numbers may lie further apart than float32 reaches.
        apart = high.astype(np.float64) - low
        return places, low, high, (2 * FLAG_WEIGHT / apart).astype(np.float32)


def _fourth_powers(rows: NDArray[np.floating]) -> NDArray[np.floating]:
    """[B, n] → [B], summed"""
    squares = np.square(np.clip(rows, -MAX_ODDITY, MAX_ODDITY))
    found: NDArray[np.floating] = np.einsum("bn,bn->b", squares, squares)
    return found


def _flags(rows: Array) -> Array:
    """[2, C]"""
    low, high = rows.min(0), rows.max(0)
    is_flag = ((rows == low) | (rows == high)).all(0)
    return np.stack([low, np.where(is_flag, high, low)])
