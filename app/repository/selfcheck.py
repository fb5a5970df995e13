"""Runs the inputs stored at export and compares with what was right then: does this CPU compute this model?"""

from typing import NamedTuple

from app.inference.sessions import Graphs
from bundle.folders import BundleError
from bundle.parity import MAX_GROWTH, MAX_GROWTH_INT8, MAX_SHARE, distance
from bundle.reader import Bundle


class Comparison(NamedTuple):
    """How far one graph is from its stored outputs, and how far it may be, as shares of their spread."""

    graph: str
    distance: float
    limit: float

    @property
    def holds(self) -> bool:
        return self.distance <= self.limit


def compare(bundle: Bundle, graphs: Graphs, precision: str) -> list[Comparison]:
    golden = bundle.golden
    found = {
        "context_encoder": (graphs.context_encoder.run(golden.features), golden.context_embedding),
        "target_encoder": (graphs.target_encoder.run(golden.features), golden.target_embedding),
        "predictor": (
            graphs.predictor.run(*golden.asked()),
            golden.prediction,
        ),
    }
    return [Comparison(graph, distance(*answers), _limit(bundle, graph, precision)) for graph, answers in found.items()]


def check(bundle: Bundle, graphs: Graphs, precision: str) -> None:
    """Raises BundleError when a graph does not reproduce its golden rows."""
    for compared in compare(bundle, graphs, precision):
        if not compared.holds:
            raise BundleError(
                f"{bundle.graph(compared.graph, precision)} does not reproduce its golden rows: it is off by "
                f"{compared.distance:.2g} of their spread, where {compared.limit:.2g} is right; export the model again"
            )


def _limit(bundle: Bundle, graph: str, precision: str) -> float:
    """Other CPUs add in another order, so a graph may be somewhat further off than it was where it was exported."""
    parity = bundle.manifest.parity.get(graph)
    if precision == "float32":
        return MAX_SHARE if parity is None else max(MAX_SHARE, MAX_GROWTH * max(parity.pytorch or 0.0, parity.float32))
    if parity is None or parity.int8 is None:
        raise BundleError(f"{bundle.folder} does not say how exact int8 was at export; export it again")
    return max(MAX_SHARE, MAX_GROWTH_INT8 * parity.int8)
