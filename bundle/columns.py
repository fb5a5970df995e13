"""What is known of the columns of a row: the statistics of those that a model was trained on."""

import numpy as np
from numpy.typing import NDArray

DEAD_STD = 1e-4

Statistics = dict[str, NDArray[np.float32]]


def column_statistics(rows: NDArray[np.float32]) -> Statistics:
    """mean, std, min and max of each raw column, float32 [C] each."""
    return {
        "mean": rows.mean(0, dtype=np.float64).astype(np.float32),
        "std": rows.std(0, dtype=np.float64).astype(np.float32),
        "min": rows.min(0),
        "max": rows.max(0),
    }
