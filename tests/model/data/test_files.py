"""Data that is damaged or odd is refused in a sentence that names it."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model.data.descriptions import class_names
from model.data.frames import read_frames

ROWS = 20
COLUMNS: dict[str, Any] = {
    "a": np.arange(ROWS, dtype=np.float32),
    "b": np.ones(ROWS, np.float32),
    "episode": np.repeat([0, 1], ROWS // 2),
    "frame": np.tile(np.arange(ROWS // 2), 2),
}


def parquet(path: Path, columns: dict[str, Any] = COLUMNS, **metadata: str) -> Path:
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata or None), path)
    return path


@pytest.mark.parametrize("layout", ["../evil", "../../../../evil", "evil", "/evil", "", "..", "melee287-v1.json", "\0"])
def test_a_layout_is_a_name_and_never_a_path(layout: str, tmp_path: Path) -> None:
    (tmp_path / "evil.json").write_text("no JSON")
    for name in (layout, layout.replace("evil", f"{tmp_path}/evil")):
        path = parquet(tmp_path / "t.parquet", layout=name, groups='[["all", 0, 2]]')
        assert read_frames(path).symmetries == ()
        assert class_names(path) == {}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"episode": [0, 0, 0, None] * 5},
            "column 'episode' has nothing in 5 rows, first in row 3; every row must say",
        ),
        ({"episode": [0.0, np.nan] * 10}, "column 'episode' has nothing in 10 rows, first in row 1"),
        ({"episode": ["a", None] * 10}, "column 'episode' has nothing in 10 rows, first in row 1"),
        (
            {"frame": [*range(9), None, *range(10)]},
            "whole number in every row, and row 9 has none: a frame counts rows",
        ),
        ({"frame": [None, *range(ROWS - 1)]}, "column 'frame' holds nan, 0.0, 1.0 …"),
        ({"frame": np.linspace(0, 1, ROWS)}, "column 'frame' holds 0.0, 0.05"),
        ({"features": ["x"] * ROWS}, "column 'features' is string; it must hold a list of numbers a row"),
        ({"features": [["x"]] * ROWS}, "column 'features' is list<.*string>; it must hold a list of numbers"),
        (
            {"features": [[1.0]] * (ROWS - 1) + [[1.0, 2.0]]},
            "different lengths, or empty ones: 1 in row 0, 2 in row 19",
        ),
        ({"features": np.ones(ROWS)}, "column 'features' is double; it must hold a list of numbers a row"),
        ({"features": [[1.0]] * (ROWS - 1) + [[]]}, "lists of different lengths, or empty ones"),
        ({"features": [[1.0]] * (ROWS - 1) + [None]}, "empty in 1 rows"),
        ({"features": [[1.0]] * (ROWS - 1) + [[None]]}, "f000 is nan in row 19; features must be finite"),
        ({"a": ["x"] * ROWS}, "column 'a' is string, not numbers"),
    ],
)
def test_a_column_that_is_not_what_it_should_be_is_named(columns: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        read_frames(parquet(tmp_path / "t.parquet", COLUMNS | columns))


@pytest.mark.parametrize("suffix", [".parquet", ".npy", ".npz"])
def test_data_without_rows_is_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"t{suffix}"
    if suffix == ".parquet":
        parquet(path, {"a": np.zeros(0)})
    elif suffix == ".npy":
        np.save(path, np.zeros((0, 3)))
    else:
        np.savez(path, features=np.zeros((0, 3)))
    with pytest.raises(ValueError, match=r"has no rows|record at least one row"):
        read_frames(path)


@pytest.mark.parametrize("groups", ["no JSON", "[" * 100_000, "", "5", '[["all", "x", 2]]'])
def test_groups_in_the_metadata_that_are_none_are_refused(groups: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="groups"):
        read_frames(parquet(tmp_path / "t.parquet", groups=groups))


@pytest.mark.parametrize(
    "symmetry",
    [5, [], "mirror", {"pairs": 5}, {"pairs": [5]}, {"exchange": [["a", {}, 1]]}, {"negat": ["a"]}],
)
@pytest.mark.parametrize("kind", ["sides", "mirror"])
def test_a_symmetry_that_is_none_is_refused(kind: str, symmetry: object, tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text(json.dumps({kind: symmetry}))
    with pytest.raises(ValueError, match=f"^{kind}"):
        read_frames(parquet(tmp_path / "t.parquet"))


def test_a_name_in_schema_json_that_is_not_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text('{"exlude": ["b"], "frame": "frame"}')
    (note,) = read_frames(parquet(tmp_path / "t.parquet")).notes
    assert note.startswith("schema.json says something under 'exlude', which is not read; it may say names, groups, ")


@pytest.mark.parametrize("classes", [5, [], {"y": 5}, {"y": {}}])
def test_classes_that_are_no_names_are_refused(classes: object, tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text(json.dumps({"classes": classes}))
    with pytest.raises(ValueError, match=r"classes is .* it must give each label a list"):
        class_names(parquet(tmp_path / "t.parquet"))


@pytest.mark.parametrize("text", ["no JSON", "[" * 100_000, "5", "[]"])
def test_a_schema_json_that_is_none_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text(text)
    with pytest.raises(ValueError, match=r"schema\.json"):
        read_frames(parquet(tmp_path / "t.parquet"))


@pytest.mark.parametrize("values", [np.array(["a"]), np.array([1j]), np.array([{}], object), np.zeros((2, 2, 2))])
def test_an_array_of_something_else_is_refused(values: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", values)
    with pytest.raises(ValueError, match=r"t\.npy"):
        read_frames(tmp_path / "t.npy")


def test_every_cut_and_every_flipped_byte_of_a_small_file_is_read_or_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "t.npz", features=np.ones((ROWS, 2), np.float32), frame=np.arange(ROWS))
    np.save(tmp_path / "t.npy", np.ones((ROWS, 2), np.float32))
    parquet(tmp_path / "t.parquet")
    for path in (tmp_path / "t.npz", tmp_path / "t.npy", tmp_path / "t.parquet"):
        good = path.read_bytes()
        cuts = (good[:length] for length in range(0, len(good), 13))
        flips = (good[:at] + bytes([good[at] ^ 0xFF]) + good[at + 1 :] for at in range(0, len(good), 11))
        for content in (*cuts, *flips):
            path.write_bytes(content)
            with suppress(ValueError):
                read_frames(path)
