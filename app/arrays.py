"""Rows of float32, the only thing that computes here."""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Run = Callable[..., Array]  # arrays [B, …], alike in B → [B, D]


def all_finite(rows: Array) -> bool:
    """A sum of squares is finite only if all it adds are, and takes half the time; it may overflow."""
    if rows.size <= 8192 and math.isfinite(np.vdot(rows, rows)):  # larger ones would wake a thread of BLAS
        return True
    return bool(np.isfinite(rows).all())
