from pathlib import Path

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf

from bundle.folders import BundleError
from bundle.novelty import Novelty
from bundle.reader import read_bundle
from tests.support.bundles import TinyModel, write_manifest

TINY = TinyModel(heads=True)
COLUMNS = {
    "columns_mean": np.zeros(10, np.float32),
    "columns_residuals": np.eye(10, dtype=np.float32),
    "columns_flags": np.zeros((2, 10), np.float32),
    "columns_quantiles": np.linspace(0, 1, 101, dtype=np.float32),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return TINY.write(tmp_path)


def test_distances_are_those_of_the_formula_and_percentiles_their_place_among_held_out_frames(folder: Path) -> None:
    novelty = read_bundle(folder).novelty
    assert novelty is not None
    embeddings = TINY.encode(TINY.rows(5))
    expected = [np.sqrt(sum(((e[i] - 0.25) * (i + 1)) ** 2 for i in range(4))) for e in embeddings]
    np.testing.assert_allclose(novelty.distances(embeddings), expected, rtol=1e-5)
    centre = np.full((1, 4), 0.25, np.float32)
    along = np.array([[1, 0, 0, 0]], np.float32)
    # The quantiles rise evenly from 0.5 to 4.
    percentiles = [novelty.percentiles(centre + distance * along)[0] for distance in (0, 0.5, 2.25, 4, 100)]
    np.testing.assert_allclose(percentiles, [0, 0, 50, 100, 100], atol=1e-4)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"mean": np.zeros(5, np.float32)}, r"mean has shape \[5\]; it must be \[4\]"),
        ({"whitening": np.zeros((4, 5), np.float32)}, r"it must be \[4, 4\]"),
        ({"whitening": np.full((4, 4), np.nan)}, "whitening holds NaN"),
        ({"whitening": np.eye(4, k=1).T}, "whitening is stored column by column; store it row by row"),
        ({"quantiles": np.zeros(100, np.float32)}, r"it must be \[101\]"),
        ({"quantiles": np.linspace(1, 0, 101)}, "quantiles must not fall"),
        ({"columns_mean": np.zeros(10, np.float32)}, "lacks columns_residuals, columns_flags, columns_quantiles"),
        (COLUMNS | {"columns_residuals": np.zeros((10, 9), np.float32)}, r"it must be \[10, 10\]"),
        (COLUMNS | {"columns_flags": np.full((2, 10), np.inf)}, "columns_flags holds NaN or an infinite number"),
        (COLUMNS | {"columns_quantiles": np.linspace(1, 0, 101)}, "columns_quantiles must not fall"),
    ],
)
def test_arrays_that_make_no_sense_are_refused(folder: Path, change: dict[str, np.ndarray], complaint: str) -> None:
    np.savez(folder / "novelty.npz", **(TINY.novelty() | change))
    write_manifest(folder, TINY.manifest())
    with pytest.raises(BundleError, match=complaint):
        _ = read_bundle(folder).novelty


def test_what_is_written_is_read_again(folder: Path) -> None:
    drawn = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
    novelty = Novelty.fit(drawn, drawn)
    novelty.write(folder / "novelty.npz")
    write_manifest(folder, TINY.manifest())
    again = read_bundle(folder).novelty
    assert again is not None
    np.testing.assert_array_equal(again.whitening, novelty.whitening)


def test_distances_are_mahalanobis_by_the_covariance_of_ledoit_and_wolf() -> None:
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(8, 8))
    training = (rng.normal(size=(200, 8)) @ mix + 3).astype(np.float32)
    held_out = (rng.normal(size=(500, 8)) @ mix + 3).astype(np.float32)
    novelty = Novelty.fit(training, held_out)
    expected = np.sqrt(LedoitWolf().fit(training).mahalanobis(held_out))
    np.testing.assert_allclose(novelty.distances(held_out), expected, rtol=1e-3)
    assert 49 < novelty.percentiles(held_out).mean() < 51
    assert novelty.percentiles(np.full((1, 8), 1e3, np.float32)) == 100


def test_embeddings_with_dead_dimensions_have_distances_too() -> None:
    rows = np.zeros((50, 4), np.float32)
    rows[:, 0] = np.arange(50)
    distances = Novelty.fit(rows, rows).distances(rows + np.float32(1))
    assert np.isfinite(distances).all()
    assert distances.min() > 1
    assert np.isfinite(Novelty.fit(np.zeros((5, 4), np.float32), rows).whitening).all()
