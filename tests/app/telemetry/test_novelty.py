"""The novelty of the last seconds, by itself and on the wire."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from app.inference.engine import MAX_LOOP_ROWS
from app.rows import Array
from app.system.counters import COLUMNS_SHARE, MAX_NUMBERS, Ledger
from app.telemetry import novelty, odd_rows
from app.telemetry.novelty import MAX_STREAMS, ODD_PERCENTILE, WINDOW_S, NoveltyWatch
from bundle.column_novelty import ColumnNovelty
from bundle.novelty import Judged
from bundle.reader import read_bundle
from tests.support.bundles import TinyModel, write_manifest
from tests.support.serving import serving

pytestmark = pytest.mark.anyio


class Clock:
    now = 1000.5

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(novelty, "monotonic", clock)
    return clock


@pytest.fixture
def watch(models: Path) -> NoveltyWatch:
    bundle = read_bundle(models / "tiny" / "1")
    return NoveltyWatch(Ledger(), bundle.manifest, bundle.novelty)


ROWS = np.zeros((2, 10), np.float32)
# The last two columns have changed places.
SWAPPED = [0, 1, 2, 3, 4, 5, 6, 7, 9, 8]


def percentiles(*values: float) -> Judged:
    return Judged(np.array(values, np.float32), None)


def judged(watch: NoveltyWatch, embeddings: Array, clock: Clock, times: int, rest_s: float) -> tuple[int, float]:
    """How many frames were judged, and their mean, of one bot that sends the same so many times."""
    for _ in range(times):
        clock.now += rest_s
        watch.judge("bot", embeddings, embeddings)
    ((frames, mean, _),) = watch.report()
    return frames, mean


def test_frames_of_the_last_seconds_count_stream_by_stream_the_most_novel_first(
    watch: NoveltyWatch, clock: Clock
) -> None:
    watch.see("known", percentiles(10, 20), ROWS)
    watch.see("strange", percentiles(99), ROWS)
    clock.now += 2
    watch.see("strange", percentiles(97, 95), ROWS)
    watch.see(None, percentiles(50), ROWS)
    assert watch.report() == [(3, 97.0, None), (1, 50.0, None), (2, 15.0, None)]
    clock.now += WINDOW_S - 2
    assert watch.report() == [(2, 96.0, None), (1, 50.0, None)]
    clock.now += WINDOW_S
    assert watch.report() == []


def test_streams_beyond_the_most_are_followed_once_another_is_silent(watch: NoveltyWatch, clock: Clock) -> None:
    for number in range(MAX_STREAMS + 1):
        watch.see(f"stream {number}", percentiles(number), ROWS)
    assert len(watch.report()) == MAX_STREAMS
    assert watch.report()[0].mean == MAX_STREAMS - 1
    clock.now += WINDOW_S + 1
    watch.see("late", percentiles(90), ROWS)
    assert watch.report() == [(1, 90.0, None)]


def test_a_sample_of_embeddings_is_judged_and_none_without_a_measure(
    watch: NoveltyWatch, models: Path, tiny: TinyModel, clock: Clock
) -> None:
    embeddings = tiny.encode(tiny.rows(1))
    frames, mean = judged(watch, embeddings, clock, 40 * novelty.SAMPLED, novelty.REST_S / 8)
    assert 20 <= frames <= 80
    assert watch.measure is not None
    assert mean == pytest.approx(float(watch.measure.percentiles(embeddings)[0]), rel=1e-4)
    bare = NoveltyWatch(Ledger(), read_bundle(models / "tiny" / "1").manifest, None)
    bare.judge("bot", embeddings, embeddings)
    bare.see("bot", percentiles(1), ROWS)
    assert bare.report() == []


@pytest.mark.parametrize("rows", [1, 5, 64])
def test_however_many_rows_there_are_few_a_second_are_judged(
    watch: NoveltyWatch, tiny: TinyModel, clock: Clock, rows: int
) -> None:
    embeddings = tiny.encode(tiny.rows(rows))
    # As long as eighty rows take.
    frames, _ = judged(watch, embeddings, clock, 100 * novelty.SAMPLED, novelty.REST_S / 20)
    assert 25 <= frames <= 80 + novelty.MAX_JUDGED_ROWS


def test_frames_that_are_judged_together_count_for_the_stream_of_each(
    watch: NoveltyWatch, tiny: TinyModel, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(novelty, "SAMPLED", 1)
    assert watch.measure is not None
    rows = tiny.rows(5)
    embeddings = tiny.encode(rows)
    expected = watch.measure.judge(watch.measure.percentiles(embeddings), rows).percentiles
    watch.judge("first", embeddings[:1], rows[:1])
    (first,) = watch.report()
    assert first.frames == 1
    assert first.mean == pytest.approx(float(expected[0]))
    for stream, start, stop in (("one", 1, 2), ("two", 2, 4)):
        clock.now += novelty.REST_S
        watch.judge(stream, embeddings[start:stop], rows[start:stop])
    assert len(watch.report()) == 1
    clock.now += novelty.LOOK_EVERY_S
    watch.judge("one", embeddings[4:], rows[4:])
    counted = {1: expected[:1], 2: expected[[1, 4]], 3: expected[2:4]}
    means = sorted((len(each), float(each.mean())) for each in counted.values())
    found = sorted((each.frames, each.mean) for each in watch.report())
    assert [frames for frames, _ in found] == [frames for frames, _ in means]
    np.testing.assert_allclose([mean for _, mean in found], [mean for _, mean in means], rtol=1e-5)


@pytest.mark.usefixtures("clock")
def test_a_new_version_counts_from_the_beginning(models: Path) -> None:
    bundle, ledger = read_bundle(models / "tiny" / "1"), Ledger()
    NoveltyWatch(ledger, bundle.manifest, bundle.novelty).see("bot", percentiles(99), ROWS)
    assert NoveltyWatch(ledger, bundle.manifest, bundle.novelty).report() == []


@pytest.fixture
async def client(models: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with serving("socket", models=models) as client:
        yield client


async def test_the_drift_report_and_the_metrics_have_what_forecasts_found(client: httpx.AsyncClient) -> None:
    async def report() -> dict[str, object]:
        found: dict[str, object] = (await client.get("/models/tiny/drift")).json()["novelty"]
        return found

    assert await report() == {
        "frames": 0,
        "mean": None,
        "columns": None,
        "misfits": [],
        "swapped": None,
        "streams": [],
    }
    strange = {"features": [[30.0] * 10] * 3, "novelty": True, "horizon": 15}
    answer = (await client.post("/forecast", json=strange, headers={"x-stream-id": "strange"})).json()
    known = {"features": [0.0] * 10, "novelty": True}
    once = (await client.post("/forecast", json=known, headers={"x-stream-id": "known"})).json()
    hidden = known | {"hidden": ["own"]}
    assert (await client.post("/forecast", json=hidden)).status_code == 200
    found = await report()
    means = sorted([np.mean(answer["novelty"]), once["novelty"][0]], reverse=True)
    assert found["frames"] == 4
    assert [stream["mean"] for stream in found["streams"]] == pytest.approx(means)  # type: ignore[attr-defined]
    text = (await client.get("/metrics")).text
    assert 'jepa_novelty_percentile{model="tiny",streams="most novel"}' in text


async def test_a_bundle_without_a_measure_has_no_novelty_to_report(tmp_path: Path) -> None:
    TinyModel().write(tmp_path)
    async with serving(models=tmp_path) as client:
        assert (await client.get("/models/tiny/drift")).json()["novelty"] is None
        assert "jepa_novelty_percentile{" not in (await client.get("/metrics")).text


@pytest.fixture(scope="module")
def row_of_linked_columns(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """A model's folder, whose last column was twice the one before in training, and a usual row."""
    tiny = TinyModel(heads=True)
    folder = tiny.write(models := tmp_path_factory.mktemp("models"))
    rows = tiny.rows(400) * np.float32(0.1)
    rows[:, 9] = 2 * rows[:, 8]
    found = read_bundle(folder).novelty
    assert found is not None
    replace(found, columns=ColumnNovelty.fit(rows, rows, 101)).write(folder / "novelty.npz")
    write_manifest(folder, tiny.manifest())
    usual = rows[np.argmin(np.abs(rows[:, 8] - 0.1))]
    return models, usual


@pytest.mark.parametrize("horizon", [0, 15])
async def test_two_columns_that_changed_places_are_novel(
    row_of_linked_columns: tuple[Path, np.ndarray], horizon: int
) -> None:
    models, usual = row_of_linked_columns
    swapped = usual[SWAPPED]
    async with serving("socket", models=models) as client:

        async def novelty_of(row: np.ndarray, **options: object) -> float:
            asked = {"features": row.tolist(), "novelty": True, "horizon": horizon} | options
            (percentile,) = (await client.post("/forecast", json=asked)).json()["novelty"]
            return float(percentile)

        assert await novelty_of(usual) < 100
        assert await novelty_of(swapped) == 100
        # Of hidden columns nothing is known.
        assert await novelty_of(swapped, hidden=["stage"]) == await novelty_of(usual, hidden=["stage"])
        # More rows than the event loop judges are judged alike.
        asked = {"features": np.tile(np.stack([usual, swapped]), (200, 1)).tolist(), "novelty": True}
        many = (await client.post("/forecast", json=asked)).json()["novelty"]
        assert len(many) == 400 > MAX_LOOP_ROWS
        assert max(many[::2]) < 100
        assert set(many[1::2]) == {100}
        judged = (await client.get("/models/tiny/drift")).json()["novelty"]
        assert judged["frames"] == 402
        assert judged["mean"] > 50


async def test_the_drift_report_names_the_columns_that_changed_places_while_they_are(
    row_of_linked_columns: tuple[Path, np.ndarray],
) -> None:
    models, usual = row_of_linked_columns
    swapped = usual[SWAPPED]
    async with serving("socket", models=models) as client:

        async def report_after(row: np.ndarray, stream: str) -> dict[str, Any]:
            body, headers = {"features": row.tolist(), "novelty": True}, {"x-stream-id": stream}
            assert (await client.post("/forecast", json=body, headers=headers)).status_code == 200
            found: dict[str, Any] = (await client.get("/models/tiny/drift")).json()["novelty"]
            return found

        well = await report_after(usual, "well")
        assert well["columns"] < ODD_PERCENTILE
        assert (well["misfits"], well["swapped"]) == ([], None)
        found = await report_after(swapped, "odd")
        assert found["columns"] == 100
        assert [stream["columns"] for stream in found["streams"]] == [100, well["columns"]]
        assert set(found["misfits"]) & {"stage_0", "stage_1"}
        assert found["swapped"] == ["stage_0", "stage_1"]
        text = (await client.get("/metrics")).text
        assert 'jepa_columns_misfit_percentile{model="tiny"} 100.0' in text


async def test_rows_that_were_embedded_are_named_as_well_and_no_longer_once_they_are_old(
    row_of_linked_columns: tuple[Path, np.ndarray], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    models, usual = row_of_linked_columns
    monkeypatch.setattr(odd_rows, "monotonic", clock)
    bundle, ledger = read_bundle(models / "tiny" / "1"), Ledger()
    watch = NoveltyWatch(ledger, bundle.manifest, bundle.novelty)
    embeddings = np.zeros((1, 4), np.float32)
    watch.judge("bot", embeddings, usual[None])
    assert watch.misfits() == ((), None)
    for _ in range(4 * novelty.SAMPLED):
        clock.now += novelty.REST_S
        watch.judge("bot", embeddings, usual[None, SWAPPED])
    assert watch.misfits().swap == (8, 9)
    clock.now += WINDOW_S + 1
    assert watch.misfits() == ((), None)
    # A new version knows nothing of the rows of the one before.
    clock.now -= WINDOW_S + 1
    assert NoveltyWatch(ledger, bundle.manifest, bundle.novelty).misfits() == ((), None)


@pytest.mark.usefixtures("clock")
def test_without_room_for_rows_novelty_is_counted_and_no_column_named(
    row_of_linked_columns: tuple[Path, np.ndarray], caplog: pytest.LogCaptureFixture
) -> None:
    models, usual = row_of_linked_columns
    bundle, ledger = read_bundle(models / "tiny" / "1"), Ledger()
    ledger.place(("full",), int(MAX_NUMBERS * COLUMNS_SHARE) - MAX_STREAMS * WINDOW_S * novelty.WIDTH)
    watch = NoveltyWatch(ledger, bundle.manifest, bundle.novelty)
    assert "columns of tiny that do not fit are not named" in caplog.text
    watch.judge("bot", np.zeros((1, 4), np.float32), usual[None, SWAPPED])
    assert watch.report()[0].columns == 100
    assert watch.misfits() == ((), None)
