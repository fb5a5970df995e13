"""How what comes in differs from what a model was trained on, column by column; counted on a sample of the requests."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.rows import Array
from app.system.counters import Ledger
from bundle.manifest import Manifest

# One request in so many, at random: every n-th could always be the same bot's.
SAMPLED = 128  # `python -m benchmarks.lab.drift` says what it costs
FEW_ROWS = 1000  # before a column is said never to change
DEAD_STD = 1e-4  # of a column that never changed in training, as training has it
MARGIN = 0.05  # of the training range, beside it, that is no drift yet
FEW_OUTSIDE = 0.01  # of the rows
MOST_STDS = 1e6  # a number further out than this counts as this
ALIKE = 0.25  # of a training column's std: so near must the mean be, and the std, of a column that it is taken for


class Finding(NamedTuple):
    """What is odd about a column."""

    column: int
    kind: str  # a key of KINDS
    share_outside: float
    mean: float
    std: float
    looks_like: int | None  # the column whose training mean and std it has


KINDS = {
    "outside": "lies outside the range of training; look for other units, or columns out of place",
    "still": "never changes but did in training; look whether it is lost or filled with zeros on the way",
    "woken": "never changed in training, so the model takes no notice of it, but does here",
}


@dataclass(frozen=True)
class Report:
    """Of `rows` that were sampled; empty where nothing is odd."""

    rows: int
    findings: list[Finding]


class Drift:
    """Counts for one model, in the ledger, so that those of all processes add up."""

    def __init__(self, ledger: Ledger, manifest: Manifest) -> None:
        """A bundle without the range of training counts nothing."""
        known = {name: np.array(values) for name, values in manifest.statistics.items()}
        kept: list[NDArray[np.float64]] = [known.get(name, np.empty(0)) for name in ("mean", "std", "min", "max")]
        self.knows = all(len(values) == manifest.input_dim for values in kept)
        self._ledger, self._width = ledger, manifest.input_dim
        # Rows, and for each column: how many were outside, and the sums of its standardised numbers and their squares.
        self._key = ("drift", manifest.name, str(self._width))
        self._place = ledger.place(self._key, 1 + 3 * self._width)
        self._wait = 1
        if not self.knows:
            return
        self._mean, self._std = known["mean"], known["std"]
        self._alive = self._std > DEAD_STD
        self._scale = np.where(self._alive, self._std, 1.0)
        margin = MARGIN * (known["max"] - known["min"])
        self._least, self._most = known["min"] - margin, known["max"] + margin
        self._own()[:] = 0.0  # of the version before

    def _own(self) -> NDArray[np.float64]:
        start = self._place
        return np.asarray(self._ledger.numbers)[start : start + 1 + 3 * self._width]

    def see(self, rows: Array) -> None:
        """[B, C] as they came; most are passed by."""
        self._wait -= 1
        if self._wait > 0 or not self.knows:
            return
        self._wait = random.randint(1, 2 * SAMPLED - 1)
        standardised = np.clip((rows - self._mean) / self._scale, -MOST_STDS, MOST_STDS)
        own, width = self._own(), self._width
        own[0] += len(rows)
        own[1 : 1 + width] += ((rows < self._least) | (rows > self._most)).sum(0)
        own[1 + width : 1 + 2 * width] += standardised.sum(0)
        own[1 + 2 * width :] += np.square(standardised).sum(0)

    def report(self) -> Report:
        """Of all processes together."""
        if not self.knows:
            return Report(0, [])
        rows, *columns = np.sum(self._ledger.on_each_sheet(self._key), axis=0)
        outside, total, squares = np.reshape(columns, (3, self._width)) / max(rows, 1.0)
        spread = np.sqrt(np.maximum(squares - total**2, 0.0))
        mean, std = self._mean + total * self._scale, spread * self._scale
        return Report(int(rows), [*self._findings(rows, outside, spread, mean, std)] if rows else [])

    def _findings(
        self,
        rows: float,
        outside: NDArray[np.float64],
        spread: NDArray[np.float64],
        mean: NDArray[np.float64],
        std: NDArray[np.float64],
    ) -> Iterator[Finding]:
        kinds = {
            "outside": self._alive & (outside > FEW_OUTSIDE),
            "still": self._alive & (spread < DEAD_STD) & (rows >= FEW_ROWS),
            "woken": ~self._alive & (outside > FEW_OUTSIDE),
        }
        odd = [(column, kind) for kind, columns in kinds.items() for column in np.flatnonzero(columns).tolist()]
        for column, kind in sorted(odd):
            taken_for = self._taken_for(column, mean[column], std[column]) if kind != "still" else None
            yield Finding(column, kind, float(outside[column]), float(mean[column]), float(std[column]), taken_for)

    def _taken_for(self, column: int, mean: float, std: float) -> int | None:
        distance = (np.abs(mean - self._mean) + np.abs(std - self._std)) / self._scale
        distance[~self._alive | (np.arange(self._width) == column)] = np.inf
        nearest = int(distance.argmin())
        return nearest if distance[nearest] < ALIKE else None


def described(drift: Drift, manifest: Manifest) -> dict[str, Any]:
    """What `schemas.DriftReport` says."""
    report, names = drift.report(), manifest.feature_schema.names
    return {
        "model": manifest.name,
        "version": manifest.version,
        "rows": report.rows,
        "features": [
            {
                "name": names[found.column],
                "column": found.column,
                "finding": found.kind,
                "detail": f"{names[found.column]} {KINDS[found.kind]}",
                "share_outside": round(found.share_outside, 4),
                "mean": found.mean,
                "std": found.std,
                "training_mean": manifest.statistics["mean"][found.column],
                "training_std": manifest.statistics["std"][found.column],
                "looks_like": None if found.looks_like is None else names[found.looks_like],
            }
            for found in report.findings
        ],
    }
