import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bundle.schema import Group
from model.data.descriptions import class_names
from model.data.frames import read_frames
from model.data.splits import rows_ahead, split_rows


def write(path, metadata=None, **columns):
    table = pa.table(columns)
    pq.write_table(table.replace_schema_metadata(metadata), path)
    return path


@pytest.fixture
def parquet(tmp_path):
    return write(
        tmp_path / "frames.parquet",
        {"groups": json.dumps([["own", 0, 1], ["rest", 1, 3]])},
        episode=[0, 0, 0, 1, 1],
        frame=[-2, -1, 0, 5, 6],
        split=["train"] * 3 + ["val"] * 2,
        a=np.arange(5, dtype=np.float32),
        b=np.arange(5, dtype=np.uint8),
        c=[0.5] * 5,
        action=[1] * 5,
        reward=[0.0] * 5,
        y_jump=[0, 1, -1, 0, 1],
    )


def test_features_are_all_columns_but_the_reserved_ones(parquet):
    frames = read_frames(parquet)
    assert frames.schema.names == ("a", "b", "c")
    assert frames.schema.groups == (Group("own", 0, 1), Group("rest", 1, 3))
    np.testing.assert_array_equal(frames.features[:, 1], range(5))
    assert frames.labels["y_jump"].tolist() == [0, 1, -1, 0, 1]


def test_a_pattern_picks_features_and_keep_their_groups(parquet):
    frames = read_frames(parquet, features="[ab]")
    assert frames.schema.names == ("a", "b")
    assert [g.name for g in frames.schema.groups] == ["own", "rest"]
    assert [g.name for g in read_frames(parquet, features="*").schema.groups] == [
        "a",
        "b",
        "c",
        "action",
        "reward",
        "y_jump",
    ]


def test_a_schema_beside_the_data_names_the_groups(tmp_path):
    path = write(tmp_path / "frames.parquet", a=[1.0], b=[2.0], c=[3.0])
    groups = [{"name": "x", "start": 0, "stop": 2}, {"name": "y", "start": 2, "stop": 3}]
    (tmp_path / "schema.json").write_text(json.dumps({"groups": groups}))
    assert read_frames(path).schema.groups == (Group("x", 0, 2), Group("y", 2, 3))


def test_a_folder_and_a_glob_are_read_in_the_order_of_their_names(tmp_path):
    for i in (2, 0, 1):
        write(tmp_path / f"{i}.parquet", a=[float(i)])
    assert read_frames(tmp_path).features[:, 0].tolist() == [0, 1, 2]
    assert read_frames(str(tmp_path / "[12].parquet")).features[:, 0].tolist() == [1, 2]


def test_a_features_list_column_is_the_matrix(tmp_path):
    frames = read_frames(write(tmp_path / "f.parquet", features=[[1.0, 2.0], [3.0, 4.0]], episode=[0, 1]))
    assert frames.features[:].tolist() == [[1, 2], [3, 4]]
    assert frames.frame is None


def test_npy_and_npz_are_read(tmp_path):
    rows = np.arange(12, dtype=np.float32).reshape(4, 3)
    np.save(tmp_path / "rows.npy", rows)
    np.savez(tmp_path / "rows.npz", features=rows, episode=[0, 0, 1, 1], y_win=[1, 1, 0, 0])
    np.testing.assert_array_equal(read_frames(tmp_path / "rows.npy").features, rows)
    frames = read_frames(tmp_path / "rows.npz")
    assert frames.episode.tolist() == [0, 0, 1, 1]
    assert frames.labels["y_win"].tolist() == [1, 1, 0, 0]


def test_what_cannot_be_read_is_named(tmp_path, parquet):
    with pytest.raises(FileNotFoundError, match="no such file, no Parquet file in it"):
        read_frames(tmp_path / "missing")
    with pytest.raises(ValueError, match=r"no column matches 'ram_\*'"):
        read_frames(parquet, features="ram_*")
    with pytest.raises(ValueError, match="b is nan in row 1"):
        read_frames(write(tmp_path / "nan.parquet", a=[1.0, 2.0], b=[1.0, float("nan")]))
    with pytest.raises(ValueError, match="column 'name' is string"):
        read_frames(write(tmp_path / "text.parquet", a=[1.0], name=["fox"]))
    np.savez(tmp_path / "bad.npz", rows=np.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"no array 'features' \(it has \['rows'\]\)"):
        read_frames(tmp_path / "bad.npz")
    (tmp_path / "two").mkdir()
    write(tmp_path / "two" / "0.parquet", a=[1.0])
    write(tmp_path / "two" / "1.parquet", b=[1.0])
    with pytest.raises(ValueError, match=r"1.parquet has other columns than 0.parquet"):
        read_frames(tmp_path / "two")


def test_labels_are_any_columns_of_whole_numbers_named_by_pattern(tmp_path):
    path = write(
        tmp_path / "frames.parquet", px_0=[0.5, 0.5], ram_030=pa.array([200, 7], pa.uint8()), ram_031=[1.0, None],
        flag=[True, False], action=[3, 4],
    )  # fmt: skip
    frames = read_frames(path, features="px_*", labels=["ram_03*", "flag", "action"])
    assert {name: values.tolist() for name, values in frames.labels.items()} == {
        "ram_030": [200, 7],
        "ram_031": [1, -1],
        "flag": [1, 0],
        "action": [3, 4],
    }
    np.savez(tmp_path / "rows.npz", features=np.zeros((2, 3)), ram_030=[1.0, np.nan], y_win=[0, 1])
    assert list(read_frames(tmp_path / "rows.npz", labels=["ram_*"]).labels) == ["ram_030"]
    assert read_frames(tmp_path / "rows.npz", labels=()).labels == {}


@pytest.mark.parametrize("values", [[0.5, 1.0], ["a", "b"], [np.inf, 1.0]])
def test_a_label_that_is_no_whole_numbers_is_refused(tmp_path, values):
    path = write(tmp_path / "frames.parquet", a=[1.0, 2.0], y_x=values)
    with pytest.raises(ValueError, match=rf"label 'y_x' holds {values[0]}, {values[1]} …; labels are whole numbers"):
        read_frames(path, labels="y_*")


def test_a_label_that_is_a_feature_is_refused(parquet, tmp_path):
    with pytest.raises(ValueError, match="a, b: a label that is also a feature tells nothing"):
        read_frames(parquet, features="[ab]", labels=["[ab]"])
    assert read_frames(parquet, labels=["[ab]"]).schema.names == ("c",)
    assert list(read_frames(parquet, features="[ac]", labels=["b"]).labels) == ["b"]
    np.savez(tmp_path / "rows.npz", features=np.zeros((2, 3)), f001=[0, 1])
    with pytest.raises(ValueError, match="f001: a label that is also a feature"):
        read_frames(tmp_path / "rows.npz", labels=["f*"])


def test_a_pattern_picks_columns_of_an_array_by_their_names(tmp_path):
    rows = np.arange(12, dtype=np.float32).reshape(4, 3)
    np.save(tmp_path / "rows.npy", rows)
    frames = read_frames(tmp_path / "rows.npy", features="f00[02]")
    assert frames.schema.names == ("f000", "f002")
    np.testing.assert_array_equal(frames.features, rows[:, [0, 2]])
    with pytest.raises(ValueError, match=r"no column matches 'ram_\*'; the columns are \['f000'"):
        read_frames(tmp_path / "rows.npy", features="ram_*")
    (tmp_path / "schema.json").write_text(json.dumps({"names": ["x", "y"]}))
    with pytest.raises(ValueError, match=r"names is a list of 2; it must list 3 strings"):
        read_frames(tmp_path / "rows.npy")


@pytest.mark.parametrize("name", ["episode", "frame", "split", "y_win"])
def test_an_array_of_another_length_than_the_features_is_refused(tmp_path, name):
    np.savez(tmp_path / "rows.npz", features=np.zeros((4, 2)), **{name: np.zeros(3, int)}, names=["a", "b"])
    with pytest.raises(ValueError, match=rf"rows.npz has {name} of shape \(3,\); it must be one number a row, \[4\]"):
        read_frames(tmp_path / "rows.npz")


def test_classes_are_called_what_schema_json_or_the_layouts_metadata_says(tmp_path):
    path = write(tmp_path / "frames.parquet", a=[1.0])
    assert class_names(path) == {}
    (tmp_path / "schema.json").write_text(json.dumps({"classes": {"y_win": ["lost", "won"]}}))
    np.save(tmp_path / "rows.npy", np.zeros((2, 1), np.float32))
    assert class_names(path) == class_names(tmp_path / "rows.npy") == {"y_win": ["lost", "won"]}
    write(path, {"layout": "melee287-v1", "coarse_classes": json.dumps(["idle", "hit"])}, a=[1.0])
    assert class_names(path)["y_act30"] == class_names(tmp_path)["y_opp_act30"] == ["idle", "hit"]
    assert "y_own_char" not in class_names(path)


def test_the_split_column_is_obeyed(parquet):
    train, val = split_rows(read_frames(parquet))
    assert (train.tolist(), val.tolist()) == ([0, 1, 2], [3, 4])


def test_a_split_is_by_episode_never_by_row(tmp_path):
    episode = np.repeat(np.arange(20), 7)
    np.savez(tmp_path / "rows.npz", features=np.zeros((140, 2), np.float32), episode=episode)
    train, val = split_rows(read_frames(tmp_path / "rows.npz"))
    assert not set(episode[train]) & set(episode[val])
    assert len(set(episode[val])) == 2
    assert len(train) + len(val) == 140


def test_without_val_in_the_split_column_episodes_of_train_are_held_out(tmp_path):
    episode = np.repeat(np.arange(5), 4)
    split = np.where(episode < 4, "train", "test")
    np.savez(tmp_path / "rows.npz", features=np.zeros((20, 2), np.float32), episode=episode, split=split)
    train, val = split_rows(read_frames(tmp_path / "rows.npz"))
    assert set(episode[train]) | set(episode[val]) == {0, 1, 2, 3}
    assert len(set(episode[val])) == 1
    np.savez(tmp_path / "rows.npz", features=np.zeros((20, 2), np.float32), split=np.full(20, "test"))
    with pytest.raises(ValueError, match=r"no 'train' \(it has \['test'\]\)"):
        split_rows(read_frames(tmp_path / "rows.npz"))


def test_one_episode_cannot_be_split(tmp_path):
    np.savez(tmp_path / "rows.npz", features=np.zeros((5, 2), np.float32), frame=np.arange(5))
    assert not read_frames(tmp_path / "rows.npz").independent
    with pytest.raises(ValueError, match="1 episode: nothing can be held out"):
        split_rows(read_frames(tmp_path / "rows.npz"))


@pytest.mark.parametrize("kind", ["npy", "parquet"])
def test_rows_with_neither_episode_nor_frame_are_independent_and_split_at_random(tmp_path, kind):
    if kind == "npy":
        path = tmp_path / "rows.npy"
        np.save(path, np.zeros((50, 2), np.float32))
    else:
        path = write(tmp_path / "rows.parquet", a=[0.0] * 50)
    frames = read_frames(path)
    assert frames.independent
    assert frames.take(np.arange(0, 50, 7)).independent
    train, val = split_rows(frames, seed=1)
    assert len(val) == 5
    assert sorted([*train, *val]) == list(range(50))
    assert val.tolist() != split_rows(frames, seed=2)[1].tolist()


def test_rows_ahead_stay_within_the_episode_and_count_frames(parquet):
    frames = read_frames(parquet)
    assert rows_ahead(frames, 0).tolist() == [0, 1, 2, 3, 4]
    assert rows_ahead(frames, 1).tolist() == [1, 2, -1, 4, -1]
    assert rows_ahead(frames, 2).tolist() == [2, -1, -1, -1, -1]
    shuffled = frames.take(np.array([4, 1, 3, 0, 2]))
    assert rows_ahead(shuffled, 1).tolist() == [-1, 4, 0, 1, -1]


def test_rows_without_frames_have_no_later_row(tmp_path):
    np.save(tmp_path / "rows.npy", np.zeros((5, 2), np.float32))
    with pytest.raises(ValueError, match="no 'frame' column"):
        rows_ahead(read_frames(tmp_path / "rows.npy"), 6)
