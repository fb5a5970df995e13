"""`jepa sample`, as a user runs it."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from bundle.reader import read_bundle
from bundle.sample import principal_components
from cli.main import app
from model.data.frames import read_frames
from tests.support.bundles import TinyModel


@pytest.fixture
def game(tmp_path):
    """Two episodes of 50 frames, with the columns in another order than the model has them."""
    rows = TinyModel().rows(100)
    names = TinyModel().manifest()["schema"]["names"]
    columns = {name: rows[:, i] for i, name in reversed([*enumerate(names)])}
    path = tmp_path / "game.parquet"
    pq.write_table(pa.table({"episode": np.repeat([7, 8], 50), "frame": np.tile(np.arange(50), 2), **columns}), path)
    return path


def jepa(*arguments):
    return CliRunner().invoke(app, [*map(str, arguments)])


def test_a_new_version_has_the_frames_and_a_map_and_is_else_the_same(game, models, tmp_path):
    out = tmp_path / "out"
    done = jepa(
        "sample", models / "tiny", game, "--out", out, "--first", 50, "--rows", 40, "--rate", 15, "--source", "x"
    )
    assert done.exit_code == 0, done.output
    old, new = read_bundle(models / "tiny" / "1"), read_bundle(out / "tiny" / "1")
    with np.load(io.BytesIO((new.folder / "sample.npz").read_bytes())) as arrays:
        np.testing.assert_array_equal(arrays["features"], TinyModel().rows(100)[50:90])
    assert new.manifest.sample.model_dump() == {"rows": 40, "rate": 15.0, "source": "x"}
    expected = principal_components(TinyModel().encode(TinyModel().rows(100)), "100 rows of game.parquet")
    assert new.manifest.map.source == expected["source"]
    np.testing.assert_allclose(new.manifest.map.explained, expected["explained"], rtol=1e-3)
    before, after = (json.loads((each.folder / "bundle.json").read_text()) for each in (old, new))
    assert {name: after["files"][name] for name in before["files"]} == before["files"]
    assert after.keys() - before.keys() == {"sample", "map"}
    assert all(after[key] == before[key] for key in before.keys() - {"files"})


def test_a_bundle_that_has_a_sample_gets_the_new_one_as_its_next_version(game, models, tmp_path):
    for rows in (20, 30):
        source = tmp_path / "tiny" if rows == 30 else models / "tiny"
        assert jepa("sample", source, game, "--out", tmp_path, "--rows", rows).exit_code == 0
    assert read_bundle(tmp_path / "tiny" / "2").manifest.sample.rows == 30


def test_frames_with_gaps_can_be_asked_about_as_they_are_shown(game, models, tmp_path):
    table = pq.read_table(game)
    name, place = "stage_0", table.column_names.index("stage_0")
    gaps = pa.array([None if i % 4 == 0 else value.as_py() for i, value in enumerate(table[name])])
    pq.write_table(table.set_column(place, name, gaps), game)
    done = jepa("sample", models / "tiny", game, "--missing", "hide", "--out", tmp_path)
    assert done.exit_code == 0, done.output
    with np.load(tmp_path / "tiny" / "1" / "sample.npz") as arrays:
        shown = arrays["features"]
    assert np.isfinite(shown).all()
    at = TinyModel().manifest()["schema"]["names"].index(name)
    np.testing.assert_array_equal(np.delete(shown, at, axis=1), np.delete(TinyModel().rows(100)[:50], at, axis=1))
    mean = TinyModel().manifest()["statistics"]["mean"][at]
    np.testing.assert_allclose(shown[::4, at], mean, rtol=1e-5)


def test_a_sample_ends_with_its_game_where_nobody_says_how_long_it_is(game, models, tmp_path):
    assert jepa("sample", models / "tiny", game, "--out", tmp_path, "--first", 5).exit_code == 0
    episode = read_frames(game).episode
    rows = read_bundle(tmp_path / "tiny" / "1").manifest.sample.rows
    assert len({*episode[5 : 5 + rows].tolist()}) == 1
    assert episode[5 + rows] != episode[5]


@pytest.mark.parametrize("first", [20, 200])
def test_rows_of_two_games_and_rows_beyond_the_end_are_refused(game, models, tmp_path, first):
    done = jepa("sample", models / "tiny", game, "--out", tmp_path / "out", "--first", first, "--rows", 40)
    assert done.exit_code == 1
    assert "--first and --rows" in done.output
    assert not (tmp_path / "out").exists()
