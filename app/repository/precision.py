"""Which number format a model is served in: int8 where its bundle says it costs little and it is faster here."""

from collections.abc import Callable
from math import inf
from time import perf_counter, thread_time
from typing import NamedTuple

import numpy as np

from app.inference.sessions import Graphs
from app.repository import selfcheck
from app.rows import Array
from app.settings import Precision
from bundle.folders import BundleError
from bundle.reader import Bundle

# On the Melee games a linear probe's AUC falls by about as much as int8 adds noise; docs/lab/formats.md.
MOST_NOISE = 0.002
LEAST_SPEED_UP = 1.1
# A lone frame and a batch; so few runs that a start is not held up.
TRIED_ROWS = (1, 16)
TRIES, LEAST_TRIES, BUDGET_S = 7, 3, 0.1


class Choice(NamedTuple):
    """The graphs to serve, and in words why in that format."""

    graphs: Graphs
    precision: Precision
    reason: str


def choose(bundle: Bundle, wanted: Precision, threads: int) -> Choice:
    """The graphs of the format `wanted`, which reproduce their golden rows; BundleError if there are none such."""
    if wanted != "auto":
        return Choice(_checked(bundle, wanted, threads), wanted, "as asked for")
    float32 = _checked(bundle, "float32", threads)
    if reason := _why_not_int8(bundle):
        return Choice(float32, "float32", reason)
    try:
        int8 = _checked(bundle, "int8", threads)
    except BundleError as error:
        return Choice(float32, "float32", f"int8 does not work here: {error}")
    ratios = speed_up(bundle, float32, int8, threads)
    measured = " and ".join(f"{ratio:.1f} times with {rows}" for rows, ratio in ratios.items())
    if min(ratios.values()) < LEAST_SPEED_UP:
        return Choice(float32, "float32", f"int8 is not faster here: {measured} rows a run")
    noise = bundle.manifest.precision["int8"].noise
    return Choice(int8, "int8", f"faster here, {measured} rows a run; its noise is {noise:.2g} of the variance")


def _checked(bundle: Bundle, precision: str, threads: int) -> Graphs:
    graphs = Graphs(bundle, precision, threads)
    selfcheck.check(bundle, graphs, precision)
    return graphs


def _why_not_int8(bundle: Bundle) -> str | None:
    cost = bundle.manifest.precision.get("int8")
    if not bundle.has("int8"):
        return "the bundle has no int8 graphs"
    if cost is None:
        return "the bundle does not say what int8 costs; export it again"
    if cost.noise > MOST_NOISE:
        return f"the noise of int8 is {cost.noise:.2g} of the variance, above {MOST_NOISE:g}"
    return None


def speed_up(bundle: Bundle, float32: Graphs, int8: Graphs, threads: int) -> dict[int, float]:
    """Rows of a run → how many times as fast int8 is, all three graphs together."""
    # A run of one thread is this thread's: its CPU time tells the formats apart even where neighbours keep us waiting.
    clock = thread_time if threads == 1 else perf_counter
    return {rows: _ratio(_runs(bundle, float32, rows), _runs(bundle, int8, rows), clock) for rows in TRIED_ROWS}


def _ratio(slow: Callable[[], None], fast: Callable[[], None], clock: Callable[[], float]) -> float:
    """By the best of some tries, in turn, so that a burst of other work meets both."""
    best = {slow: inf, fast: inf}
    ends_at = perf_counter() + BUDGET_S
    for tried in range(TRIES):
        if tried >= LEAST_TRIES and perf_counter() > ends_at:
            break
        for run in best:
            started = clock()
            run()
            best[run] = min(best[run], clock() - started)
    return best[slow] / best[fast]


def _runs(bundle: Bundle, graphs: Graphs, rows: int) -> Callable[[], None]:
    def sized(array: Array) -> Array:
        return np.resize(array, (rows, *array.shape[1:]))

    features = sized(bundle.golden.features)
    question = [*map(sized, (bundle.golden.context_embedding, bundle.golden.targets, bundle.golden.horizon))]

    def run() -> None:
        graphs.context_encoder.run(features)
        graphs.target_encoder.run(features)
        graphs.predictor.run(*question)

    return run
