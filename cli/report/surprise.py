"""How far later frames were off what a model predicted: the loss that `/loss` answers, over a whole game."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.inference.losses import percentiles, smooth_l1
from app.rows import Array
from bundle.reader import Bundle
from cli.embedding import BundleEmbedder

MAX_MOMENTS = 5
# Half a second at 60 Hz.
MIN_APART_FRAMES = 30


class Surprise(NamedTuple):
    """Of the frames that were predicted from an earlier one; `percentiles` where the bundle has quantiles."""

    rows: NDArray[np.int64]  # [n], which rows of the game they are
    losses: Array  # [n]
    percentiles: Array | None  # [n]

    def moments(self, horizon: int) -> list[int]:
        """Where the largest losses are, far enough apart to be different events: an event that no frame announces is
        predicted wrongly from every one of the `horizon` frames before it."""
        left = self.losses.astype(np.float64)
        found: list[int] = []
        apart = max(horizon, MIN_APART_FRAMES)
        while len(found) < MAX_MOMENTS and np.isfinite(left).any():
            at = int(left.argmax())
            found.append(at)
            left[max(0, at - apart) : at + apart] = -np.inf
        return found


def surprise(
    bundle: Bundle, embedder: BundleEmbedder, context: Array, target: Array, ahead: NDArray[np.int64], horizon: int
) -> Surprise:
    """context and target embeddings [n, D] of a game, and the row `ahead` [n] of each, −1 where there is none."""
    now = np.flatnonzero(ahead >= 0)
    losses = smooth_l1(embedder.expected(context[now], horizon), target[ahead[now]])
    return Surprise(ahead[now], losses, percentiles(losses, bundle.manifest.loss_quantiles.get(horizon)))
