"""What the native endpoints answer, both ways to them."""

import json
import os
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from app.api.native.schemas import ROWS
from tests.app.api.native.conftest import BINARY, ROW, post, problem
from tests.support.bundles import TinyModel
from tests.support.serving import serving

pytestmark = pytest.mark.anyio


async def test_embed_answers_in_the_rank_it_was_asked_in(client: httpx.AsyncClient, tiny: TinyModel) -> None:
    rows = tiny.rows(3)
    many = (await client.post("/embed", json={"features": rows.tolist()})).json()
    np.testing.assert_allclose(many["embeddings"], tiny.encode(rows), atol=1e-5)
    assert (many["model"], many["version"]) == ("tiny", 1)
    one = (await client.post("/embed", json={"features": rows[0].tolist()})).json()
    np.testing.assert_allclose(one["embeddings"], many["embeddings"][0], atol=1e-6)
    single = (await client.post("/embed", json={"features": rows[:1].tolist()})).json()
    assert np.shape(single["embeddings"]) == (1, tiny.embed_dim)


async def test_embed_by_the_context_encoder_with_a_group_hidden(client: httpx.AsyncClient, tiny: TinyModel) -> None:
    rows = tiny.rows(2)
    body = {"features": rows.tolist(), "encoder": "context", "hidden": ["own"], "model": "tiny"}
    answer = (await client.post("/embed", json=body)).json()
    rows[:, :3] = np.nan
    np.testing.assert_allclose(answer["embeddings"], tiny.encode(rows, "context"), atol=1e-5)


async def test_predict_from_features_equals_predict_from_their_context(
    client: httpx.AsyncClient, tiny: TinyModel
) -> None:
    rows = tiny.rows(2).tolist()
    context = (await client.post("/embed", json={"features": rows, "encoder": "context"})).json()["embeddings"]
    options = {"targets": ["opponent"], "horizon": 15}
    answers = [
        (await client.post("/predict", json={**given, **options})).json()["predictions"]
        for given in ({"features": rows}, {"context": context})
    ]
    np.testing.assert_allclose(answers[0], answers[1], atol=1e-6)
    one = await client.post("/predict", json={"context": context[0], **options})
    np.testing.assert_allclose(one.json()["predictions"], answers[0][0], atol=1e-6)


async def test_loss_of_features_equals_loss_of_their_embeddings(client: httpx.AsyncClient, tiny: TinyModel) -> None:
    now, later = tiny.rows(3).tolist(), tiny.rows(3, seed=1).tolist()
    predicted = (await client.post("/predict", json={"features": now})).json()["predictions"]
    target = (await client.post("/embed", json={"features": later})).json()["embeddings"]
    whole = (await client.post("/loss", json={"features": now, "target_features": later})).json()
    parts = (await client.post("/loss", json={"predicted": predicted, "target": target})).json()
    for answer in (whole, parts):
        assert answer.keys() == {"loss", "losses", "percentiles", "model", "version"}
        assert answer["loss"] == pytest.approx(np.mean(answer["losses"]))
        assert len(answer["losses"]) == len(answer["percentiles"]) == 3
    np.testing.assert_allclose(whole["losses"], parts["losses"], rtol=1e-4)


async def test_loss_of_a_single_row_is_still_a_list_of_one(client: httpx.AsyncClient, tiny: TinyModel) -> None:
    row = tiny.encode(tiny.rows(1))[0].tolist()
    answer = (await client.post("/loss", json={"predicted": row, "target": row, "horizon": 15})).json()
    assert answer["losses"] == [0.0]
    assert answer["percentiles"] is None  # the bundle has quantiles for horizon 6 only


@pytest.mark.parametrize("binary_in", [False, True])
@pytest.mark.parametrize("binary_out", [False, True])
async def test_json_and_binary_go_in_and_out_in_every_combination(
    client: httpx.AsyncClient, tiny: TinyModel, binary_in: bool, binary_out: bool
) -> None:
    rows, later = tiny.rows(3), tiny.rows(3, seed=1)
    context = tiny.encode(rows, "context")
    cases: list[tuple[str, dict[str, Any], np.ndarray, str, str]] = [
        ("/embed", {"features": rows}, rows, "", "embeddings"),
        ("/embed", {"features": rows, "hidden": ["own", "stage"]}, rows, "?hidden=own,stage", "embeddings"),
        ("/predict", {"features": rows, "horizon": 15}, rows, "?horizon=15", "predictions"),
        ("/predict", {"context": context, "targets": ["own"]}, context, "?input=context&targets=own", "predictions"),
        ("/loss", {"features": rows, "target_features": later}, np.hstack([rows, later]), "", "losses"),
    ]
    for path, document, floats, query, field in cases:
        accept = {"accept": BINARY if binary_out else "application/json"}
        listed = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in document.items()}
        expected = (await client.post(path, json=listed)).json()[field]
        if binary_in:
            headers = {"content-type": BINARY, **accept}
            response = await client.post(path + query, content=floats.tobytes(), headers=headers)
        else:
            response = await client.post(path, json=listed, headers=accept)
        assert response.status_code == 200, response.text
        if binary_out:
            assert response.headers["content-type"] == BINARY
            found = np.frombuffer(response.content, "<f4").reshape(np.shape(expected))
        else:
            found = np.array(response.json()[field])
        np.testing.assert_allclose(found, expected, atol=1e-6)


async def test_json_without_a_content_type_is_taken_for_what_it_looks_like(client: httpx.AsyncClient) -> None:
    response = await client.post("/embed", content=json.dumps({"features": [0] * 10}).encode())
    assert "content-type" not in response.request.headers
    assert response.status_code == 200


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON", "application/x+json"])
async def test_json_goes_by_several_names(client: httpx.AsyncClient, content_type: str) -> None:
    response = await post(client, "/embed", json.dumps({"features": [0] * 10}), content_type=content_type)
    assert response.status_code == 200


@pytest.mark.parametrize("coding", ["", "identity", "Identity"])
async def test_a_coding_that_is_none_is_none(client: httpx.AsyncClient, coding: str) -> None:
    assert (await post(client, "/embed", json.dumps({"features": ROW}), content_encoding=coding)).status_code == 200


@pytest.mark.parametrize(
    ("accept", "binary"),
    [
        ("*/*", False),
        ("text/html, */*", False),
        (f"{BINARY}, application/json", True),
        (f"application/json, {BINARY}", False),
    ],
)
async def test_the_first_form_the_client_names_is_the_answers(
    client: httpx.AsyncClient, accept: str, binary: bool
) -> None:
    response = await client.post("/embed", json={"features": [0] * 10}, headers={"accept": accept})
    assert (response.headers["content-type"] == BINARY) == binary


async def test_answers_say_where_the_time_went_and_who_shared_the_run(client: httpx.AsyncClient) -> None:
    response = await client.post("/embed", json={"features": [[0] * 10] * 3})
    queue, infer = response.headers["server-timing"].split(", ")
    assert float(queue.removeprefix("queue;dur=")) >= 0
    assert float(infer.removeprefix("infer;dur=")) > 0
    assert response.headers["x-batch-rows"] == "3"


async def test_options_may_be_null(client: httpx.AsyncClient) -> None:
    nothing = {"hidden": None, "model": None, "schema_hash": None}
    plain = (await client.post("/embed", json={"features": ROW})).json()
    body = {"features": ROW, "encoder": None, **nothing}
    assert (await client.post("/embed", json=body)).json() == plain
    body = {"features": ROW, "context": None, "heads": None, "horizon": None, "novelty": None, **nothing}
    assert (await client.post("/forecast", json=body)).json()["novelty"] is None


@pytest.mark.parametrize(
    ("path", "in_body", "in_query"),
    [
        ("/embed", {"features": ROW, "encoder": "context"}, "encoder=context"),
        ("/embed", {"features": ROW, "hidden": ["own", "opponent"], "model": "tiny"}, "hidden=own,opponent&model=tiny"),
        ("/predict", {"features": ROW, "horizon": 6}, "horizon=6&input=features"),
        ("/predict", {"context": [0.5] * 4, "targets": ["own"]}, "targets=own&input=context"),
        ("/loss", {"features": ROW, "target_features": ROW, "horizon": 6}, "horizon=6.0"),
    ],
)
async def test_an_option_in_the_query_string_counts_like_one_in_a_json_body(
    client: httpx.AsyncClient, path: str, in_body: dict[str, Any], in_query: str
) -> None:
    rows = {name: value for name, value in in_body.items() if name in ROWS}
    answer = await client.post(path, json=in_body)
    assert answer.status_code == 200, answer.text
    assert (await client.post(f"{path}?{in_query}", json=rows)).json() == answer.json()
    # Said twice alike, and without a content type.
    both = await client.post(f"{path}?{in_query}", content=json.dumps(in_body), headers={"content-type": ""})
    assert both.json() == answer.json()


async def test_json_has_a_shape_of_its_own(client: httpx.AsyncClient) -> None:
    answer = await client.post("/embed", json={"features": ROW}, headers={"x-row-width": "20"})
    assert answer.status_code == 200


async def test_models_lists_what_a_bot_needs_to_know(client: httpx.AsyncClient, tiny: TinyModel) -> None:
    manifest = tiny.manifest()
    (card,) = (await client.get("/models")).json()["models"]
    details = (await client.get("/models/tiny")).json()
    assert details == card | {key: details[key] for key in ("map", "statistics")}
    for key in (
        "name",
        "version",
        "created",
        "input_dim",
        "embed_dim",
        "schema_hash",
        "horizons",
        "patches",
        "licence",
    ):
        assert card[key] == manifest[key]
    assert card["versions"] == [1]
    assert card["precision"] == "float32"
    assert card["precision_reason"] == "the bundle has no int8 graphs"
    assert card["names"] == manifest["schema"]["names"]
    assert card["groups"] == manifest["schema"]["groups"]
    assert card["metrics"] == {"probe_r2": 0.5}
    assert card["serving"].keys() == {"context_encoder", "target_encoder", "predictor"}
    assert card["serving"]["predictor"]["max_batch_rows"] >= 1
    assert card["layout"].keys() == {"processes", "batch_threads", "intra_op_threads"}


async def test_several_models_are_told_apart_by_name(tmp_path: Path) -> None:
    small, large = TinyModel(name="small"), TinyModel(name="large", groups=(("all", 20),), patches=(("all",),))
    small.write(tmp_path)
    large.write(tmp_path)
    async with serving(models=tmp_path) as client:
        for model in (small, large):
            body = {"features": model.rows(1).tolist(), "model": model.name}
            answer = (await client.post("/embed", json=body)).json()
            np.testing.assert_allclose(answer["embeddings"], model.encode(model.rows(1)), atol=1e-5)
            assert answer["model"] == model.name
        document = problem(await client.post("/embed", json={"features": ROW}), 422)
        assert document["errors"] == [
            {"loc": ["body", "model"], "msg": "several models are loaded, so name one: 'large', 'small'"}
        ]


async def test_names_of_folders_that_are_no_text_are_written_out(tmp_path: Path) -> None:
    TinyModel().write(tmp_path)
    # A folder from another system, in Latin-1, and one within a model.
    for inner in (b"gr\xf6\xdfe/1", b"tiny/v\xff"):
        folder = os.fsencode(tmp_path) + b"/" + inner
        os.makedirs(folder)
        (Path(os.fsdecode(folder)) / "bundle.json").write_text("{}")
    async with serving(models=tmp_path) as client:
        (refused,) = (await client.get("/models")).json()["refused"]
        assert refused["bundle"] == r"tiny/v\udcff"
        assert refused["reason"].startswith(r"tiny/v\udcff is no version; versions are folders called 1, 2")
        assert [each["name"] for each in (await client.post("/v2/repository/index")).json()] == ["tiny"]
        assert (await client.get("/metrics")).status_code == 200
        assert (await client.get("/openapi.json")).status_code == 200


async def test_an_empty_table_of_lua_is_an_empty_list(client: httpx.AsyncClient) -> None:
    row = {"features": [0.5] * 10}
    for path, name in (("/embed", "hidden"), ("/predict", "hidden"), ("/predict", "targets"), ("/forecast", "hidden")):
        as_list = await client.post(path, json=row | {name: []})
        as_table = await client.post(path, json=row | {name: {}})
        assert (as_table.status_code, as_table.content) == (as_list.status_code, as_list.content), (path, name)
    heads = await client.post("/forecast", json=row | {"heads": {}})
    assert "heads is empty" in problem(heads, 422)["detail"]
    assert (await client.post("/embed?hidden=", json=row | {"hidden": {}})).status_code == 200
    for wrong in ({"own": 1}, {"1": "own"}, "", 0):
        assert "hidden" in problem(await client.post("/embed", json=row | {"hidden": wrong}), 422)["detail"]
    assert "features" in problem(await client.post("/embed", json={"features": {}}), 422)["detail"]
