"""Runs the inputs stored at export and compares with what PyTorch answered then: does this CPU compute this model?"""

from typing import NamedTuple

import numpy as np

from app.inference.sessions import Graphs
from app.rows import Array
from bundle.folders import BundleError
from bundle.reader import Bundle

# Other CPUs add in another order; int8 is another function that must only point the same way.
ABSOLUTE, RELATIVE = 1e-4, 1e-3
INT8_COSINE = 0.98
# Sums of int8 are exact on every CPU but those that saturate; in between a number may round to the next step.
INT8_SLACK = 1e-3


class Parity(NamedTuple):
    """How far one graph is from its stored outputs."""

    graph: str
    max_difference: float
    min_cosine: float
    holds: bool


def compare(bundle: Bundle, graphs: Graphs, precision: str) -> list[Parity]:
    golden = bundle.golden
    least = None if precision == "float32" else _least_cosine(bundle, precision)
    predicted = graphs.predictor.run(golden.context_embedding, golden.targets, golden.horizon)
    return [
        _parity("context_encoder", graphs.context_encoder.run(golden.features), golden.context_embedding, least),
        _parity("target_encoder", graphs.target_encoder.run(golden.features), golden.target_embedding, least),
        _parity("predictor", predicted, golden.prediction, least),
    ]


def _least_cosine(bundle: Bundle, precision: str) -> float:
    cost = bundle.manifest.precision.get(precision)
    return INT8_COSINE if cost is None else max(INT8_COSINE, cost.golden_cosine - INT8_SLACK)


def check(bundle: Bundle, graphs: Graphs, precision: str) -> None:
    """Raises BundleError when a graph does not reproduce its golden rows."""
    for parity in compare(bundle, graphs, precision):
        if not parity.holds:
            raise BundleError(
                f"{bundle.graph(parity.graph, precision)} does not reproduce its golden rows: largest difference "
                f"{parity.max_difference:.3g}, least cosine {parity.min_cosine:.5f}; export the model again"
            )


def _parity(graph: str, found: Array, stored: Array, least_cosine: float | None) -> Parity:
    """Both [n, D]; the numbers must be alike, or point the same way where a least cosine is given."""
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(stored, axis=1)
    cosine = float(((found * stored).sum(axis=1) / np.maximum(lengths, 1e-12)).min())
    # Rounding is relative to the numbers that were added up, which an embedding's size tells, not each element's.
    size = max(1.0, float(np.sqrt(np.square(stored).mean())))
    close = bool(np.allclose(found, stored, atol=ABSOLUTE * size, rtol=RELATIVE))
    holds = close if least_cosine is None else cosine >= least_cosine
    return Parity(graph, float(np.abs(found - stored).max()), cosine, holds)
