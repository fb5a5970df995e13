"""How the rows that come in differ from those of training, column by column, counted on a sample of the requests."""

import logging
import random
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.rows import Array
from app.system.counters import COLUMNS_SHARE, Ledger
from app.telemetry.novelty import ODD_PERCENTILE, NoveltyWatch, overall
from bundle.columns import KINDS, Finding, TrainingColumns, findings
from bundle.manifest import Manifest
from bundle.misfits import Misfits
from bundle.novelty import Novelty

# One request in this many is counted, at random: every n-th could always be the same bot's.
# `python -m benchmarks.lab.drift` measures what it costs.
SAMPLED = 128
# Every look at the metrics adds up the numbers of all columns, on the event loop.
MAX_COLUMNS = 8192

logger = logging.getLogger(__name__)


class Report(NamedTuple):
    """What is odd about the `rows` that were sampled; empty where nothing is."""

    rows: int
    findings: list[Finding]


class Drift:
    """Counts for one model, in the ledger, so that those of all processes add up."""

    def __init__(self, ledger: Ledger, manifest: Manifest, novelty: Novelty | None = None) -> None:
        """A bundle without the statistics of training counts nothing, nor does one of more than MAX_COLUMNS columns or
        one for whose counts there is no room."""
        self._training = TrainingColumns.of(manifest.statistics, manifest.input_dim)
        self._ledger, self._width = ledger, manifest.input_dim
        self.novelty = NoveltyWatch(ledger, manifest, novelty)
        # The number of rows, then the counts [3, C] of TrainingColumns.
        self._key = ("drift", manifest.name, str(self._width))
        self._wait = 1
        if self._training is None:
            return
        try:
            if self._width > MAX_COLUMNS:
                raise MemoryError(f"it has {self._width} columns, and more than {MAX_COLUMNS} are not counted")
            self._place = ledger.place(self._key, 1 + 3 * self._width, COLUMNS_SHARE)
        except MemoryError as error:
            logger.warning("the drift of %s is not watched: %s", manifest.name, error)
            self._training = None
            return
        # The version that was served before has left its counts here.
        self._own()[:] = 0.0

    def _own(self) -> NDArray[np.float64]:
        start = self._place
        return np.asarray(self._ledger.numbers)[start : start + 1 + 3 * self._width]

    def see(self, rows: Array) -> None:
        """Counts rows [B, C] as they came, on one call in SAMPLED."""
        self._wait -= 1
        if self._wait > 0 or self._training is None:
            return
        self._wait = random.randint(1, 2 * SAMPLED - 1)
        own = self._own()
        own[0] += len(rows)
        own[1:] += self._training.count(rows).ravel()

    def report(self) -> Report:
        """Of all processes together."""
        if self._training is None:
            return Report(0, [])
        rows, *counts = np.sum(self._ledger.on_each_sheet(self._key), axis=0)
        seen = self._training.summary(int(rows), np.reshape(counts, (3, self._width)))
        return Report(seen.rows, findings(self._training, seen))


def described(drift: Drift, manifest: Manifest) -> dict[str, Any]:
    """The answer that `app.api.native.drift.DriftReport` describes."""
    report, names = drift.report(), manifest.feature_schema.names
    return {
        "model": manifest.name,
        "version": manifest.version,
        "rows": report.rows,
        "novelty": None if drift.novelty.measure is None else _novelty(drift.novelty, names),
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


def _novelty(watch: NoveltyWatch, names: Sequence[str]) -> dict[str, Any]:
    streams = watch.report()
    whole = overall(streams)
    columns = None if whole is None else whole.columns
    is_odd = columns is not None and columns >= ODD_PERCENTILE
    found = watch.misfits() if is_odd else Misfits((), None)
    return {
        "frames": 0 if whole is None else whole.frames,
        "mean": None if whole is None else whole.mean,
        "columns": columns,
        "misfits": [names[column] for column in found.columns],
        "swapped": None if found.swap is None else [names[column] for column in found.swap],
        "streams": [stream._asdict() for stream in streams],
    }
