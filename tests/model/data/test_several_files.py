"""Files that are read together: which game and split a row is from, and where a description may lie."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model.data.files import found_files
from model.data.frames import read_frames

ROWS = 4
EACH = "only arrays with an entry for each row are read"


def write(path: Path, **columns: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"x": np.arange(ROWS) / 4, **columns}), path)
    return path


@pytest.mark.parametrize("named", [0, "a", "3f2504e0-4f89-11d3-9a0c-0305e82c3301"])
def test_a_game_that_goes_on_in_the_next_file_is_one(named: Any, tmp_path: Path) -> None:
    for part in range(3):
        write(tmp_path / f"part-{part}.parquet", episode=[named] * ROWS, frame=np.arange(ROWS) + part * ROWS)
    frames = read_frames(tmp_path)
    assert len({*frames.episode.tolist()}) == 1
    assert "2 times an episode goes on in another file" in frames.notes[0]
    where = f"episode {named} ends in part-0.parquet with frame {ROWS - 1} and begins in part-1.parquet with {ROWS}"
    assert where in frames.notes[0]
    why = next(column.why for column in frames.roles if column.role == "episode")
    assert why.endswith("; 2 times one game goes on in another file"), "the table of roles says so"


@pytest.mark.parametrize("start", [0, 3, ROWS + 1])
def test_games_of_one_name_whose_frames_do_not_go_on_are_several(start: int, tmp_path: Path) -> None:
    for part in range(2):
        write(tmp_path / f"part-{part}.parquet", episode=[7] * ROWS, frame=np.arange(ROWS) + part * start)
    frames = read_frames(tmp_path)
    assert frames.episode.tolist() == [0] * ROWS + [1] * ROWS
    assert frames.notes == ()


def test_the_files_of_a_folder_named_after_an_episode_are_one_game(tmp_path: Path) -> None:
    for part in range(2):
        for seed in (1, 2):
            path = tmp_path / f"seed={seed}" / "episode=3" / f"{part}.parquet"
            write(path, frame=np.arange(ROWS) * 2 + part)
    frames = read_frames(tmp_path, exclude=["seed"])
    assert frames.episode.tolist() == [0] * 2 * ROWS + [1] * 2 * ROWS
    assert [frames.called(each) for each in (0, 1)] == ["seed=1/episode=3:3", "seed=2/episode=3:3"]


@pytest.mark.parametrize("form", ["folder", "pattern", "pattern of files", "folders", "files"])
def test_folders_say_the_same_however_they_are_named(form: str, tmp_path: Path) -> None:
    for split, episode in (("train", "a%2Fb"), ("val", "c")):
        write(tmp_path / split / f"episode={episode}" / "0.parquet", frame=np.arange(ROWS))
    sources: dict[str, Any] = {
        "folder": tmp_path,
        "pattern": f"{tmp_path}/*",
        "pattern of files": f"{tmp_path}/*/*/*.parquet",
        "folders": [tmp_path / "train", tmp_path / "val"],
        "files": [*tmp_path.rglob("*.parquet")],
    }
    frames = read_frames(sources[form])
    assert frames.split is not None
    named = {(str(split), frames.called(each)) for split, each in zip(frames.split, frames.episode, strict=True)}
    assert named == {("train", "a/b"), ("val", "c")}


def test_folders_above_those_that_are_named_say_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "test" / "seed=3" / "g.parquet")
    for source in (path, path.parent, f"{path.parent}/*.parquet"):
        frames = read_frames(source)
        assert frames.split is None
        assert frames.schema.names == ("x",)


def test_a_folder_whose_value_nobody_knows_is_no_game(tmp_path: Path) -> None:
    for value in ("1", "__HIVE_DEFAULT_PARTITION__"):
        write(tmp_path / f"episode={value}" / "0.parquet", frame=np.arange(ROWS))
    with pytest.raises(ValueError, match="'episode' has nothing in 4 rows"):
        read_frames(tmp_path)


def test_files_named_after_splits_are_of_them_and_that_is_said(tmp_path: Path) -> None:
    for name in ("train-00000-of-00002", "train-00001-of-00002", "validation-00000-of-00001"):
        write(tmp_path / f"{name}.parquet", frame=np.arange(ROWS))
    frames = read_frames(tmp_path)
    assert frames.split is not None
    assert frames.split.tolist() == ["train"] * 2 * ROWS + ["val"] * ROWS
    assert "files are named after splits" in frames.notes[0]
    assert read_frames(f"{tmp_path}/train*").split is None
    write(tmp_path / "trainer.parquet", frame=np.arange(ROWS))
    assert read_frames(tmp_path).split is None


@pytest.mark.parametrize("place", ["", "data", "data/more"])
def test_a_description_is_found_beside_the_files_and_above_them(place: str, tmp_path: Path) -> None:
    write(tmp_path / "data" / "more" / "g.parquet", game=["a"] * ROWS)
    (tmp_path / place / "schema.json").write_text(json.dumps({"episode": "game"}))
    assert read_frames(tmp_path).episode_names == ("a",)


def test_descriptions_that_differ_are_refused(tmp_path: Path) -> None:
    for name in "ab":
        write(tmp_path / name / "g.parquet", game=["a"] * ROWS)
        (tmp_path / name / "schema.json").write_text(json.dumps({"episode": "game"}))
    assert read_frames(tmp_path).episode_names == ("a/g.parquet:a", "b/g.parquet:a")
    (tmp_path / "b" / "schema.json").write_text("{}")
    with pytest.raises(ValueError, match=r"schema.json and .*schema.json say different things"):
        read_frames(tmp_path)


def test_truth_values_go_together_with_numbers(tmp_path: Path) -> None:
    write(tmp_path / "0.parquet", z=[True, False] * 2)
    write(tmp_path / "1.parquet", z=[0.5, 1.5] * 2)
    assert read_frames(tmp_path).features[:, 1].tolist() == [1, 0, 1, 0, 0.5, 1.5, 0.5, 1.5]


def test_types_that_do_not_go_together_are_named_with_their_files(tmp_path: Path) -> None:
    write(tmp_path / "0.parquet", timestamp=pa.array([1] * ROWS, pa.timestamp("us")))
    write(tmp_path / "1.parquet", timestamp=pa.array([1] * ROWS, pa.timestamp("us", "UTC")))
    with pytest.raises(ValueError, match=r"column 'timestamp' is timestamp\[us, tz=UTC\] in 1.parquet and timestamp"):
        read_frames(tmp_path)


def test_a_pipe_among_the_files_of_a_folder_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "0.parquet")
    os.mkfifo(tmp_path / "1.parquet")
    with pytest.raises(ValueError, match=r"1\.parquet is no regular file but a pipe"):
        found_files(tmp_path)


def test_what_a_folder_holds_besides_is_named_by_its_place(tmp_path: Path) -> None:
    write(tmp_path / "g.parquet")
    write(tmp_path / "below" / "g.parquet")
    (note,) = found_files(tmp_path).notes
    assert "also holds below/g.parquet, which is not read beside its Parquet (g.parquet)" in note


@pytest.mark.parametrize("names", [["x", "z"], ["x"], ["x", "x"]])
def test_the_names_beside_an_array_are_its_columns_where_they_fit(names: list[str], tmp_path: Path) -> None:
    np.savez(tmp_path / "g.npz", features=np.ones((ROWS, 2)), names=np.array(names), episode=[0, 0, 1, 1])
    found = read_frames(tmp_path)
    assert found.schema.names == (("x", "z") if names == ["x", "z"] else ("f000", "f001"))
    said = () if names == ["x", "z"] else (f"g.npz also holds 'names' [{len(names)}]: {EACH}",)
    assert found.notes == said


def test_arrays_that_are_no_columns_are_said_once_for_all_files(tmp_path: Path) -> None:
    for i in range(3):
        np.savez(tmp_path / f"{i}.npz", features=np.ones((ROWS, 2)), frame=np.arange(ROWS), episode_ends=[2, 4], seed=7)
    assert read_frames(tmp_path).notes == (f"0.npz also holds 'episode_ends' [2], as do 2 other files: {EACH}",)


def test_files_whose_rows_nothing_orders_are_said_to_be_rows_of_no_game(tmp_path: Path) -> None:
    for i in range(2):
        write(tmp_path / f"{i}.parquet")
    frames = read_frames(tmp_path)
    assert frames.independent
    (note,) = frames.notes
    assert "every row is taken for a game of its own; if a file is a game, as 0.parquet may be, add a column" in note
    assert read_frames(tmp_path / "0.parquet").notes == ()


def test_one_value_a_row_is_one_however_the_array_is_shaped(tmp_path: Path) -> None:
    done = np.array([[False], [True]] * 2)
    np.savez(tmp_path / "g.npz", obs=np.ones((ROWS, 2)), dones=done, rewards=np.ones((ROWS, 1)), y_a=np.ones((ROWS, 1)))
    frames = read_frames(tmp_path)
    assert frames.schema.names == ("obs_0", "obs_1")
    assert frames.episode.tolist() == [0, 0, 1, 1]
    assert [column.role for column in frames.roles if column.name == "y_a"] == ["label"]
    np.savez(tmp_path / "g.npz", features=np.ones((ROWS, 2)), episode=[["a"], ["a"], ["b"], ["b"]])
    assert read_frames(tmp_path).episode_names == ("a", "b")


def test_observations_in_an_archive_are_read_as_those_of_hdf5_are(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "g.npz", observations=np.ones((ROWS, 2)), actions=np.ones((ROWS, 1)), rewards=np.ones(ROWS),
        terminals=[False] * ROWS, timeouts=[False, True] * 2,
    )  # fmt: skip
    frames = read_frames(tmp_path / "g.npz")
    assert frames.schema.names == ("observations_0", "observations_1")
    assert frames.action_names == ("actions_0",)
    assert frames.episode.tolist() == [0, 0, 1, 1]
