"""What happened at a moment of a game, in words: the columns that changed, and what heads had expected."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from app.rows import Array
from bundle.heads import Heads

MAX_CHANGES = 4
MAX_OUTCOMES = 3
# Probabilities that differ by less are as good as right.
MIN_GAP = 0.1


def changes(names: Sequence[str], scale: NDArray[np.float64], before: Array, after: Array) -> list[str]:
    """The columns [C] that changed most, measured by their `scale` [C] in training."""
    sizes = np.nan_to_num(np.abs(after - before) / scale)
    most = np.argsort(-sizes, kind="stable")[:MAX_CHANGES].tolist()
    return [f"{names[i]} {before[i]:.3g} → {after[i]:.3g}" for i in most if sizes[i] > 0]


def outcomes(heads: Heads, horizon_index: int, expected: Array, came: Array) -> list[str]:
    """The outcomes whose probability, by the embedding that was `expected` [D], was furthest from what `came` [D]."""
    before, after = heads.values(expected[None], horizon_index)[0], heads.values(came[None], 0)[0]
    is_number = [head.kind == "number" for head in heads.heads for _ in head.outputs]
    gaps = np.where(is_number, 0, np.abs(after - before))
    most = np.argsort(-gaps, kind="stable")[:MAX_OUTCOMES].tolist()
    names = heads.outputs
    return [f"{names[i]} expected at {before[i]:.0%}, came at {after[i]:.0%}" for i in most if gaps[i] > MIN_GAP]
