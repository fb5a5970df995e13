"""Recordings that programs hold in memory, and those that others leave on disk in their own layouts."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.ipc as ipc
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from cli.main import app
from model import frames
from model.data.frames import Frames

ROWS = 12
X, Z = np.linspace(0, 1, ROWS), np.linspace(3, 2, ROWS)
COLUMNS: dict[str, Any] = {"game": np.repeat(["a", "b"], 6), "t": np.tile(np.arange(6), 2), "x": X, "z": Z}


def in_pandas(columns: dict[str, Any]) -> Any:
    return pytest.importorskip("pandas").DataFrame(columns)


def in_polars(columns: dict[str, Any]) -> Any:
    return pytest.importorskip("polars").DataFrame(columns)


def in_lists(columns: dict[str, Any]) -> Any:
    return {name: column.tolist() for name, column in columns.items()}


def in_batches(columns: dict[str, Any]) -> Any:
    return pa.RecordBatchReader.from_batches(pa.table(columns).schema, pa.table(columns).to_batches(5))


@pytest.mark.parametrize("made", [dict, in_lists, pa.table, in_batches, in_pandas, in_polars])
def test_a_table_in_memory_is_read_as_its_file_is(made: Any, tmp_path: Path) -> None:
    pq.write_table(pa.table(COLUMNS), tmp_path / "games.parquet")
    found, stored = (frames(source, episode="game", exclude=["z"]) for source in (made(COLUMNS), tmp_path))
    assert found.schema == stored.schema
    np.testing.assert_array_equal(found.features, stored.features)
    assert found.episode.tolist() == stored.episode.tolist() == [0] * 6 + [1] * 6
    assert found.frame is not None
    assert found.frame.tolist() == [*range(6)] * 2
    assert [found.called(each) for each in (0, 1)] == ["a", "b"]
    with pytest.raises(ValueError, match="--episode is 'gaem'; no column is, and the nearest is 'game'"):
        frames(made(COLUMNS), episode="gaem")


def test_an_index_of_pandas_is_what_its_name_says() -> None:
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(COLUMNS)
    for odd in (table[table.t >= 2], table[table.t >= 2].reset_index()):
        assert frames(odd, episode="game").schema.names == ("x", "z")
    indexed = frames(table.set_index(["game", "t"]), episode="game")
    assert indexed.schema.names == ("x", "z")
    assert indexed.frame is not None


def test_gaps_of_every_library_are_gaps() -> None:
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    for table in (
        pandas.DataFrame({"x": pandas.array([1, None, 3], "Int64"), "z": [1.0, 2, 3]}),
        pandas.DataFrame({"x": [1, None, 3], "z": [1.0, 2, 3]}),
        polars.DataFrame({"x": [1, None, 3], "z": [1.0, 2, 3]}),
        polars.DataFrame({"x": [1.0, float("nan"), 3.0], "z": [1.0, 2, 3]}),
        {"x": [1, None, 3], "z": [1.0, 2, 3]},
    ):
        with pytest.raises(ValueError, match="x is nan in row 1"):
            frames(table)
        hidden = frames(table, missing="hide")
        assert hidden.absent is not None
        assert hidden.absent.tolist() == [[False, False], [True, False], [False, False]]
        assert len(frames(table, missing="drop")) == 2


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (5, r"the data is a builtins.int; give a path, a DataFrame"),
        ([], "the data is a builtins.list"),
        ({}, "the data has no rows"),
        ({"x": []}, "the data has no rows"),
        ({"x": [1.0], "z": [1.0, 2.0]}, "z of the data has 2 rows; x has 1"),
        ({"x": 5}, "x of the data is a single value; give one a row"),
        ({"x": [object(), 1]}, "x of the data is no column of numbers or text"),
        (np.zeros(3), r"the array is float64 \[3\]; it must be numbers \[rows, columns\]"),
        (np.array([["a"]]), "it must be numbers"),
        (pa.table([pa.array([1]), pa.array([2])], names=["x", "x"]), "the data has the column 'x' more than once"),
    ],
)
def test_what_is_no_recording_is_refused_in_a_sentence(source: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        frames(source)


def test_arrays_are_features_and_their_bytes_in_any_order() -> None:
    rows = np.arange(6.0).reshape(3, 2)
    for array in (rows, rows.astype(">f4"), np.asfortranarray(rows), rows.astype(np.float16), rows.astype(np.int8)):
        assert frames(array).features[:].tolist() == rows.tolist()
        assert frames({"features": array, "action": array}).actions is not None


def test_actions_are_kept_beside_the_features_and_may_be_unknown() -> None:
    found = frames({"x": X, "action": [[0.5, None]] * ROWS, "button": [1] * ROWS}, actions=["button"])
    assert found.schema.names == ("x",)
    assert found.action_names == ("action_0", "action_1", "button")
    assert found.actions is not None
    np.testing.assert_array_equal(found.actions, [[0.5, np.nan, 1]] * ROWS)
    np.testing.assert_array_equal(found.take(np.arange(3)).actions, found.actions[:3])
    named = frames({"x": X, "action": ["left"] * ROWS})
    assert named.actions is None
    assert "holds string, not numbers" in {column.name: column.why for column in named.roles}["action"]


def test_structs_are_columns_by_their_paths() -> None:
    table = pa.table({"obs": [{"pos": {"x": 1.0, "y": 2.0}, "hp": 3}] * 2, "infos": [{"lives": 3}] * 2})
    found = dict(zip(frames(table).schema.names, frames(table).features[0].tolist(), strict=True))
    assert found == {"obs.pos.x": 1, "obs.pos.y": 2, "obs.hp": 3}


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"done": [False, False, True] * 4}, "'done'"),
        ({"terminated": [0, 0, 1] * 4, "truncated": [0] * 12}, "'terminated'"),
        ({"terminals": [0.0] * 12, "timeouts": [False, False, True] * 4}, "'timeouts'"),
        ({"is_first": [True, False, False] * 4, "is_last": [False, False, True] * 4}, "'is_first' or 'is_last'"),
        ({"episode_starts": [1, 0, 0] * 4}, "'episode_starts'"),
    ],
)
def test_a_game_ends_where_a_flag_says_so_if_no_column_tells_games_apart(flags: dict[str, Any], says: str) -> None:
    found = frames({"x": X, **flags})
    assert found.schema.names == ("x",)
    assert found.episode.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert found.frame is not None
    assert found.frame.tolist() == [0, 1, 2] * 4
    assert any(f"one ends where {says} says so" in note for note in found.notes)
    # What a column says wins, and a flag that is left out by choice says nothing.
    assert set(frames({"x": X, "episode": [7] * 12, **flags}).episode.tolist()) == {7}
    assert frames({"x": X, **flags}, exclude=[*flags]).independent


def test_flags_that_never_rise_or_count_tell_no_games_apart() -> None:
    why = {
        "is 0 in every row": [False] * ROWS,
        "holds other numbers than 0 and 1": [0, 1, 2] * 4,
        "is string, and not 0 and 1": ["no", "yes"] * (ROWS // 2),
    }
    for said, flag in why.items():
        found = frames({"x": X, "done": flag})
        assert found.independent
        assert found.notes[0].startswith(f"'done' {said}, so it tells no games apart, and every row is taken for one")


def hdf5(path: Path, groups: dict[str, dict[str, Any]]) -> Path:
    with pytest.importorskip("h5py").File(path, "w") as file:
        for name, arrays in groups.items():
            for key, array in arrays.items():
                file[f"{name}/{key}"] = array
    return path


def game(length: int, start: float) -> dict[str, Any]:
    """As Minari stores one, whose last observation no action follows."""
    return {
        "observations/goal": np.full((length + 1, 2), start),
        "observations/hp": np.arange(length + 1.0),
        "actions": np.full((length, 1), start),
        "rewards": np.zeros(length),
        "terminations": np.zeros(length, bool),
        "truncations": np.arange(length) == length - 1,
        "infos/lives": np.zeros(3),
    }


def check_games(found: Frames) -> None:
    assert found.schema.names == ("observations.goal_0", "observations.goal_1", "observations.hp")
    assert found.features[:, 0].tolist() == [0.5] * 4 + [1.5] * 3
    assert found.frame is not None
    assert found.frame.tolist() == [0, 1, 2, 3, 0, 1, 2]
    assert np.unique(found.episode, return_counts=True)[1].tolist() == [4, 3]
    assert found.actions is not None
    np.testing.assert_array_equal(found.actions[:, 0], [0.5, 0.5, 0.5, np.nan, 1.5, 1.5, np.nan])


def test_minaris_hdf5_is_read_as_it_is_on_disk(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "metadata.json").write_text("{}")
    path = hdf5(tmp_path / "data" / "main_data.hdf5", {"episode_0": game(3, 0.5), "episode_10": game(2, 1.5)})
    for source in (tmp_path, path):
        check_games(frames(source))


@pytest.mark.parametrize("kind", ["arrow", "parquet"])
def test_minaris_arrow_and_parquet_are_read_as_they_are_on_disk(kind: str, tmp_path: Path) -> None:
    data = tmp_path / "data"
    for number, (length, start) in enumerate([(3, 0.5), (2, 1.5)]):
        made = game(length, start)
        padded = {name: np.concatenate([made[name], made[name][:1] * 0]) for name in ("actions", "rewards")}
        flags = {name: [*made[name].tolist(), False] for name in ("terminations", "truncations")}
        goal = pa.FixedSizeListArray.from_arrays(made["observations/goal"].ravel(), 2)
        observations = pa.StructArray.from_arrays([goal, pa.array(made["observations/hp"])], ["goal", "hp"])
        actions = pa.FixedSizeListArray.from_arrays(padded["actions"].ravel(), 1)
        columns = {"observations": observations, "actions": actions, "rewards": padded["rewards"], **flags}
        table = pa.table({"episode_id": np.full(length + 1, number), **columns})
        ds.write_dataset(table, data, format=kind, partitioning=["episode_id"],
                         existing_data_behavior="overwrite_or_ignore")  # fmt: skip
        (data / str(number) / "metadata.json").write_text(json.dumps({"id": number}))
    (data / "metadata.json").write_text("{}")
    for source in (tmp_path, data):
        check_games(frames(source))


def test_d4rls_hdf5_is_cut_into_games_by_its_flags(tmp_path: Path) -> None:
    arrays = {
        "observations": np.arange(12.0).reshape(6, 2),
        "actions": np.zeros((6, 3)),
        "rewards": np.zeros(6),
        "terminals": np.array([False] * 6),
        "timeouts": np.array([False, False, True] * 2),
        "metadata/algorithm": np.zeros(2),
    }
    found = frames(hdf5(tmp_path / "halfcheetah.hdf5", {"": arrays}))
    assert found.schema.names == ("observations_0", "observations_1")
    assert found.episode.tolist() == [0, 0, 0, 1, 1, 1]
    assert found.action_names == ("actions_0", "actions_1", "actions_2")


def test_robomimics_hdf5_is_read(tmp_path: Path) -> None:
    demo = {"obs/pos": np.ones((3, 2)), "actions": np.ones((3, 1)), "dones": np.zeros(3)}
    found = frames(hdf5(tmp_path / "demo.h5", {"data/demo_0": demo, "data/demo_1": demo}))
    assert found.schema.names == ("obs.pos_0", "obs.pos_1")
    assert found.episode.tolist() == [0, 0, 0, 1, 1, 1]


def test_numbers_of_hdf5_are_read_in_either_order_of_bytes(tmp_path: Path) -> None:
    arrays = {"obs": np.arange(6.0).reshape(3, 2).astype(">f4"), "frame": np.arange(3).astype(">i8")}
    found = frames(hdf5(tmp_path / "games.h5", {"": arrays}))
    assert found.features[:].tolist() == [[0, 1], [2, 3], [4, 5]]
    assert found.frame is not None
    assert found.frame.tolist() == [0, 1, 2]


def test_links_of_hdf5_to_other_files_are_not_followed(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    hdf5(tmp_path / "secret.h5", {"": {"x": np.ones(3)}})
    with h5py.File(hdf5(tmp_path / "games.h5", {"": {"obs": np.ones((3, 2))}}), "a") as file:
        file["x"] = h5py.ExternalLink("secret.h5", "/x")
        file["y"] = h5py.SoftLink("/obs")
        file.create_dataset("z", (3,), "u1", external=[(str(tmp_path / "secret.h5"), 0, 3)])
        file["in/in"] = file["/"]
    with pytest.raises(ValueError, match="more than 8 deep"):
        frames(tmp_path / "games.h5")
    with h5py.File(tmp_path / "games.h5", "a") as file:
        del file["in"]
    assert frames(tmp_path / "games.h5").schema.names == ("obs_0", "obs_1")


def test_streams_of_arrow_are_read_as_files_are(tmp_path: Path) -> None:
    """The datasets of Hugging Face are stored so."""
    table = pa.table({"x": X, "z": Z})
    with ipc.new_stream(tmp_path / "data.arrow", table.schema) as stream:
        stream.write_table(table)
    assert frames(tmp_path).features[:].tolist() == np.stack([X, Z], 1).astype(np.float32).tolist()


def test_folders_named_after_splits_are_splits(tmp_path: Path) -> None:
    for split in ("train", "validation", "test"):
        (tmp_path / split).mkdir()
        pq.write_table(pa.table(COLUMNS), tmp_path / split / "part-0.parquet")
    found = frames(tmp_path, episode="game")
    assert found.split is not None
    assert sorted(found.split.tolist()) == ["test"] * ROWS + ["train"] * ROWS + ["val"] * ROWS


def test_what_a_folder_or_a_pattern_also_holds_is_said(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    for name in ("a.parquet", "b.parquet", "below/c.parquet"):
        pq.write_table(pa.table(COLUMNS), tmp_path / name)
    np.save(tmp_path / "embedded.npy", np.zeros((3, 3)))
    (tmp_path / "schema.json").write_text("{}")
    (tmp_path / "README.md").write_text("# Games")
    found = frames(tmp_path, episode="game")
    assert len(found) == 2 * ROWS
    (said,) = found.notes
    assert "also holds c.parquet, embedded.npy, which is not read beside its Parquet (a.parquet, b.parquet)" in said
    (said,) = frames(f"{tmp_path}/[aR]*", episode="game").notes
    assert "also matches README.md, whose endings are not those of recordings: not read" in said
    assert frames(f"{tmp_path}/[as]*", episode="game").notes == ()
    assert len(frames([tmp_path / "a.parquet", tmp_path / "below"], episode="game")) == 2 * ROWS
    with pytest.raises(ValueError, match=r"a\.parquet is named twice"):
        frames([tmp_path / "a.parquet", tmp_path / "a.parquet"])
    (tmp_path / "below" / "link.parquet").symlink_to(tmp_path / "a.parquet")
    (tmp_path / "link").symlink_to(tmp_path / "a.parquet")
    for source in ([tmp_path / "a.parquet", tmp_path / "below"], [tmp_path / "a.parquet", tmp_path / "link"]):
        with pytest.raises(ValueError, match=r"link.* leads to the same file as .*a\.parquet; name every file once"):
            frames(source)
    # Files of several kinds are read together where all are meant.
    pa.csv.write_csv(pa.table(COLUMNS), tmp_path / "a.csv")
    assert len(frames(f"{tmp_path}/a.*", episode="game")) == 2 * ROWS


def test_numbers_that_float32_would_round_are_said() -> None:
    found = frames({"x": X, "wall": 1.7e9 + X, "id": np.arange(ROWS) + 2**40, "far": X * 1e9})
    assert [note.partition(" goes")[0] for note in found.notes] == ["'wall'", "'id'"]
    assert "float32 rounds such numbers to multiples of 128" in found.notes[0]


def test_without_h5py_a_line_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "games.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    monkeypatch.setitem(sys.modules, "h5py", None)
    done = CliRunner().invoke(app, ["inspect", str(tmp_path / "games.h5")])
    assert done.exit_code == 1
    assert done.output.endswith("games.h5: to read HDF5 takes h5py; install it with: pip install h5py\n")
