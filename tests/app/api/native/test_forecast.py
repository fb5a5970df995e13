"""POST /forecast on both ways to an endpoint; what it shares with the other endpoints, test_routes.py proves."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from app.main import create_app
from app.settings import Settings
from bundle.heads import Heads
from bundle.reader import read_bundle
from tests.support.bundles import HEADS, TinyModel, write_manifest
from tests.support.changes import put
from tests.support.serving import client_of, serving

pytestmark = pytest.mark.anyio

BINARY = "application/octet-stream"
TINY = TinyModel(heads=True)
OUTPUTS = [output for _, outputs in HEADS.values() for output in outputs]
LISTED: list[dict[str, Any]] = [
    {"name": name, "kind": kind, "outputs": outputs} for name, (kind, outputs) in HEADS.items()
]
ROW = [0] * 10


@pytest.fixture(scope="module")
def heads(models: Path) -> Heads:
    heads = read_bundle(models / "tiny" / "1").heads
    assert heads is not None
    return heads


@pytest.fixture(scope="module", params=["asgi", "socket"])
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
async def client(models: Path, way: str) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(way, models=models) as client:
        yield client


async def ask(client: httpx.AsyncClient, path: str = "/forecast", **body: Any) -> dict[str, Any]:
    response = await client.post(path, json=body)
    assert response.status_code == 200, response.text
    document: dict[str, Any] = response.json()
    return document


def expected(embeddings: np.ndarray, horizon_index: int) -> np.ndarray:
    return np.stack([*TINY.values(embeddings, horizon_index).values()], axis=1)


async def test_without_a_horizon_the_heads_read_the_embedding_of_the_frame(
    client: httpx.AsyncClient, heads: Heads
) -> None:
    rows = TINY.rows(3)
    answer = await ask(client, features=rows.tolist())
    assert (answer["outputs"], answer["novelty"]) == (OUTPUTS, None)
    assert (answer["model"], answer["version"]) == ("tiny", 1)
    np.testing.assert_allclose(answer["values"], expected(TINY.encode(rows), 0), rtol=1e-4)
    assert await ask(client, features=rows.tolist(), horizon=0) == answer
    # The service computes what bundle.heads does of the embeddings that it answers, digit by digit.
    embeddings = np.array((await ask(client, "/embed", features=rows.tolist()))["embeddings"], np.float32)
    np.testing.assert_array_equal(np.array(answer["values"], np.float32), heads.values(embeddings, 0))


@pytest.mark.parametrize(("horizon", "index"), [(6, 1), (15, 2)])
async def test_at_a_later_horizon_they_read_what_the_predictor_expects_of_all_groups(
    client: httpx.AsyncClient, heads: Heads, horizon: int, index: int
) -> None:
    rows = TINY.rows(3)
    values = (await ask(client, features=rows.tolist(), horizon=horizon))["values"]
    context = TINY.encode(rows, "context")
    predicted = TINY.predict(context, np.ones((3, 2), np.float32), np.full(3, horizon, np.float32))
    np.testing.assert_allclose(values, expected(predicted, index), rtol=1e-4)
    answered = (await ask(client, "/predict", features=rows.tolist(), horizon=horizon))["predictions"]
    read = heads.values(np.array(answered, np.float32), index)
    np.testing.assert_array_equal(np.array(values, np.float32), read)


async def test_one_row_is_answered_in_its_rank(client: httpx.AsyncClient) -> None:
    rows = TINY.rows(2)
    many = await ask(client, features=rows.tolist(), novelty=True)
    one = await ask(client, features=rows[0].tolist(), novelty=True)
    np.testing.assert_allclose(one["values"], many["values"][0], rtol=1e-5)
    assert np.shape(many["values"]) == (2, len(OUTPUTS))
    np.testing.assert_allclose(one["novelty"], many["novelty"][:1], rtol=1e-4)


@pytest.mark.parametrize("horizon", [0, 15])
async def test_from_context_the_answer_is_that_from_features(client: httpx.AsyncClient, horizon: int) -> None:
    rows = TINY.rows(2)
    encoder = "context" if horizon else "target"
    embeddings = (await ask(client, "/embed", features=rows.tolist(), encoder=encoder))["embeddings"]
    from_context = await ask(client, context=embeddings, horizon=horizon)
    from_features = await ask(client, features=rows.tolist(), horizon=horizon)
    np.testing.assert_allclose(from_context["values"], from_features["values"], rtol=1e-5)


async def test_hidden_groups_are_hidden_now_and_later(client: httpx.AsyncClient) -> None:
    rows = TINY.rows(2)
    unseen = rows.copy()
    unseen[:, 3:8] = np.nan
    now = await ask(client, features=rows.tolist(), hidden=["opponent"])
    np.testing.assert_allclose(now["values"], expected(TINY.encode(unseen), 0), rtol=1e-4)
    later = await ask(client, features=rows.tolist(), hidden=["opponent"], horizon=6)
    context = TINY.encode(unseen, "context")
    predicted = TINY.predict(context, np.ones((2, 2), np.float32), np.full(2, 6, np.float32))
    np.testing.assert_allclose(later["values"], expected(predicted, 1), rtol=1e-4)


@pytest.mark.parametrize("horizon", [0, 15])
async def test_named_heads_are_answered_in_the_order_of_their_names(client: httpx.AsyncClient, horizon: int) -> None:
    rows = TINY.rows(3).tolist()
    whole = await ask(client, features=rows, horizon=horizon)
    some = await ask(client, features=rows, horizon=horizon, heads=["speed", "mood"])
    assert some["outputs"] == ["speed", "mood=calm", "mood=tense", "mood=wild"]
    columns = [OUTPUTS.index(output) for output in some["outputs"]]
    np.testing.assert_allclose(some["values"], np.array(whole["values"])[:, columns], rtol=1e-5)
    np.testing.assert_allclose(np.sum(some["values"], axis=1) - np.array(some["values"])[:, 0], 1, rtol=1e-5)


@pytest.mark.parametrize("horizon", [0, 15])
async def test_novelty_is_the_percentile_of_each_frames_embedding(client: httpx.AsyncClient, horizon: int) -> None:
    rows = TINY.rows(4) * np.array([[0.1], [1], [3], [30]], np.float32)
    answer = await ask(client, features=rows.tolist(), horizon=horizon, novelty=True)
    measure = TINY.novelty()
    distances = np.linalg.norm((TINY.encode(rows) - measure["mean"]) @ measure["whitening"], axis=1)
    np.testing.assert_allclose(answer["novelty"], np.interp(distances, measure["quantiles"], range(101)), rtol=1e-4)
    plain = await ask(client, features=rows.tolist(), horizon=horizon)
    np.testing.assert_allclose(answer["values"], plain["values"], rtol=1e-5)


@pytest.mark.parametrize("binary_in", [False, True])
@pytest.mark.parametrize("binary_out", [False, True])
async def test_json_and_binary_go_in_and_out_in_every_combination(
    client: httpx.AsyncClient, binary_in: bool, binary_out: bool
) -> None:
    rows, context = TINY.rows(3), TINY.encode(TINY.rows(3), "context")
    cases: list[tuple[dict[str, Any], np.ndarray, str]] = [
        ({"features": rows.tolist()}, rows, ""),
        ({"features": rows.tolist(), "horizon": 15, "hidden": ["own"]}, rows, "?horizon=15&hidden=own"),
        ({"features": rows.tolist(), "heads": ["damage", "mood"]}, rows, "?heads=damage,mood"),
        ({"context": context.tolist(), "horizon": 6}, context, "?input=context&horizon=6"),
        ({"features": rows.tolist(), "novelty": True, "horizon": 6}, rows, "?novelty=true&horizon=6"),
        ({"features": rows.tolist(), "novelty": True}, rows, "?novelty=1"),
    ]
    for document, floats, query in cases:
        answer = await ask(client, **document)
        expected = np.array(answer["values"])
        if answer["novelty"] is not None and binary_out:
            expected = np.column_stack([expected, answer["novelty"]])
        accept = {"accept": BINARY if binary_out else "application/json"}
        if binary_in:
            response = await client.post(
                f"/forecast{query}", content=floats.tobytes(), headers={"content-type": BINARY, **accept}
            )
        else:
            response = await client.post("/forecast", json=document, headers=accept)
        assert response.status_code == 200, response.text
        if binary_out:
            found = np.frombuffer(response.content, "<f4").reshape(expected.shape)
        else:
            found = np.array(response.json()["values"])
        np.testing.assert_allclose(found, expected, rtol=1e-4)


REFUSED: list[tuple[dict[str, Any], list[Any], str]] = [
    (
        {"features": ROW, "heads": ["airborn"]},
        ["heads", 0],
        "is no head of this model; did you mean 'airborne'?",
    ),
    ({"features": ROW, "heads": ["speed", "x"]}, ["heads", 1], "it has 'airborne', 'mood', 'damage', 'speed'"),
    ({"features": ROW, "heads": ["mood=calm"]}, ["heads", 0], "is no head"),
    ({"features": ROW, "heads": []}, ["heads"], "heads is empty; name at least one head"),
    ({"features": ROW, "heads": ["mood", "mood"]}, ["heads", 1], "heads[1] is 'mood' once more"),
    ({"features": ROW, "heads": "mood"}, ["heads"], "must be a valid list"),
    ({"features": ROW, "horizon": 14}, ["horizon"], "was trained for: 0 (now), 6, 15; the nearest is 15"),
    ({"features": ROW, "horizon": 2}, ["horizon"], "the nearest is 0"),
    ({"features": ROW, "horizon": -1}, ["horizon"], "the nearest is 0"),
    ({"features": ROW, "horizon": 1e3}, ["horizon"], "the nearest is 15"),
    ({"features": ROW, "hidden": ["oponent"]}, ["hidden", 0], "did you mean 'opponent'?"),
    ({"features": ROW, "novelty": "yes"}, ["novelty"], "must be a valid boolean"),
    ({"features": ROW, "novlty": True}, ["novlty"], "did you mean 'novelty'?"),
    ({"features": ROW, "targets": ["own"]}, ["targets"], "targets is not known here"),
    ({"features": [0] * 11}, ["features"], "if the last one is padding, leave it out"),
    ({"context": [0] * 10}, ["context"], "has 10 numbers, model 'tiny' takes 4"),
    ({"context": [0] * 4, "hidden": ["own"]}, ["hidden"], "hidden goes with features"),
    ({"context": [0] * 4, "novelty": True}, ["novelty"], "novelty goes with features"),
    ({"features": ROW, "context": [0] * 4}, [], "send either features or context"),
    ({}, [], "send either features or context"),
]


@pytest.mark.parametrize(("body", "loc", "message"), REFUSED)
async def test_a_wrong_field_is_422_and_named(
    client: httpx.AsyncClient, body: dict[str, Any], loc: list[Any], message: str
) -> None:
    response = await client.post("/forecast", json=body)
    assert response.status_code == 422, response.text
    (error,) = response.json()["errors"]
    assert error["loc"] == ["body", *loc]
    assert message in error["msg"]


async def test_a_wrong_option_beside_a_binary_body_is_422_and_named(client: httpx.AsyncClient) -> None:
    for query, loc in (("heads=mood,nobody", ["heads", 1]), ("horizon=7", ["horizon"]), ("novelty=x", ["novelty"])):
        response = await client.post(f"/forecast?{query}", content=bytes(40), headers={"content-type": BINARY})
        assert response.status_code == 422, response.text
        assert response.json()["errors"][0]["loc"] == ["query", *loc]


async def test_a_model_without_heads_or_novelty_says_what_makes_them(tmp_path: Path, way: str) -> None:
    TinyModel(name="bare").write(tmp_path)
    (TINY.write(tmp_path) / "novelty.npz").unlink()
    TinyModel(name="plain", heads=True).write(tmp_path)
    plain = tmp_path / "plain" / "1"
    (plain / "novelty.npz").unlink()
    manifest = json.loads((plain / "bundle.json").read_text())
    del manifest["files"]["novelty.npz"]
    (plain / "bundle.json").write_text(json.dumps(manifest))
    async with serving(way, models=tmp_path) as client:
        for horizon in (0, 6):
            bare = {"features": ROW, "horizon": horizon, "model": "bare"}
            response = await client.post("/forecast", json=bare)
            assert response.status_code == 422
            assert response.json()["detail"] == "model 'bare' has no heads to forecast with; `jepa heads` makes them"
            asked = {"features": ROW, "novelty": True, "horizon": horizon, "model": "plain"}
            response = await client.post("/forecast", json=asked)
            assert response.status_code == 422
            assert "cannot tell how novel a frame is" in response.json()["detail"]
            assert response.json()["errors"][0]["loc"] == ["body", "novelty"]


async def test_rows_of_all_who_ask_share_a_run_and_each_gets_what_it_asked_for(models: Path, way: str) -> None:
    """Embeddings and forecasts of different heads wait for the same thread, and one run answers them all."""
    rows = TINY.rows(6)
    asked: list[tuple[str, dict[str, Any], str]] = [
        ("/embed", {}, "embeddings"),
        ("/forecast", {}, "values"),
        ("/forecast", {"heads": ["speed", "mood"]}, "values"),
        ("/forecast", {"novelty": True}, "values"),
        ("/embed", {}, "embeddings"),
        ("/forecast", {}, "values"),
    ]
    app = create_app(Settings(models=models, batch_threads=1))
    async with client_of(app, way) as client:
        queue = app.state.service.registry.get(None).engine.queues.target_encoder
        alone = [
            (await ask(client, path, features=row.tolist(), **options))[field]
            for row, (path, options, field) in zip(rows, asked, strict=True)
        ]
        object.__setattr__(queue.limits, "inline_rows", 0)
        assert app.state.service.threads.acquire(lambda: None)
        waiting = [
            asyncio.create_task(client.post(path, json={"features": row.tolist(), **options}))
            for row, (path, options, _) in zip(rows, asked, strict=True)
        ]
        while queue.queue_rows < len(rows):
            await asyncio.sleep(0.001)
        app.state.service.threads.release()
        for task, (_, _, field), single in zip(waiting, asked, alone, strict=True):
            response = await task
            assert response.headers["x-batch-rows"] == str(len(rows))
            np.testing.assert_allclose(response.json()[field], single, rtol=1e-4)


async def test_a_version_with_other_heads_takes_over_between_two_answers(tmp_path: Path, way: str) -> None:
    """Every answer is of one version: its heads, its values and its number."""
    old, models = TinyModel(heads=True), tmp_path / "models"
    models.mkdir()
    renamed = [head | {"name": "harm", "outputs": ["harm"]} if head["name"] == "damage" else head for head in LISTED]
    new = TinyModel(heads=True, version=2, seed=2, extra={"heads": renamed})
    put(old, models)
    row = old.rows(1)
    seen = set()
    async with serving(way, models=models, model_control=True) as client:

        async def check() -> None:
            answer = await ask(client, features=row.tolist())
            model = (old, new)[answer["version"] - 1]
            assert ("harm" in answer["outputs"], "damage" in answer["outputs"]) == (model is new, model is old)
            expected = np.stack([*model.values(model.encode(row)).values()], axis=1)
            np.testing.assert_allclose(answer["values"], expected, rtol=1e-4)
            seen.add(answer["version"])

        await check()
        assert (await client.post("/forecast", json={"features": ROW, "heads": ["harm"]})).status_code == 422
        put(new, models)
        loading = asyncio.create_task(client.post("/v2/repository/models/tiny/load"))
        while not loading.done():
            await check()
        assert loading.result().status_code == 200
        await check()
        assert seen == {1, 2}
        assert (await client.post("/forecast", json={"features": ROW, "heads": ["harm"]})).status_code == 200
        response = await client.post("/forecast", json={"features": ROW, "heads": ["damage"]})
        assert response.status_code == 422


async def test_a_readout_that_fails_fails_alone(models: Path, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(way, models=models) as client:
        monkeypatch.setattr(Heads, "values", lambda *_: 1 / 0)
        response = await client.post("/forecast", json={"features": ROW})
        assert response.status_code == 500
        assert "ZeroDivisionError" in response.json()["detail"]
        assert (await client.post("/embed", json={"features": ROW})).status_code == 200


async def test_a_forecast_past_its_deadline_is_504(models: Path, way: str) -> None:
    app = create_app(Settings(models=models, batch_threads=1))
    async with client_of(app, way) as client:
        for _, queue in app.state.service.registry.get(None).engine.queues.items():
            object.__setattr__(queue.limits, "inline_rows", 0)
        assert app.state.service.threads.acquire(lambda: None)
        for horizon in (0, 15):
            response = await client.post(
                "/forecast", json={"features": ROW, "horizon": horizon}, headers={"x-request-timeout-ms": "20"}
            )
            assert response.status_code == 504
        app.state.service.threads.release()


async def test_models_list_the_heads(client: httpx.AsyncClient) -> None:
    card = (await client.get("/models/tiny")).json()
    assert [(head["name"], head["kind"], head["outputs"]) for head in card["heads"]] == [
        (name, kind, outputs) for name, (kind, outputs) in HEADS.items()
    ]
    assert {head["labels"] for head in card["heads"]} == {"made up"}
    assert card["horizons"] == [6, 15]
    assert card["novelty"] is True


async def test_heads_that_make_no_sense_are_refused_with_the_reason(tmp_path: Path) -> None:
    folder = TINY.write(tmp_path)
    spoilt = TinyModel(name="spoilt", heads=True).write(tmp_path)
    weights = dict(np.load(folder / "heads.npz"))
    weights["biases"] = weights["biases"][:-1]
    np.savez(spoilt / "heads.npz", **weights)
    write_manifest(spoilt, json.loads((spoilt / "bundle.json").read_text()))
    async with serving(models=tmp_path) as client:
        document = (await client.get("/models")).json()
    assert [model["name"] for model in document["models"]] == ["tiny"]
    assert "biases has shape [5]; it must be [6]" in document["refused"][0]["reason"]
