"""The frames and the map that a bundle holds for people to look at."""

import io

import numpy as np
import pytest

from bundle import sample
from bundle.folders import BundleError
from bundle.manifest import read_manifest
from bundle.sample import principal_components, sample_bytes
from tests.support.bundles import TinyModel, write_manifest

PLANE = {"mean": [0.0] * 4, "components": [[1.0, 0, 0, 0], [0, 1.0, 0, 0]], "explained": [0.5, 0.25], "source": "x"}


def test_a_sample_holds_the_frames_as_they_were():
    frames = np.asfortranarray(TinyModel().rows(30))
    with np.load(io.BytesIO(sample_bytes(frames))) as arrays:
        np.testing.assert_array_equal(arrays["features"], frames)
        assert arrays["features"].flags.c_contiguous


def test_a_sample_that_would_not_be_served_is_not_written(monkeypatch):
    monkeypatch.setattr(sample, "MAX_SAMPLE_BYTES", 1000)
    with pytest.raises(ValueError, match="at most 1000 are served"):
        sample_bytes(TinyModel().rows(100))


def test_the_map_is_that_of_the_singular_value_decomposition():
    rows = np.random.default_rng(0).normal(size=(500, 6)) * [1, 5, 1, 3, 1, 1] + 7
    found = principal_components(rows.astype(np.float32), "made up")
    _, sizes, directions = np.linalg.svd(rows - rows.mean(0), full_matrices=False)
    np.testing.assert_allclose(found["mean"], rows.mean(0), rtol=1e-4)
    np.testing.assert_allclose(np.abs(found["components"]), np.abs(directions[:2]), atol=1e-4)
    np.testing.assert_allclose(found["explained"], sizes[:2] ** 2 / (sizes**2).sum(), rtol=1e-4)
    assert all(max(each, key=abs) > 0 for each in found["components"])


@pytest.mark.parametrize(
    "rows", [np.ones((9, 4)), np.ones((1, 4)), np.outer(np.arange(9), [1, 0, 0, 0]), np.arange(9.0)[:, None]]
)
def test_a_map_of_fewer_than_two_directions_has_zeros_for_the_others(rows):
    found = principal_components(rows, "made up")
    assert np.isfinite(found["components"]).all()
    assert found["explained"][1] == pytest.approx(0)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"sample": {"rows": 3, "rate": 60, "source": "x"}}, "files lacks sample.npz"),
        ({"sample": {"rows": 0, "rate": 60, "source": "x"}}, "sample.rows"),
        ({"sample": {"rows": 3, "rate": 0, "source": "x"}}, "sample.rate"),
        ({"map": PLANE | {"mean": [0.0] * 5}}, "map needs 4 numbers"),
        ({"map": PLANE | {"components": [[0.0] * 4, [0.0] * 3]}}, "map needs 4 numbers"),
        ({"map": PLANE | {"components": [[0.0] * 4]}}, "map.components"),
        ({"map": PLANE | {"explained": [1.0]}}, "map.explained"),
    ],
)
def test_a_bundle_whose_sample_or_map_cannot_be_is_refused(tmp_path, extra, message):
    model = TinyModel(extra=extra)
    folder = model.write(tmp_path)
    with pytest.raises(BundleError, match=message):
        read_manifest(folder)


def test_a_manifest_with_a_sample_and_a_map_is_read(tmp_path):
    model = TinyModel(extra={"sample": {"rows": 3, "rate": 15.5, "source": "x"}, "map": PLANE})
    folder = model.write(tmp_path)
    (folder / "sample.npz").write_bytes(sample_bytes(model.rows(3)))
    write_manifest(folder, model.manifest())
    manifest = read_manifest(folder)
    assert manifest.sample.rate == 15.5
    assert manifest.map.explained == [0.5, 0.25]
