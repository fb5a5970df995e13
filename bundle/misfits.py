"""Which columns make frames odd: those that do not fit the others, and two that fit once they change places.

A number out of place spoils the residuals of all columns that are predicted from it, so the largest residual is often
that of an innocent one. The guilty column is the one without which the rest fits best.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bundle.column_novelty import Array, ColumnNovelty

Table = NDArray[np.float64]

# Columns that are named at most, and how many of the oddest are tried for each.
MAX_NAMED = 3
MAX_TRIED = 10
# Columns by whose residuals the first choice of a swap is made, and choices for each column that are looked at closely.
JUDGES = 16
CHOICES = 4


class Misfits(NamedTuple):
    """Columns that do not fit the others, the worst first, and two of which one may be such a column and which make the
    frames usual ones when they change places; None if no two do."""

    columns: tuple[int, ...]
    swap: tuple[int, int] | None


def misfits(measure: ColumnNovelty, rows: Array) -> Misfits:
    """Of odd rows [n, C]."""
    usual = float(measure.quantiles[-2])
    weights = measure.residuals.astype(np.float64)
    residuals, flags = (part.astype(np.float64) for part in measure.parts(rows))
    columns = tuple(_without(weights, residuals, _fourth(flags), usual))
    worst = np.argsort(-(_fourth(residuals) + _fourth(flags)).mean(0), kind="stable")
    suspects = [*dict.fromkeys([*columns, *worst[:MAX_TRIED].tolist()])]
    swaps = {pair: float(measure.oddity(_swapped(rows, *pair)).mean()) for pair in _swaps(measure, rows, suspects)}
    best = min(swaps, key=swaps.__getitem__, default=None)
    return Misfits(columns, None if best is None or swaps[best] > usual else best)


def _without(weights: Table, residuals: Table, flags: Table, usual: float) -> Iterator[int]:
    """The columns without which the rest fits best, one after the other, until it fits as usual. Of a regression on all
    other columns, `weights` [C, C] and `residuals` [n, C]; fourth powers of the `flags` [n, C]."""
    spread = np.diag(weights).copy()
    left = np.ones(len(weights), bool)
    for _ in range(MAX_NAMED):
        # What is predicted from fewer columns is predicted worse, so that its residuals are larger as a rule.
        powers = _fourth(residuals * np.sqrt(spread / _above_zero(np.diag(weights)))) + flags  # [n, C]
        powers[:, ~left] = 0
        if not left.all() and _oddity(powers) <= usual:
            return
        tried = [int(i) for i in np.argsort(-powers.mean(0))[:MAX_TRIED] if powers[:, i].any() and weights[i, i] > 0]
        if not tried:
            return
        oddities = []
        for i in tried:
            # Schur's complement: the regressions of the others on what remains.
            share = weights[i] / weights[i, i]
            rest = np.diag(weights) - weights[:, i] * share
            powers = _fourth((residuals - residuals[:, [i]] * share) * np.sqrt(spread / _above_zero(rest))) + flags
            powers[:, ~left] = 0
            powers[:, i] = 0
            oddities.append(_oddity(powers))
        out = tried[int(np.argmin(oddities))]
        share = weights[out] / weights[out, out]
        residuals = residuals - residuals[:, [out]] * share
        weights = weights - weights[:, [out]] * share
        left[out] = False
        yield out


def _fourth(numbers: Table) -> Table:
    squares = np.square(numbers)
    return squares * squares


def _above_zero(numbers: Table) -> Table:
    """A column that never changed has no weight, and no residual either."""
    return np.where(numbers > 0, numbers, np.inf)


def _oddity(powers: Table) -> float:
    return float(np.sqrt(np.sqrt(powers.sum(1))).mean())


def _swaps(measure: ColumnNovelty, rows: Array, suspects: list[int]) -> Iterator[tuple[int, int]]:
    """For each suspect the columns that it may have changed places with, by the oddest residuals."""
    residuals = measure.parts(rows)[0].astype(np.float64)
    judges = np.argsort(-_fourth(residuals).mean(0), kind="stable")[:JUDGES]
    weights = measure.residuals[:, judges].astype(np.float64)
    for one in suspects:
        moved = rows - rows[:, [one]].astype(np.float64)  # [n, C]
        found = residuals[:, None, judges] + moved[:, :, None] * (weights[one] - weights)  # [n, C, judges]
        powers = _fourth(found).mean(0).sum(1)  # [C]
        powers[one] = np.inf
        for other in np.argsort(powers, kind="stable")[:CHOICES].tolist():
            yield min(one, other), max(one, other)


def _swapped(rows: Array, one: int, other: int) -> Array:
    rows = rows.copy()
    rows[:, [one, other]] = rows[:, [other, one]]
    return rows
