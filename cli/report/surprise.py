"""How far a later frame was off what a model foresaw: the loss that `/loss` answers, over a whole game."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.inference.losses import smooth_l1
from app.inference.sessions import Graphs
from app.rows import Array
from app.system.cores import available_cores
from bundle.reader import Bundle
from cli.embed import ROWS_A_RUN

MOMENTS = 5
LEAST_APART = 30  # frames


class Surprise(NamedTuple):
    """Of the frames that were foreseen; `percentiles` among the held-out rows, where the bundle has quantiles."""

    rows: NDArray[np.int64]  # [n], which rows of the game they are
    losses: Array  # [n]
    percentiles: Array | None  # [n]

    def moments(self, horizon: int) -> list[int]:
        """The largest losses, far enough apart to be different events: each event is foreseen wrongly from all of the
        frames before it."""
        left = self.losses.astype(np.float64)
        found: list[int] = []
        apart = max(horizon, LEAST_APART)
        while len(found) < MOMENTS and np.isfinite(left).any():
            at = int(left.argmax())
            found.append(at)
            left[max(0, at - apart) : at + apart] = -np.inf
        return found


def surprise(bundle: Bundle, context: Array, target: Array, ahead: NDArray[np.int64], horizon: int) -> Surprise:
    """context and target embeddings [n, D] of a game, and the row `ahead` [n] of each, −1 where there is none."""
    predictor = Graphs(bundle, threads=available_cores()).predictor
    now = np.flatnonzero(ahead >= 0)
    losses = np.empty(len(now), np.float32)
    for start in range(0, len(now), ROWS_A_RUN):
        part = now[start : start + ROWS_A_RUN]
        every_patch = np.ones((len(part), len(bundle.manifest.patches)), np.float32)
        predicted = predictor.run(context[part], every_patch, np.full(len(part), horizon, np.float32))
        losses[start : start + len(part)] = smooth_l1(predicted, target[ahead[part]])
    quantiles = bundle.manifest.loss_quantiles.get(horizon)
    percentiles = None if quantiles is None else np.interp(losses, quantiles, range(101)).astype(np.float32)
    return Surprise(ahead[now], losses, percentiles)
