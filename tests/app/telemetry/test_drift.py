from pathlib import Path

import numpy as np
import pytest

from app.system.counters import Ledger
from app.telemetry import drift
from app.telemetry.drift import SAMPLED, Drift
from bundle.manifest import Manifest, read_manifest
from tests.support.bundles import TinyModel, write_manifest
from tests.support.serving import serving

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parents[3]

# Of ten columns: three kinds of number, and one that never changed.
MEAN = [0.0, 100.0, 5.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 7.0]
STD = [1.0, 10.0, 0.1, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0]
STATISTICS = {
    "mean": MEAN,
    "std": STD,
    "min": [m - 4 * s for m, s in zip(MEAN, STD, strict=True)],
    "max": [m + 4 * s for m, s in zip(MEAN, STD, strict=True)],
}


@pytest.fixture(autouse=True)
def _every_request_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift, "SAMPLED", 1)


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return read_manifest(written(tmp_path))


def written(folder: Path) -> Path:
    """A bundle with the statistics above."""
    path = TinyModel().write(folder)
    write_manifest(path, TinyModel().manifest() | {"statistics": STATISTICS})
    return path


def rows(count: int = 2000) -> np.ndarray:
    drawn = np.random.default_rng(0).normal(MEAN, STD, (count, 10))
    return np.clip(drawn, STATISTICS["min"], STATISTICS["max"]).astype(np.float32)


def seen(manifest: Manifest, *parts: np.ndarray) -> drift.Report:
    watched = Drift(Ledger(), manifest)
    for part in parts:
        watched.see(part)
    return watched.report()


def test_rows_like_those_of_training_are_not_odd(manifest: Manifest) -> None:
    report = seen(manifest, *np.array_split(rows(), 50))
    assert report == drift.Report(2000, [])


def test_columns_that_changed_places_name_each_other(manifest: Manifest) -> None:
    swapped = rows()
    swapped[:, [1, 2]] = swapped[:, [2, 1]]
    first, second = seen(manifest, swapped).findings
    assert (first.column, first.kind, first.looks_like) == (1, "outside", 2)
    assert (second.column, second.kind, second.looks_like) == (2, "outside", 1)
    assert first.share_outside == 1
    assert first.mean == pytest.approx(5, abs=0.1)
    assert first.std == pytest.approx(0.1, abs=0.01)


def test_what_stands_still_and_what_wakes_is_found(manifest: Manifest) -> None:
    odd = rows()
    odd[:, 3] = 0.25
    odd[::2, 9] = 8
    assert [(found.column, found.kind) for found in seen(manifest, odd).findings] == [(3, "still"), (9, "woken")]
    assert seen(manifest, odd[:100, :]).findings[0].kind == "woken"  # too few to say that a column stands still


def test_one_row_in_a_thousand_is_no_drift_and_no_number_is_too_large(manifest: Manifest) -> None:
    odd = rows()
    odd[7] = 3e38
    assert seen(manifest, odd).findings == []


def test_counts_of_all_processes_add_up(manifest: Manifest) -> None:
    ledger = Ledger()
    watched = Drift(ledger, manifest)
    ledger.share(2)
    for number in range(2):
        ledger.take(number)
        watched.see(rows(300))
    assert watched.report().rows == 600


def test_a_new_version_of_a_model_starts_to_count_anew(manifest: Manifest) -> None:
    ledger = Ledger()
    Drift(ledger, manifest).see(rows())
    assert Drift(ledger, manifest).report().rows == 0


async def test_the_service_names_the_columns(tmp_path: Path) -> None:
    written(tmp_path)
    async with serving(models=tmp_path) as client:
        assert (await client.get("/readyz")).status_code == 200  # which computes a row, but of its own
        assert (await client.get("/models/tiny/drift")).json()["rows"] == 0
        swapped = rows(1000)
        swapped[:, [1, 2]] = swapped[:, [2, 1]]
        for _ in range(2):
            assert (await client.post("/embed", json={"features": swapped.tolist()})).status_code == 200
        report = (await client.get("/models/tiny/drift")).json()
        assert report["rows"] == 2000
        first, second = report["features"]
        names = TinyModel().manifest()["schema"]["names"]
        assert (first["name"], first["looks_like"]) == (names[1], names[2])
        assert (second["name"], second["looks_like"]) == (names[2], names[1])
        assert first["detail"].startswith(f"{names[1]} lies outside the range of training")
        metrics = (await client.get("/metrics")).text
        assert 'jepa_drifted_features{finding="outside",model="tiny"} 2.0' in metrics
        assert (await client.get("/models/none/drift")).status_code == 404


async def test_the_documents_say_which_share_of_the_requests_is_sampled(models: Path) -> None:
    async with serving(models=models) as client:
        schemas = (await client.get("/openapi.json")).json()["components"]["schemas"]
    assert schemas["DriftReport"]["properties"]["rows"]["description"].endswith(f"one request in {SAMPLED}")
    assert f"compares one request in {SAMPLED} " in (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
