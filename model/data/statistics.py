"""The statistics of the training rows, computed in one pass, and kept beside frames that are kept on disk."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from bundle.columns import ROWS_AT_ONCE, STATISTICS, Statistics, statistics_of_parts
from model.data.frames import Frames
from model.data.ranges import Ranges


def statistics_of(frames: Frames, rows: Ranges) -> Statistics:
    """mean, std, min and max of each raw column over the rows in which it is seen, float32 [C] each."""
    path = None if frames.folder is None else _place(frames.folder, rows)
    if path is not None and path.is_file():
        with np.load(path, allow_pickle=False) as kept:
            return {name: kept[name] for name in STATISTICS}
    found = statistics_of_parts(frames.as_seen(part) for part in rows.chunks(ROWS_AT_ONCE))
    if path is not None:
        partial = path.with_suffix(".partial.npz")
        arrays: dict[str, Any] = {**found}
        np.savez(partial, **arrays)
        partial.replace(path)
    return found


def _place(folder: Path, rows: Ranges) -> Path:
    digest = hashlib.sha256(rows.start.tobytes() + rows.stop.tobytes()).hexdigest()
    return folder / f"statistics-{digest[:16]}.npz"
