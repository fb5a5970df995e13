"""Frames that lie in files in place of memory are the same frames."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model.data.frames import ARRAYS, Frames, read_frames
from model.data.kept import kept_frames
from model.data.matrix import Matrix
from tests.support.games import NAMES, make_games

ROWS = 1200


def columns(*, exact: bool = True) -> dict[str, np.ndarray]:
    """By name, of numbers that float16 holds (`exact`) or does not."""
    games = make_games(length=ROWS // 6)
    features = games.features.astype(np.float16).astype(np.float32) if exact else games.features
    return {
        **dict(zip(NAMES, features.T, strict=True)),
        "episode": np.repeat([f"game {i}" for i in range(6)], ROWS // 6),
        "frame": np.tile(np.arange(ROWS // 6), 6),
        "split": np.where(np.arange(ROWS) < 800, "train", "val"),
        "action": (np.arange(ROWS) % 3).astype(np.float32),
        "y_up": (np.arange(ROWS) % 2).astype(np.int8),
    }


def recorded(folder: Path, values: dict[str, np.ndarray], files: int = 2) -> Path:
    """A folder of Parquet files in which each column's name is told."""
    folder.mkdir()
    cut = ROWS // files
    for i in range(files):
        part = {name: column[i * cut : (i + 1) * cut] for name, column in values.items()}
        pq.write_table(pa.table(part), folder / f"part-{i}.parquet", row_group_size=170)
    return folder


def assert_same(one: Frames, other: Frames) -> None:
    np.testing.assert_array_equal(np.asarray(one.features), np.asarray(other.features))
    for name in ARRAYS:
        left, right = getattr(one, name), getattr(other, name)
        assert (left is None) == (right is None), name
        if left is not None:
            np.testing.assert_array_equal(left, right)
    assert one.labels.keys() == other.labels.keys()
    for label, values in one.labels.items():
        np.testing.assert_array_equal(values, other.labels[label])
    for name in ("schema", "episode_names", "action_names", "roles", "notes"):
        assert getattr(one, name) == getattr(other, name)


def with_gaps(missing: str) -> dict[str, np.ndarray]:
    values = columns()
    if missing != "none":
        values["own_x"] = np.where(np.arange(ROWS) % 7 == 3, np.nan, values["own_x"]).astype(np.float32)
        values["stage"] = np.where(np.arange(ROWS) > 1000, np.nan, values["stage"]).astype(np.float32)
    return values


@pytest.mark.parametrize("missing", ["none", "hide", "drop", "mean"])
def test_frames_in_files_are_those_in_memory(missing: str, tmp_path: Path) -> None:
    data = recorded(tmp_path / "data", with_gaps(missing))
    choice = None if missing == "none" else missing
    small = read_frames(data, missing=choice)
    large = read_frames(data, missing=choice, in_memory_bytes=0)
    assert isinstance(small.features, np.ndarray)
    assert isinstance(large.features, Matrix)
    assert_same(small, large)


@pytest.mark.parametrize(("exact", "kind"), [(True, np.float16), (False, np.float32)])
def test_rows_in_a_file_are_float16_where_that_loses_nothing(exact: bool, kind: type, tmp_path: Path) -> None:
    values = columns(exact=exact)
    frames = kept_frames(recorded(tmp_path / "data", values), tmp_path / "kept", in_memory_bytes=0)
    assert np.load(tmp_path / "kept" / frames.folder.name / "features.npy", mmap_mode="r").dtype == kind
    np.testing.assert_array_equal(np.asarray(frames.features), np.stack([values[name] for name in NAMES], 1))
    assert frames.features[3:5].dtype == frames.features[[1, 2]].dtype == np.float32
