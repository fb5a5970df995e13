"""Frames that lie in files in place of memory are the same frames."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
import torch
from pyarrow.feather import write_feather

from model.data.frames import ARRAYS, Frames, read_frames
from model.data.kept import kept_frames
from model.data.lazy import in_parts
from model.data.matrix import Matrix
from model.data.recordings import recording
from model.data.splits import split_rows
from model.data.statistics import statistics_of
from model.data.symmetry import Symmetry
from model.training.recipe import Recipe
from model.training.run import prepare
from tests.support.games import NAMES, make_games

ROWS = 1200


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def columns(*, exact: bool = True) -> dict[str, np.ndarray]:
    """By name, of numbers that float16 holds (`exact`) or does not."""
    games = make_games(length=ROWS // 6)
    features = games.features[:]
    features = features.astype(np.float16).astype(np.float32) if exact else features
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
    assert frames.folder is not None
    assert np.load(frames.folder / "features.npy", mmap_mode="r").dtype == kind
    np.testing.assert_array_equal(np.asarray(frames.features), np.stack([values[name] for name in NAMES], 1))
    assert frames.features[3:5].dtype == frames.features[[1, 2]].dtype == np.float32


def test_a_second_call_finds_what_the_first_one_kept_and_reads_no_recording(tmp_path: Path) -> None:
    data, keep = recorded(tmp_path / "data", with_gaps("hide")), tmp_path / "kept"
    first = kept_frames(data, keep, missing="hide", in_memory_bytes=0)
    for path in data.iterdir():
        # Nobody can read it any more, but it looks the same from outside.
        before = path.stat()
        path.write_bytes(b"x" * before.st_size)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    again = kept_frames(data, keep, missing="hide", in_memory_bytes=0)
    assert again.folder == first.folder
    assert_same(first, again)
    os.utime(path)
    with pytest.raises(ValueError, match="cannot be read as Parquet"):
        kept_frames(data, keep, missing="hide", in_memory_bytes=0)


def test_other_options_are_read_anew_and_only_the_last_are_kept(tmp_path: Path) -> None:
    data, keep = recorded(tmp_path / "data", columns()), tmp_path / "kept"
    whole = kept_frames(data, keep, in_memory_bytes=0)
    (keep / "mine").mkdir()
    few = kept_frames(data, keep, features=["own_*"], in_memory_bytes=0)
    assert few.schema.names == ("own_x", "own_y", "own_action_id")
    assert {path for path in keep.iterdir() if path.is_dir()} == {few.folder, keep / "mine"}
    # What is mapped stays readable when it is gone from the disk.
    assert np.isfinite(np.asarray(whole.features)).all()
    (data / "schema.json").write_text('{"exclude": ["time"]}')
    assert "time" not in kept_frames(data, keep, in_memory_bytes=0).schema.names


def test_small_frames_are_not_kept(tmp_path: Path) -> None:
    frames = kept_frames(recorded(tmp_path / "data", columns()), tmp_path / "kept")
    assert frames.folder is None
    assert not [path for path in (tmp_path / "kept").iterdir() if path.is_dir()]


def test_symmetries_are_found_again(tmp_path: Path) -> None:
    data = recorded(tmp_path / "data", columns())
    sides = {"pairs": [["own_", "opp_"]], "negate": ["time"], "exchange": [["stage", 0, 2]]}
    (data / "schema.json").write_text(json.dumps({"sides": sides}))
    (symmetry,) = kept_frames(data, tmp_path / "kept", in_memory_bytes=0).symmetries
    (again,) = kept_frames(data, tmp_path / "kept", in_memory_bytes=0).symmetries
    assert Symmetry.from_dict(symmetry.as_dict()).exchange == again.exchange == symmetry.exchange
    for name in ("source", "sign", "hidden"):
        assert getattr(symmetry, name).equal(getattr(again, name))


def test_a_run_that_fails_while_it_reads_leaves_nothing(tmp_path: Path) -> None:
    values = columns()
    values["own_x"][-1] = np.inf
    with pytest.raises(ValueError, match="own_x is inf in row 1199"):
        kept_frames(recorded(tmp_path / "data", values), tmp_path / "kept", in_memory_bytes=0)
    assert not (tmp_path / "kept").exists()


def write_csv(table: pa.Table, path: Path) -> None:
    pa_csv.write_csv(table, path)


def write_arrays(table: pa.Table, path: Path) -> None:
    arrays: dict[str, Any] = {name: np.asarray(table[name].to_pylist()) for name in {*table.column_names} - {*NAMES}}
    arrays |= {"features": np.stack([table[name] for name in NAMES], 1), "episode": np.arange(len(table)) // 50}
    np.savez(path, **arrays)


@pytest.mark.parametrize(
    ("suffix", "write"), [(".csv", write_csv), (".feather", write_feather), (".npz", write_arrays)]
)
def test_files_of_other_kinds_are_the_same_read_into_files(suffix: str, write: Any, tmp_path: Path) -> None:
    table = pa.table({name: values for name, values in columns().items() if values.dtype != object})
    for i in range(3):
        write(table.slice(400 * i, 400), tmp_path / f"part-{i}{suffix}")
    assert_same(read_frames(tmp_path), read_frames(tmp_path, in_memory_bytes=0))


LISTS: dict[str, Any] = {
    "fixed": pa.FixedSizeListArray.from_arrays(pa.array(np.arange(40, dtype=np.float32)), 2),
    "variable": pa.array([[float(i), 2.0] for i in range(20)]),
}


@pytest.mark.parametrize("kind", LISTS)
def test_columns_of_lists_and_folders_that_name_a_column_are_read_in_parts(kind: str, tmp_path: Path) -> None:
    for episode in range(2):
        folder = tmp_path / f"episode={episode}"
        folder.mkdir()
        columns = {"observation.state": LISTS[kind], "frame": np.arange(20), "text": pa.array(["a"] * 20)}
        pq.write_table(pa.table(columns), folder / "part.parquet", row_group_size=7)
    options: dict[str, Any] = {"exclude": ["text"]}
    assert_same(read_frames(tmp_path, **options), read_frames(tmp_path, in_memory_bytes=0, **options))


def test_of_large_files_only_the_columns_that_are_asked_for_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "episode=3"
    folder.mkdir()
    state = [{"x": float(i), "hp": [i, i + 1]} for i in range(20)]
    pq.write_table(pa.table({"state": state, "wide": LISTS["fixed"], "frame": range(20)}), folder / "a.parquet")
    data = recording(folder.parent, in_memory_bytes=0)
    for asked in ("state.x", "state.hp", "wide", "frame"):
        parts = [*in_parts(data.table, 6, {asked})]
        assert [len(part) for part in parts] == [6, 6, 6, 2]
        assert {*parts[0].column_names} == {asked, "episode"}, "the folder's name is always known"
        assert pa.concat_tables(parts)[asked] == data.table[asked]
    assert [*pa.concat_tables(in_parts(data.table, 6, {"episode"}))["episode"].to_pylist()] == [3] * 20


def test_lists_of_other_lengths_further_on_are_refused(tmp_path: Path) -> None:
    lists = [[1.0, 2.0]] * 3000 + [[1.0]]
    pq.write_table(pa.table({"obs": lists}), tmp_path / "t.parquet", row_group_size=500)
    with pytest.raises(ValueError, match="obs"):
        read_frames(tmp_path, in_memory_bytes=0)


def test_statistics_are_those_of_all_rows_at_once_and_are_kept(tmp_path: Path) -> None:
    frames = kept_frames(recorded(tmp_path / "data", columns(exact=False)), tmp_path / "kept", in_memory_bytes=0)
    train, _ = split_rows(frames)
    found = statistics_of(frames, train)
    rows = np.asarray(frames.features)[np.asarray(train)].astype(np.float64)
    for name, want in {"mean": rows.mean(0), "std": rows.std(0), "min": rows.min(0), "max": rows.max(0)}.items():
        np.testing.assert_allclose(found[name], want, rtol=1e-6, atol=1e-7)
    assert frames.folder is not None
    assert len([*frames.folder.glob("statistics-*.npz")]) == 1
    for name, values in statistics_of(frames, train).items():
        np.testing.assert_array_equal(values, found[name])


def test_a_run_learns_the_same_from_files_as_from_memory(tmp_path: Path) -> None:
    data, recipe = recorded(tmp_path / "data", columns()), Recipe(embed_dim=16, horizons=(2, 5), batch_size=32)
    small, large = (
        prepare(frames, recipe)
        for frames in (read_frames(data), kept_frames(data, tmp_path / "kept", in_memory_bytes=0))
    )
    batches = [run.batches.draw(run.train_rows, 32, generator()) for run in (small, large)]
    for one, other in zip(*batches, strict=True):
        assert one is None or one.nan_to_num(-9).equal(other.nan_to_num(-9))
    for one, other in zip(small.jepa.state_dict().values(), large.jepa.state_dict().values(), strict=True):
        assert one.equal(other)
