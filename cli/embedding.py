"""The graphs of a bundle on many rows at once, with the inference sessions of the service."""

import sys
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from app.inference.sessions import Graphs
from app.system.cores import available_cores
from bundle.reader import Bundle

# Rows in one run of a graph.
ROWS_A_RUN = 256

Rows = NDArray[np.float32]


class BundleEmbedder:
    """A bundle's graphs as `model.evaluation.heads.Embedder`."""

    def __init__(self, bundle: Bundle, precision: str = "float32") -> None:
        manifest = bundle.manifest
        self.horizons: Sequence[int] = manifest.horizons
        self._graphs = Graphs(bundle, precision, available_cores())
        self._width, self._patches = manifest.embed_dim, len(manifest.patches)

    def now(self, features: Rows) -> Rows:
        """[n, C] → [n, D] by the target encoder."""
        return in_runs(self._graphs.target_encoder.run, features, self._width)

    def context(self, features: Rows) -> Rows:
        """[n, C] → [n, D] by the context encoder."""
        return in_runs(self._graphs.context_encoder.run, features, self._width)

    def expected(self, context: Rows, horizon: int) -> Rows:
        """[n, D] of the context encoder → [n, D], all patches as they will be."""
        return in_runs(predicting(self._graphs, self._patches, horizon), context, self._width)


def predicting(graphs: Graphs, patches: int, horizon: int) -> Callable[[Rows], Rows]:
    """What a run of the predictor makes of rows [n, D] of the context encoder: all patches as they will be."""

    def run(context: Rows) -> Rows:
        targets = np.ones((len(context), patches), np.float32)
        return graphs.predict(context, targets, np.full(len(context), horizon, np.float32))

    return run


def in_runs(run: Callable[[Rows], Rows], rows: Rows, width: int) -> Rows:
    """[n, …] → [n, width], some rows at a time, with a progress bar on a terminal."""
    found = np.empty((len(rows), width), np.float32)
    start = 0
    for part in parts(run, rows.__getitem__, len(rows)):
        found[start : (start := start + len(part))] = part
    return found


def parts(run: Callable[[Rows], Rows], rows: Callable[[slice], Rows], count: int) -> Iterator[Rows]:
    """As `in_runs`, of `count` rows that `rows` gives as they are needed; yields the answers as they come."""
    starts = range(0, count, ROWS_A_RUN)
    for start in track(starts, description="embedding", transient=True, disable=not sys.stdout.isatty()):
        yield run(rows(slice(start, start + ROWS_A_RUN)))
