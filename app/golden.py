"""Runs the inputs stored at export and compares with what PyTorch answered then: does this CPU compute this model?"""

from typing import NamedTuple

import numpy as np

from app.bundle import Bundle, BundleError
from app.sessions import Array, Graphs

# Other CPUs add in another order; int8 is another function that must only point the same way.
ABSOLUTE, RELATIVE = 1e-4, 1e-3
INT8_COSINE = 0.98


class Parity(NamedTuple):
    """How far one graph is from its stored outputs."""

    graph: str
    max_difference: float
    min_cosine: float
    holds: bool


def compare(bundle: Bundle, graphs: Graphs, precision: str) -> list[Parity]:
    golden = bundle.golden
    return [
        _parity("context_encoder", graphs.context_encoder.run(golden.features), golden.context_embedding, precision),
        _parity("target_encoder", graphs.target_encoder.run(golden.features), golden.target_embedding, precision),
        _parity(
            "predictor",
            graphs.predictor.run(golden.context_embedding, golden.targets, golden.horizon),
            golden.prediction,
            precision,
        ),
    ]


def check(bundle: Bundle, graphs: Graphs, precision: str) -> None:
    """Raises BundleError when a graph does not reproduce its golden rows."""
    for parity in compare(bundle, graphs, precision):
        if not parity.holds:
            raise BundleError(
                f"{bundle.folder / parity.graph}.onnx does not reproduce its golden rows: largest difference "
                f"{parity.max_difference:.3g}, least cosine {parity.min_cosine:.5f}; export the model again"
            )


def _parity(graph: str, found: Array, stored: Array, precision: str) -> Parity:
    """Both [n, D]."""
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(stored, axis=1)
    cosine = float(((found * stored).sum(axis=1) / np.maximum(lengths, 1e-12)).min())
    # Rounding is relative to the numbers that were added up, which an embedding's size tells, not each element's.
    size = max(1.0, float(np.sqrt(np.square(stored).mean())))
    close = bool(np.allclose(found, stored, atol=ABSOLUTE * size, rtol=RELATIVE))
    holds = close if precision == "float32" else cosine > INT8_COSINE
    return Parity(graph, float(np.abs(found - stored).max()), cosine, holds)
