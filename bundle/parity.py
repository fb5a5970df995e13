"""How far the answers of a graph are from those that it should give, as a share of how far these are apart.

An embedding is read by how it differs from row to row. So an error counts beside the spread of the answers, whether
their numbers are large or small.
"""

import numpy as np
from numpy.typing import NDArray

Answers = NDArray[np.floating]

# A graph of float32 that is further off than this is refused. int8, at fifty times as much, costs a probe about .002
# of its AUC (docs/lab/formats.md).
MAX_SHARE = 1e-3
# Another processor, or another batch, adds up in another order, and may be this many times as far off.
MAX_GROWTH = 10.0
# Sums of int8 are exact on most processors. With AVX2 alone some saturate: the bundled predictor is off by .095 there
# and by .065 elsewhere.
MAX_GROWTH_INT8 = 2.0
# Where all answers are nearly alike, this share of their size counts as their spread: float32 resolves little more.
MIN_SPREAD = 0.01


def spread(answers: Answers) -> float:
    """How far rows [n, D] are from their mean (root mean square of the numbers); their size where there is one row."""
    size = float(np.sqrt(np.square(answers, dtype=np.float64).mean()))
    if len(answers) == 1:
        return size
    return max(float(np.sqrt(answers.var(axis=0, dtype=np.float64).mean())), MIN_SPREAD * size)


def distance(found: Answers, right: Answers, among: Answers | None = None) -> float:
    """How far the row that is furthest off is from the right one, both [n, D], as a share of the spread of the right
    ones, or of `among`; not finite where `found` is not."""
    worst = float(np.sqrt(np.square(np.subtract(found, right, dtype=np.float64)).mean(axis=1).max()))
    return worst / max(spread(right if among is None else among), float(np.finfo(np.float32).tiny))
