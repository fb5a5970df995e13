"""How far predictions were off, and how surprising that is: what `/loss` answers and `jepa report` draws."""

from collections.abc import Sequence

import numpy as np

from app.rows import Array


def smooth_l1(predicted: Array, target: Array) -> Array:
    """[B, D] and [B, D] → [B], the mean over D with beta 1; in float64, where no difference of float32 overflows."""
    distance = np.abs(predicted.astype(np.float64) - target)
    losses = np.where(distance < 1, distance**2 / 2, distance - 0.5).mean(axis=1)
    per_row: Array = np.minimum(losses, np.finfo(np.float32).max).astype(np.float32)
    return per_row


def percentiles(losses: Array, quantiles: Sequence[float] | None) -> Array | None:
    """[B] → [B], 0–100: each loss among those of held-out rows, of which a bundle has 101 `quantiles` or none."""
    return None if quantiles is None else np.interp(losses, quantiles, range(101)).astype(np.float32)
