"""How good the answers of heads are: how they rank, how far they are off, and whether their probabilities hold."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bundle.heads import Kind
from model.evaluation.calibration import calibration_error
from model.evaluation.probes import auc

Rows = NDArray[np.float32]


class Measures(NamedTuple):
    """Of one head at one horizon on held-out rows; means over classes are of each class against the rest."""

    rows: int
    # ROC AUC, NaN of numbers.
    auc: float
    # The mean squared error of a probability (Brier 1950), or of a number in units of its variance: 0 is right, 1 no
    # better than the mean.
    brier: float
    # Expected calibration error, NaN of numbers.
    ece: float


def measures(kind: Kind, values: Rows, truth: Rows) -> Measures:
    """Values [n, K] and labels [n], of which none is NaN."""
    count = len(truth)
    if not count:
        return Measures(0, float("nan"), float("nan"), float("nan"))
    if kind == "number":
        error = float(np.square(values[:, 0] - truth).mean() / max(float(truth.var()), 1e-12))
        return Measures(count, float("nan"), error, float("nan"))
    happened = (truth[:, None] == np.arange(values.shape[1])) if kind == "classes" else truth[:, None] == 1
    brier = float(np.square(values - happened).mean())
    ece = float(np.mean([calibration_error(values[:, k], happened[:, k]) for k in range(values.shape[1])]))
    return Measures(count, ranking(kind, values, truth), brier, ece)


def ranking(kind: Kind, values: Rows, truth: Rows) -> float:
    """ROC AUC of values [n, K] for labels [n]."""
    probabilities = np.hstack([1 - values, values]) if kind == "binary" else values
    return auc(probabilities, truth.astype(np.int64), np.arange(probabilities.shape[1]))
