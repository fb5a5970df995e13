"""Splits rows into training and validation by whole episodes, and finds the row of a later frame."""

import numpy as np
from numpy.typing import NDArray

from model.data.frames import Frames


def split_rows(frames: Frames, *, held_out: float = 0.1, seed: int = 0) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns the row indices for training and for validation.

    A `split` column decides if it has both `train` and `val`. Otherwise `held_out`, a share of the training episodes,
    are drawn for validation, at least one; ValueError if there are fewer than two episodes. Where every row is an
    episode of its own, this holds out rows at random.
    """
    rows = np.arange(len(frames))
    if frames.split is not None:
        train, val = rows[frames.split == "train"], rows[frames.split == "val"]
        if not len(train):
            raise ValueError(f"the split column has no 'train' (it has {sorted(set(frames.split.tolist()))})")
        if len(val):
            return train, val
        rows = train
    episodes = np.unique(frames.episode[rows])
    if len(episodes) < 2:
        raise ValueError(
            f"{len(episodes)} episode: nothing can be held out. Rows of one game are near-copies of each other; "
            "give at least two games, told apart by an 'episode' column"
        )
    drawn = np.random.default_rng(seed).permutation(episodes)
    chosen = drawn[: max(1, round(held_out * len(episodes)))]
    is_val = np.isin(frames.episode[rows], chosen)
    return rows[~is_val], rows[is_val]


def split_notes(frames: Frames) -> list[str]:
    """What becomes of rows that are of neither split that a training run reads, in a sentence."""
    if frames.split is None:
        return []
    names, counts = np.unique(frames.split, return_counts=True)
    read = "train and val" if "val" in names else "train, of which some games are held out"
    return [
        f"the split column is obeyed: {count:,} rows of '{name}' are not read, only those of {read}"
        for name, count in zip(names.tolist(), counts.tolist(), strict=True)
        if name not in ("train", "val")
    ]


def rows_ahead(frames: Frames, horizon: int) -> NDArray[np.int64]:
    """For each row, the index of the row `horizon` frames later in the same episode, or −1 if there is none."""
    if horizon == 0:
        return np.arange(len(frames))
    if frames.frame is None:
        raise ValueError(f"horizon {horizon} looks ahead, but the data has no 'frame' column; train with horizon 0")
    # One sortable key per episode and frame, with a gap of `horizon` between episodes so that none reaches the next.
    first = frames.frame.min()
    span = frames.frame.max() - first + 1 + horizon
    key = np.unique(frames.episode, return_inverse=True)[1] * span + (frames.frame - first)
    order = np.argsort(key, kind="stable")
    found = np.searchsorted(key, key + horizon, sorter=order).clip(max=len(key) - 1)
    ahead = order[found]
    return np.where(key[ahead] == key + horizon, ahead, -1)
