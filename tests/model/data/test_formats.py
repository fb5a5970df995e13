"""Rows are the same in whatever form and order they are stored."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from model.data.frames import read_frames

ROWS = 6
COLUMNS: dict[str, Any] = {
    "episode": [1, 1, 1, 2, 2, 2], "frame": [0, 1, 2] * 2, "x": np.arange(ROWS) / 4, "z": np.arange(ROWS)[::-1],
}  # fmt: skip


def store(table: pa.Table, path: Path) -> Path:
    if path.name.endswith(".csv"):
        pyarrow.csv.write_csv(table, path)
    elif path.name.endswith(".csv.gz"):
        pyarrow.csv.write_csv(table, path.with_suffix(""))
        path.write_bytes(gzip.compress(path.with_suffix("").read_bytes()))
        path.with_suffix("").unlink()
    elif path.suffix in (".feather", ".arrow"):
        pyarrow.feather.write_feather(table, path)
    else:
        pq.write_table(table, path)
    return path


@pytest.mark.parametrize("name", ["g.parquet", "g.csv", "g.csv.gz", "g.feather", "g.arrow"])
def test_every_format_gives_the_same_frames(name: str, tmp_path: Path) -> None:
    store(pa.table(COLUMNS), tmp_path / name)
    for source in (tmp_path / name, tmp_path, f"{tmp_path}/g*"):
        frames = read_frames(source)
        assert frames.schema.names == ("x", "z")
        np.testing.assert_array_equal(frames.features, np.stack([COLUMNS["x"], COLUMNS["z"]], 1))
        assert frames.episode.tolist() == COLUMNS["episode"]


def test_fractions_late_in_a_csv_are_read(tmp_path: Path) -> None:
    (tmp_path / "g.csv").write_text("x\n" + "1\n" * 600_000 + "0.5\n")
    assert read_frames(tmp_path).features[-1, 0] == 0.5


def test_what_is_hidden_or_unfinished_is_left_out(tmp_path: Path) -> None:
    store(pa.table(COLUMNS), tmp_path / "g.parquet")
    for name in (".g.parquet", "new.partial.parquet", "_metadata.parquet"):
        (tmp_path / name).write_bytes(b"half")
    assert len(read_frames(tmp_path)) == len(read_frames(f"{tmp_path}/*.parquet")) == ROWS


@pytest.mark.parametrize(("key", "values"), [("episode", [7, 9]), ("episode", ["a", "b"]), ("split", ["train", "val"])])
def test_hive_folders_say_what_their_names_say(key: str, values: list[Any], tmp_path: Path) -> None:
    for value in values:
        (tmp_path / f"{key}={value}").mkdir()
        store(pa.table({"x": [1.0, 2.0], "frame": [0, 1]}), tmp_path / f"{key}={value}" / "part-0.parquet")
    frames = read_frames(tmp_path)
    if key == "split":
        assert frames.split is not None
        assert frames.split.tolist() == ["train", "train", "val", "val"]
    else:
        assert [frames.called(each) for each in frames.episode.tolist()] == [str(v) for v in values for _ in range(2)]


def test_columns_of_several_files_are_alike_by_name_and_promoted_by_type(tmp_path: Path) -> None:
    store(pa.table({"x": pa.array([1, 2], pa.int32()), "y": [1.5, 2.5], "z": pa.nulls(2), "split": ["train"] * 2}),
          tmp_path / "0.parquet")  # fmt: skip
    split = pa.array(["val"] * 2).dictionary_encode()
    store(pa.table({"split": split, "y": pa.array([3, 4], pa.float32()), "x": [3.5, 4.5], "z": [1, 2]}),
          tmp_path / "1.parquet")  # fmt: skip
    frames = read_frames(tmp_path, missing="mean")
    assert frames.features[:].tolist() == [[1, 1.5, 1.5], [2, 2.5, 1.5], [3.5, 3, 1], [4.5, 4, 2]]
    store(pa.table({"x": ["a"], "y": [1.0], "z": [1], "split": ["val"]}), tmp_path / "2.parquet")
    with pytest.raises(ValueError, match=r"column 'x' is string in 2.parquet and int32 in 0.parquet; files read"):
        read_frames(tmp_path)
    store(pa.table({"x": []}), tmp_path / "2.parquet")
    with pytest.raises(ValueError, match=r"2.parquet has other columns"):
        read_frames(tmp_path)


def test_an_episode_is_one_of_its_file(tmp_path: Path) -> None:
    for name in "ab":
        store(pa.table(COLUMNS), tmp_path / f"{name}.parquet")
    frames = read_frames(tmp_path)
    assert frames.episode.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert [frames.called(each) for each in (0, 3)] == ["a.parquet:1", "b.parquet:2"]
    for name in "ab":
        store(pa.table({"x": [1.0, 2.0], "frame": [0, 1]}), tmp_path / f"{name}.parquet")
    assert read_frames(tmp_path).episode.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("names", [["Game_0", "Game_1"], [b"\x01", b"\x02"], [0.5, 1.5], [True, False]])
def test_any_value_tells_games_apart(names: list[Any], tmp_path: Path) -> None:
    frames = read_frames(store(pa.table({"x": np.ones(4), "episode": np.repeat(np.array(names, object), 2).tolist()}),
                               tmp_path / "g.parquet"))  # fmt: skip
    assert frames.episode.tolist() == [0, 0, 1, 1]
    assert len(set(frames.episode_names)) == 2


def test_all_arrays_of_a_pattern_are_read(tmp_path: Path) -> None:
    for i in range(2):
        np.savez(tmp_path / f"g{i}.npz", features=np.full((3, 2), i, np.float32), frame=np.arange(3))
    frames = read_frames(f"{tmp_path}/g*.npz")
    assert frames.features[:, 0].tolist() == [0, 0, 0, 1, 1, 1]
    assert frames.episode.tolist() == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("nested", [False, True])
def test_lists_and_arrays_of_any_name_are_features(nested: bool, tmp_path: Path) -> None:
    rows = (
        [[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]] if nested else [[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]]
    )
    path = store(
        pa.table({"obs": rows, "hp": [1, 2], "infos": [["a"], []], "action": [[1], [2]]}), tmp_path / "g.parquet"
    )
    frames = read_frames(path)
    assert frames.features[:].tolist() == [[1, 2, 3, 4, 1], [5, 6, 7, 8, 2]]
    assert frames.schema.names == ("obs_0", "obs_1", "obs_2", "obs_3", "hp")
    assert read_frames(path, features="obs").features[:].shape == (2, 4)
    store(pa.table({"obs": [[1.0, 2.0], [1.0]]}), path)
    with pytest.raises(ValueError, match=r"column 'obs' has lists of different lengths.*: 2 in row 0, 1 in row 1"):
        read_frames(path)


def test_lerobots_folder_is_read_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "info.json").write_text("{}")
    store(pa.table({"task": ["a"]}), tmp_path / "meta" / "tasks.parquet")
    for episode in range(2):
        chunk = tmp_path / "data" / "chunk-000"
        chunk.mkdir(parents=True, exist_ok=True)
        columns = {
            "observation.state": [[0.5, 1.5]] * 3, "action": [[0.0, 1.0]] * 3, "timestamp": [0.0, 0.1, 0.2],
            "frame_index": [0, 1, 2], "episode_index": [episode] * 3, "index": [0, 1, 2], "task_index": [0] * 3,
            "next.done": [False, False, True],
        }  # fmt: skip
        store(pa.table(columns), chunk / f"episode_{episode:06d}.parquet")
    frames = read_frames(tmp_path)
    assert frames.schema.names == ("observation.state_0", "observation.state_1")
    assert frames.episode.tolist() == [0, 0, 0, 1, 1, 1]
    assert frames.frame is not None
    assert frames.frame.tolist() == [0, 1, 2] * 2


def test_a_name_that_comes_twice_and_a_file_without_rows_are_named(tmp_path: Path) -> None:
    store(pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["x", "x"]), tmp_path / "0.parquet")
    with pytest.raises(ValueError, match=r"0.parquet has the column 'x' more than once"):
        read_frames(tmp_path)
    store(pa.table({"x": [1.0]}), tmp_path / "0.parquet")
    store(pa.table({"x": pa.array([], pa.float64())}), tmp_path / "1.parquet")
    with pytest.raises(ValueError, match=r"1.parquet has no rows"):
        read_frames(tmp_path)
