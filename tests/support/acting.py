"""A tiny model whose predictor takes the player's own inputs, and what it answers."""

from collections.abc import Sequence

import numpy as np

from tests.support.bundles import Array, TinyModel

ACTING = TinyModel(heads=True, horizons=(0, 4, 6, 15), actions=("jump", "stick_x", "stick_y"))


def inputs(rows: int, frames: int, seed: int = 0) -> Array:
    """[rows, frames, 3], a third of which are not known."""
    rng = np.random.default_rng(seed)
    drawn = rng.normal(size=(rows, frames, len(ACTING.actions))).astype(np.float32)
    return np.where(rng.random(drawn.shape) < 1 / 3, np.float32(np.nan), drawn)


def predicted(features: Array, actions: Array | None, horizon: int = 15) -> Array:
    """[B, input_dim] and [B, n, 3] → [B, embed_dim]; of one row [N, n, 3] are candidates."""
    rows = len(features) if actions is None else len(actions)
    context = np.broadcast_to(ACTING.encode(features, "context"), (rows, ACTING.embed_dim))
    return ACTING.predict(context, np.ones((rows, 2), np.float32), np.full(rows, horizon, np.float32), actions)


def values(embeddings: Array, horizon: int = 15, outputs: Sequence[str] = ()) -> Array:
    """[B, embed_dim] → [B, outputs], of all heads unless they are named."""
    found = ACTING.values(embeddings, 1 + ACTING.horizons.index(horizon))
    return np.stack([found[name] for name in outputs or found], axis=1)
