"""`jepa embed --forecast`; embeddings are tested beside training, in test_train.py."""

import numpy as np
import pytest
from typer.testing import CliRunner

from cli.main import app


def embed(*arguments):
    return CliRunner().invoke(app, ["embed", *map(str, arguments)])


@pytest.fixture
def rows(tiny, tmp_path):
    rows = tiny.rows(600)
    np.save(tmp_path / "rows.npy", rows)
    return rows


@pytest.mark.parametrize(("horizon", "index"), [(0, 0), (15, 2)])
def test_a_forecast_is_a_row_of_values_a_frame(models, tiny, rows, tmp_path, horizon, index):
    out = tmp_path / "values.npy"
    done = embed(models / "tiny", tmp_path / "rows.npy", "--out", out, "--forecast", "--horizon", horizon)
    assert done.exit_code == 0, done.output
    embeddings = tiny.encode(rows)
    if horizon:
        ones, frames = np.ones((600, 2), np.float32), np.full(600, horizon, np.float32)
        embeddings = tiny.predict(tiny.encode(rows, "context"), ones, frames)
    expected = tiny.values(embeddings, index)
    found = np.load(out)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.stack([*expected.values()], axis=1), rtol=1e-3, atol=1e-5)
    assert f"600 rows of {len(expected)}: {', '.join(expected)}" in " ".join(done.output.split())


@pytest.mark.usefixtures("rows")
def test_some_heads_are_written_in_the_order_of_their_names(models, tmp_path):
    path, out = tmp_path / "rows.npy", tmp_path / "values.npy"
    assert embed(models / "tiny", path, "--out", out, "--forecast").exit_code == 0
    whole = np.load(out)
    done = embed(models / "tiny", path, "--out", out, "--forecast", "--heads", "speed, damage")
    assert done.exit_code == 0, done.output
    np.testing.assert_allclose(np.load(out), whole[:, [5, 4]], rtol=1e-5)


@pytest.mark.usefixtures("rows")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--forecast", "--heads", "damag"], "did you mean 'damage'?"),
        (["--forecast", "--horizon", "14"], "0 (now), 6, 15; the nearest is 15"),
        (["--forecast", "--encoder", "context"], "--encoder goes with embeddings"),
        (["--heads", "damage"], "--heads and --horizon go with --forecast"),
        (["--horizon", "6"], "--heads and --horizon go with --forecast"),
    ],
)
def test_what_a_bundle_cannot_forecast_is_said_before_anything_is_computed(models, tmp_path, options, message):
    done = embed(models / "tiny", tmp_path / "rows.npy", "--out", tmp_path / "values.npy", *options)
    assert done.exit_code == 1
    assert message in str(done.exception) + " ".join(done.output.split())
    assert not (tmp_path / "values.npy").exists()
