from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bundle import column_novelty
from bundle.column_novelty import RIDGE, ColumnNovelty
from bundle.novelty import Novelty
from bundle.reader import read_bundle
from tests.support.bundles import TinyModel, write_manifest

TINY = TinyModel(heads=True)


def frames(count: int, seed: int) -> np.ndarray:
    """A place, its speed, the distance of both from a wall, a flag, a column that never changes, noise."""
    rng = np.random.default_rng(seed)
    place, speed, noise = rng.normal(size=(3, count))
    rows = [3 * place, speed, 3 * place - speed + 0.01 * rng.normal(size=count), place > 0, np.full(count, 7), noise]
    return np.stack(rows, axis=1).astype(np.float32)


@pytest.fixture(scope="module")
def measure() -> ColumnNovelty:
    found = ColumnNovelty.fit(frames(4000, 0), frames(2000, 1), 101)
    assert found is not None
    return found


def test_residuals_are_those_of_a_regression_on_the_other_columns(measure: ColumnNovelty) -> None:
    training = frames(4000, 0)
    z = (training[:, [0, 1, 2, 3, 5]] - training[:, [0, 1, 2, 3, 5]].mean(0)) / training[:, [0, 1, 2, 3, 5]].std(0)
    others = np.delete(z, 1, axis=1)
    weights = np.linalg.solve(others.T @ others / len(z) + RIDGE * np.eye(4), others.T @ z[:, 1] / len(z))
    found = ((training - measure.mean) @ measure.residuals)[:, 1]
    expected = z[:, 1] - others @ weights
    assert np.corrcoef(found, expected)[0, 1] > 0.999
    assert 0.9 < np.quantile(np.abs(found), 0.999) < 1.1


@pytest.mark.parametrize("pair", [(0, 1), (0, 2), (0, 3), (2, 3), (3, 5)])
def test_two_columns_that_changed_places_stand_out_from_all_usual_stretches(
    measure: ColumnNovelty, pair: tuple[int, int]
) -> None:
    rows = frames(6000, 2)
    usual = measure.oddity(rows).reshape(-1, 60).mean(1)
    swapped = rows.copy()
    swapped[:, pair] = swapped[:, pair[::-1]]
    assert measure.oddity(swapped).reshape(-1, 60).mean(1).min() > usual.max()


def test_a_column_that_never_changed_and_the_fourth_power_of_anything_stay_finite(measure: ColumnNovelty) -> None:
    rows = frames(10, 3)
    usual = measure.oddity(rows)
    rows[:, 4] = 8
    np.testing.assert_allclose(measure.oddity(rows), usual, rtol=1e-4)
    assert np.isfinite(measure.oddity(np.full((2, 6), 3e38, np.float32) * np.array([[1], [-1]], np.float32))).all()


def test_quantiles_are_those_of_held_out_rows(measure: ColumnNovelty) -> None:
    np.testing.assert_allclose(measure.quantiles[50], np.median(measure.oddity(frames(2000, 1))), rtol=1e-5)


def test_held_out_rows_unlike_all_of_training_do_not_count_among_the_usual(measure: ColumnNovelty) -> None:
    held_out = frames(2000, 1)
    strange = frames(300, 4)
    strange[:, 2] += 300
    found = ColumnNovelty.fit(frames(4000, 0), np.concatenate([held_out, strange]), 101)
    assert found is not None
    np.testing.assert_array_equal(found.quantiles, measure.quantiles)
    assert found.percentiles(found.oddity(strange)).min() == 100


def test_a_regression_on_few_rows_keeps_the_usual_rows_of_other_games() -> None:
    rng = np.random.default_rng(0)
    training, held_out = rng.normal(size=(45, 40)).astype(np.float32), rng.normal(size=(500, 40)).astype(np.float32)
    found = ColumnNovelty.fit(training, held_out, 101)
    assert found is not None
    assert np.median(found.oddity(held_out)) > found.oddity(training).max()
    assert found.quantiles[-1] == found.oddity(held_out).max()


def test_too_many_columns_and_too_few_rows_have_no_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ColumnNovelty.fit(frames(19, 0), frames(100, 1), 101) is None
    monkeypatch.setattr(column_novelty, "MAX_COLUMNS", 5)
    assert ColumnNovelty.fit(frames(100, 0), frames(100, 1), 101) is None


def test_constant_columns_alone_have_a_measure() -> None:
    found = ColumnNovelty.fit(np.ones((30, 3), np.float32), np.ones((30, 3), np.float32), 101)
    assert found is not None
    assert found.oddity(np.full((1, 3), 9, np.float32)) == 0


def test_rows_in_which_a_number_is_missing_are_not_learned_from() -> None:
    rows = frames(200, 0)
    holed = np.concatenate([rows, np.full((50, 6), np.nan, np.float32)])
    whole, found = (Novelty.fit(rows, rows, (each, each)).columns for each in (rows, holed))
    assert whole is not None
    assert found is not None
    np.testing.assert_array_equal(found.residuals, whole.residuals)


def test_it_is_written_and_read_again_beside_that_of_embeddings_and_the_larger_counts(tmp_path: Path) -> None:
    folder = TINY.write(tmp_path)
    plain = read_bundle(folder).novelty
    rows = TINY.rows(200)
    rows[:, 9] = 2 * rows[:, 8]
    assert plain is not None
    assert plain.columns is None
    judged = plain.judge(np.array([3], np.float32), rows[:1])
    assert judged.percentiles.tolist() == [3]
    assert judged.oddities is None
    replace(plain, columns=ColumnNovelty.fit(rows, rows, 101)).write(folder / "novelty.npz")
    write_manifest(folder, TINY.manifest())
    again = read_bundle(folder).novelty
    assert again is not None
    assert again.columns is not None
    percentiles, oddities = again.judge(np.full(200, 60, np.float32), rows)
    np.testing.assert_array_equal(oddities, again.columns.oddity(rows))
    assert percentiles.min() == 60
    assert (percentiles > 60).mean() == pytest.approx(0.4, abs=0.02)
    rows[:, [8, 9]] = rows[:, [9, 8]]
    assert np.median(again.judge(np.zeros(200, np.float32), rows).percentiles) == 100


def test_parts_are_what_the_oddity_is_made_of(measure: ColumnNovelty) -> None:
    rows = frames(50, 4)
    rows[:, 3] += 0.25
    residuals, flags = measure.parts(rows)
    assert residuals.shape == flags.shape == rows.shape
    assert np.flatnonzero(flags.any(0)).tolist() == [3]
    fourth = np.power(residuals.astype(float), 4).sum(1) + np.power(flags.astype(float), 4).sum(1)
    np.testing.assert_allclose(measure.oddity(rows), fourth**0.25, rtol=1e-4)
    assert all(np.isfinite(part).all() for part in measure.parts(np.full((1, 6), 3e38, np.float32)))


def test_the_percentile_of_an_oddity_is_its_place_among_held_out_rows(measure: ColumnNovelty) -> None:
    assert measure.percentiles(float(measure.quantiles[37])) == pytest.approx(37)
    assert measure.percentiles(0) == 0
    assert measure.percentiles(1e9) == 100
