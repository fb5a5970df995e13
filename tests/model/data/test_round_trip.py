"""Whatever a table holds, and in whatever form, order and number of files, the same rows are read back; of what is left
of a damaged file, something is read or a sentence says what is wrong."""

import itertools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.data.frames import read_frames
from tests.support.recordings import FLAT, FORMS, damages

NUMBERS = ("float32", "float64", "int8", "int16", "int32", "uint8", "bool")
NAMES = ("own_x", "hp", "z9", "Wide Name", "ä")


@st.composite
def tables(draw: st.DrawFn) -> tuple[dict[str, np.ndarray[Any, Any]], dict[str, Any]]:
    """Columns of features, and those that say which game and frame a row is from."""
    rows = draw(st.integers(1, 7))
    features = {}
    for name in draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True)):
        kind = np.dtype(draw(st.sampled_from(NUMBERS)))
        # Numbers that float32 has, and more than one of them.
        drawn = draw(st.lists(st.integers(0, 100), min_size=rows, max_size=rows))
        features[name] = np.array(drawn, np.float64).__truediv__(8 if kind.kind == "f" else 1).astype(kind)
    keys: dict[str, Any] = {}
    games = draw(st.lists(st.integers(0, 3), min_size=rows, max_size=rows))
    if draw(st.booleans()):
        keys["episode"] = [f"game-{game}" for game in games] if draw(st.booleans()) else games
    if draw(st.booleans()):
        keys["frame"] = draw(st.permutations(range(rows)))
    if draw(st.booleans()):
        keys["split"] = draw(st.lists(st.sampled_from(["train", "val", "test"]), min_size=rows, max_size=rows))
    return features, keys


@given(tables(), st.sampled_from([*FORMS]), st.data())
def test_a_table_is_read_back_from_every_form_and_order(drawn: Any, form: str, data: st.DataObject) -> None:
    features, keys = drawn
    rows = len(next(iter(features.values())))
    columns = {**features, **keys}
    order = data.draw(st.permutations([*columns]))
    table = pa.table({name: columns[name] for name in order})
    names = [name for name in order if name in features]
    expected = np.stack([features[name] for name in names], 1).astype(np.float32)
    if form not in FLAT and data.draw(st.booleans()):
        kind = np.result_type(*features.values())
        lists = [[*row] for row in np.stack([features[name] for name in names], 1).astype(kind).tolist()]
        table = table.drop_columns(names).append_column("obs", pa.array(lists))
        names = [f"obs_{i}" for i in range(len(names))]
    cuts = sorted(data.draw(st.sets(st.integers(1, rows), max_size=2)) | {0, rows})
    parts = [table.slice(start, stop - start) for start, stop in itertools.pairwise(cuts)]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / data.draw(st.sampled_from(["", "split=train", "a/b"]))
        folder.mkdir(parents=True, exist_ok=True)
        for number, part in enumerate(parts):
            shuffled = part.select(data.draw(st.permutations(part.column_names))) if number else part
            FORMS[form](shuffled, folder / f"{number}{form}")
        sources: list[Any] = [place, [folder / f"{number}{form}" for number in range(len(parts))], f"{folder}/*{form}"]
        frames = read_frames(data.draw(st.sampled_from(sources)))
    assert [*frames.schema.names] == names
    np.testing.assert_array_equal(frames.features, expected)
    if "frame" in keys:
        assert frames.frame is not None
        assert frames.frame.tolist() == [*keys["frame"]]
    if "split" in keys:
        assert frames.split is not None
        assert frames.split.tolist() == keys["split"]
    if "episode" in keys:
        file = np.repeat(np.arange(len(parts)), [len(part) for part in parts]).tolist()
        told = [*zip(frames.episode.tolist(), file, keys["episode"], strict=True)]
        games, in_file = {(episode, game) for episode, _, game in told}, {(at, game) for _, at, game in told}
        # A game of a file is one episode, and an episode is one game, which may go on in another file.
        assert len(games) == len({*frames.episode.tolist()}) <= len(in_file) == len({*told})
        if "frame" not in keys:
            assert len(games) == len(in_file)


@pytest.mark.parametrize("form", FORMS)
def test_of_a_damaged_file_something_is_read_or_a_sentence_names_it(form: str, tmp_path: Path) -> None:
    columns = {"episode": ["a", "a", "b", "b"], "frame": [0, 1, 0, 1], "x": [0.5, 1.5, 2.5, 3.5], "hp": [1, 2, 3, 4]}
    table = pa.table(columns if form in FLAT else columns | {"obs": [[0.0, 1.0]] * 4})
    path = tmp_path / form
    FORMS[form](table, path)
    good = path.read_bytes()
    said = []
    for content in damages(good, 1 + len(good) // 150):
        path.write_bytes(content)
        try:
            read_frames(path, missing="mean")
        except ValueError as error:
            said.append(str(error))
    assert len(said) > 20
    assert not [sentence for sentence in said if "\n" in sentence or len(sentence) > 1000]
