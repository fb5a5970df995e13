"""Splits rows into training and validation by whole episodes, and finds the row of a later frame."""

from collections import Counter
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from model.data.frames import Frames
from model.data.ranges import Ranges, distinct
from model.data.timeline import Timeline


def split_rows(frames: Frames, *, held_out: float = 0.1, seed: int = 0) -> tuple[Ranges, Ranges]:
    """Returns the rows for training and for validation.

    A `split` column decides if it has both `train` and `val`. Otherwise `held_out`, a share of the training episodes,
    are drawn for validation, at least one; ValueError if there are fewer than two episodes. Where every row is an
    episode of its own, this holds out rows at random.
    """
    if frames.split is not None:
        train, val = rows_of_split(frames, "train"), rows_of_split(frames, "val")
        if not len(train):
            raise ValueError(f"the split column has no 'train' (it has {sorted(split_names(frames))})")
        if len(val):
            return train, val
        rows = train
    else:
        rows = Ranges.all(len(frames))
    episodes = distinct(frames.episode, rows)
    if len(episodes) < 2:
        raise ValueError(
            f"{len(episodes)} episode: nothing can be held out. Rows of one game are near-copies of each other; "
            "give at least two games, told apart by an 'episode' column"
        )
    drawn = np.random.default_rng(seed).permutation(episodes)
    chosen = np.sort(drawn[: max(1, round(held_out * len(episodes)))])

    def is_held_out(part: slice | NDArray[np.int64]) -> NDArray[np.bool_]:
        episode = frames.episode[part]
        return np.asarray(chosen[np.searchsorted(chosen, episode).clip(max=len(chosen) - 1)] == episode)

    return rows.where(lambda part: ~is_held_out(part)), rows.where(is_held_out)


def rows_of_split(frames: Frames, name: str) -> Ranges:
    """The rows that the split column gives this name."""
    split = frames.split
    assert split is not None
    return Ranges.all(len(frames)).where(lambda part: np.asarray(split[part] == name))


def split_names(frames: Frames) -> dict[str, int]:
    """How many rows the split column gives each name."""
    if frames.split is None:
        return {}
    found: Counter[str] = Counter()
    for part in Ranges.all(len(frames)).chunks():
        names, counts = np.unique(frames.split[part], return_counts=True)
        found.update(dict(zip(names.tolist(), counts.tolist(), strict=True)))
    return dict(sorted(found.items()))


def split_notes(frames: Frames) -> list[str]:
    """What becomes of rows that are of neither split that a training run reads, in a sentence."""
    names = split_names(frames)
    read = "train and val" if "val" in names else "train, of which some games are held out"
    return [
        f"the split column is obeyed: {count:,} rows of '{name}' are not read, only those of {read}"
        for name, count in names.items()
        if name not in ("train", "val")
    ]


def split_warnings(frames: Frames) -> list[str]:
    """Which games have rows of several splits, in a sentence."""
    names = split_names(frames)
    if frames.independent or len(names) < 2:
        return []
    games = {name: distinct(frames.episode, rows_of_split(frames, name)) for name in names}
    found, count = np.unique(np.concatenate([*games.values()]), return_counts=True)
    torn = found[count > 1]
    if not len(torn):
        return []
    return [
        f"{len(torn):,} of {len(found):,} games have rows of several splits, first {frames.called(int(torn[0]))}: rows "
        "of one game are near-copies, and every figure will look too good; give each game one split"
    ]


def rows_ahead(frames: Frames, horizon: int) -> NDArray[np.int64]:
    """For each row, the index of the row `horizon` frames later in the same episode, or −1 if there is none."""
    return looking_ahead(frames)(np.arange(len(frames)), horizon)


def looking_ahead(frames: Frames) -> Callable[[NDArray[np.int64], int], NDArray[np.int64]]:
    """As `rows_ahead`, for some rows [n] and one horizon after the other."""
    timeline = None if frames.frame is None else Timeline(frames.episode, frames.frame)

    def ahead(rows: NDArray[np.int64], horizon: int) -> NDArray[np.int64]:
        if horizon == 0:
            return rows
        if timeline is None:
            raise ValueError(f"horizon {horizon} looks ahead, but the data has no 'frame' column; train with horizon 0")
        return timeline.ahead(rows, horizon)

    return ahead
