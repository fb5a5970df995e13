"""HDF5 as programs lay it out: which groups are games, and what is said of what is not read."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.data.frames import Frames, read_frames

h5py = pytest.importorskip("h5py")


def written(folder: Path, arrays: dict[str, Any]) -> Path:
    path = folder / "games.h5"
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array
    return path


def games(*names: str, lengths: tuple[int, ...] = (4, 3)) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for number, (name, length) in enumerate(zip(names, lengths, strict=True)):
        made |= {f"{name}/x": np.arange(length) + number / 2, f"{name}/z": np.full(length, number)}
    return made


def columns(found: Frames) -> dict[str, list[float]]:
    return {name: found.features[:, i].tolist() for i, name in enumerate(found.schema.names)}


@pytest.mark.parametrize(
    "names",
    [
        ("game_0", "game_1"),
        ("0", "1"),
        ("data/demo_0", "data/demo_1"),
        ("Match 7", "Match 10"),
        ("replay-1", "replay-2"),
    ],
)
def test_groups_that_are_numbered_are_games_however_long_they_are(names: tuple[str, str], tmp_path: Path) -> None:
    found = read_frames(written(tmp_path, games(*names)))
    assert columns(found) == {"x": [0, 1, 2, 3, 0.5, 1.5, 2.5], "z": [0] * 4 + [1] * 3}
    assert np.unique(found.episode, return_counts=True)[1].tolist() == [4, 3]
    assert found.frame is not None
    assert found.frame.tolist() == [0, 1, 2, 3, 0, 1, 2]


def test_groups_of_other_names_are_games_where_their_arrays_differ_in_length(tmp_path: Path) -> None:
    found = read_frames(written(tmp_path, games("alice", "bob")))
    assert columns(found)["x"] == [0, 1, 2, 3, 0.5, 1.5, 2.5]
    assert found.episode_names == ("alice", "bob")


def test_groups_of_one_length_stand_side_by_side(tmp_path: Path) -> None:
    found = read_frames(written(tmp_path, games("own", "opp", lengths=(4, 4))))
    assert found.schema.names == ("opp.x", "opp.z", "own.x", "own.z")


def test_numbered_arrays_are_no_games(tmp_path: Path) -> None:
    assert read_frames(written(tmp_path, {"0": np.zeros(3), "1": np.ones(3)})).schema.names == ("0", "1")


def test_robomimics_masks_are_splits_where_they_hold_every_game(tmp_path: Path) -> None:
    masks = {"mask/train": np.array([b"demo_0"]), "mask/valid": np.array([b"demo_1"]), "mask/20_percent": [b"demo_1"]}
    path = written(tmp_path, games("data/demo_0", "data/demo_1") | masks)
    found = read_frames(path)
    assert found.schema.names == ("x", "z")
    assert found.split is not None
    assert found.split.tolist() == ["train"] * 4 + ["val"] * 3
    with h5py.File(path, "a") as file:
        del file["mask/train"]
    assert read_frames(path).split is None


def test_the_frames_that_a_game_counts_itself_are_kept(tmp_path: Path) -> None:
    found = read_frames(written(tmp_path, games("game_0", "game_1") | {
        "game_0/step": np.arange(4) * 4, "game_1/step": np.arange(3) * 4 + 100,
    }))  # fmt: skip
    assert found.frame is not None
    assert found.frame.tolist() == [0, 4, 8, 12, 100, 104, 108]


def test_arrays_of_another_length_are_said_and_the_longest_of_equally_many_are_read(tmp_path: Path) -> None:
    arrays = {"a_short": np.zeros(2), "x": np.arange(5.0), "text/names": [b"x"]}
    found = read_frames(written(tmp_path, arrays))
    assert columns(found) == {"x": [0, 1, 2, 3, 4]}
    (note,) = found.notes
    assert note.startswith(
        "games.h5 also holds 'a_short' [2], 'text.names' [1]: only arrays with an entry for each row"
    )


def test_what_pandas_writes_is_refused_with_the_way_to_save_it(tmp_path: Path) -> None:
    path = written(tmp_path, {"df/axis0": [b"x"], "df/axis1": np.arange(3), "df/block0_values": np.ones((3, 1))})
    with h5py.File(path, "a") as file:
        file["df"].attrs["pandas_type"] = "frame"
    with pytest.raises(ValueError, match=r"holds 'df', a DataFrame .*DataFrame\.to_parquet"):
        read_frames(path)


def test_arrays_of_records_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, {"t": np.zeros(3, [("x", "f4"), ("z", "f8")])})
    with pytest.raises(ValueError, match=r"games\.h5 has 't' of .*save each of its fields as an array of its own"):
        read_frames(path)
