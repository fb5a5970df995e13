import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from app.api.native.schemas import ROWS
from app.main import create_app
from app.service import Service
from app.settings import Settings
from tests.support.bundles import TinyModel
from tests.support.serving import client_of, serving

pytestmark = pytest.mark.anyio

BINARY = "application/octet-stream"
MAX_BODY_BYTES = 4000
MAX_ROWS = 8


@pytest.fixture(scope="module", params=["asgi", "socket"])
def way(request: pytest.FixtureRequest) -> str:
    """Both ways to an endpoint: through FastAPI, and the short one of `app.server.protocol`."""
    return str(request.param)


@pytest.fixture(scope="module")
async def client(models: Path, way: str) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(way, models=models, max_rows=MAX_ROWS, max_body_bytes=MAX_BODY_BYTES) as client:
        yield client


def problem(response: httpx.Response, status: int) -> dict[str, Any]:
    """The problem document, whose form every refusal shares."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    assert document["status"] == status
    assert {"type", "title", "detail"} <= document.keys()
    assert response.headers["x-request-id"]
    return document


async def post(client: httpx.AsyncClient, path: str, text: str | bytes, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await client.post(path, content=text, headers={"content-type": "application/json", **named})


# What is answered


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
    body = {"features": [0] * 10, "hidden": None, "model": None, "schema_hash": None}
    assert (await client.post("/embed", json=body)).status_code == 200


# What is refused

ROW = [0] * 10
REFUSED_FIELDS: list[tuple[str, str, list[Any], str]] = [
    ("/embed", '{"features": [[0, 1, "2", 0, 0, 0, 0, 0, 0, 0]]}', ["features", 0, 2], "is text"),
    ("/embed", '{"features": [[0, 1, true, 0, 0, 0, 0, 0, 0, 0]]}', ["features", 0, 2], "is a boolean"),
    ("/embed", '{"features": [0, null, 0, 0, 0, 0, 0, 0, 0, 0]}', ["features", 1], "is null"),
    (
        "/embed",
        '{"features": [0, NaN, 0, 0, 0, 0, 0, 0, 0, 0]}',
        ["features", 1],
        "(own_1) is NaN; replace it, or hide",
    ),
    ("/embed", '{"features": [0, 0, 0, -Infinity, 0, 0, 0, 0, 0, 0]}', ["features", 3], "(opponent_0) is infinite"),
    ("/embed", '{"features": [0, 0, 0, 1e999, 0, 0, 0, 0, 0, 0]}', ["features", 3], "beyond float32"),
    ("/embed", '{"features": [0, 0, 0, 1e39, 0, 0, 0, 0, 0, 0]}', ["features", 3], "beyond float32"),
    ("/embed", '{"features": [0, 0, 0, 1%s, 0, 0, 0, 0, 0, 0]}' % ("0" * 39), ["features", 3], "beyond float32"),
    ("/embed", '{"features": [[[0]]]}', ["features", 0, 0], "is a list"),
    (
        "/embed",
        '{"features": [[0, 0, 0, 0, 0, 0, 0, 0, 0, 0], [0]]}',
        ["features", 1],
        "has 1 number, model 'tiny' takes 10",
    ),
    ("/embed", '{"features": []}', ["features"], "is empty"),
    ("/embed", '{"features": [[]]}', ["features", 0], "has 0 numbers"),
    ("/embed", '{"features": {}}', ["features"], "must be a list"),
    ("/embed", '{"features": null}', ["features"], "must be a list"),
    ("/embed", json.dumps({"features": [0] * 11}), ["features"], "if the last one is padding, leave it out"),
    ("/embed", "{}", ["features"], "features is missing"),
    ("/embed", "[1, 2, 3]", [], 'must be a JSON object such as {"features"'),
    ("/embed", json.dumps({"features": ROW, "hiden": []}), ["hiden"], "did you mean 'hidden'?"),
    ("/embed", json.dumps({"features": ROW, "hidden": ["oponent"]}), ["hidden", 0], "did you mean 'opponent'?"),
    ("/embed", json.dumps({"features": ROW, "hidden": "own"}), ["hidden"], "must be a valid list"),
    ("/embed", json.dumps({"features": ROW, "hidden": ["own", "opponent", "stage"]}), ["hidden"], "must stay visible"),
    ("/embed", json.dumps({"features": ROW, "encoder": "both"}), ["encoder"], "must be 'target' or 'context'"),
    ("/embed", json.dumps({"features": ROW, "model": 3}), ["model"], "must be a valid string"),
    ("/predict", "{}", [], "send either features or context"),
    ("/predict", json.dumps({"features": ROW, "context": [0] * 4}), [], "send either features or context"),
    ("/predict", json.dumps({"context": [0] * 10}), ["context"], "has 10 numbers, model 'tiny' takes 4"),
    ("/predict", json.dumps({"context": [0] * 4, "hidden": ["own"]}), ["hidden"], "hidden goes with features"),
    ("/predict", json.dumps({"features": ROW, "targets": []}), ["targets"], "name at least one"),
    ("/predict", json.dumps({"features": ROW, "targets": ["x"]}), ["targets", 0], "it has 'own', 'opponent', 'stage'"),
    ("/predict", json.dumps({"features": ROW, "horizon": 7}), ["horizon"], "was trained for: 6, 15"),
    ("/predict", json.dumps({"features": ROW, "horizon": "6"}), ["horizon"], "must be a valid number"),
    (
        "/loss",
        json.dumps({"predicted": [0] * 4}),
        [],
        "send either predicted and target, or features and target_features",
    ),
    ("/loss", json.dumps({"predicted": [0] * 4, "target_features": ROW}), [], "send either predicted and target"),
    ("/loss", json.dumps({"predicted": [[0] * 4], "target": [[0] * 4] * 2}), ["target"], "has 1 rows and target has 2"),
    ("/loss", '{"predicted": [0, 0, 0, NaN], "target": [0, 0, 0, 0]}', ["predicted", 3], "is NaN; replace it"),
    ("/loss", json.dumps({"predicted": [0] * 4, "target": [0] * 4, "horizon": 1}), ["horizon"], "was trained for"),
]


@pytest.mark.parametrize(("path", "body", "loc", "message"), REFUSED_FIELDS)
async def test_a_wrong_field_is_422_and_named(
    client: httpx.AsyncClient, path: str, body: str, loc: list[Any], message: str
) -> None:
    document = problem(await post(client, path, body), 422)
    (error,) = document["errors"]
    assert error["loc"] == ["body", *loc]
    assert message in error["msg"]
    assert message in document["detail"]


async def test_a_refusal_does_not_repeat_what_was_sent(client: httpx.AsyncClient) -> None:
    body = {"features": [["secret"] * 10], "model": None, "schema_hash": "secret", "encoder": "secret"}
    assert "secret" not in (await client.post("/embed", json=body)).text
    assert "secret" not in (await client.post("/embed", json={"features": ROW, "model": "secret"})).text


async def test_half_a_surrogate_pair_is_refused_like_any_other_name(client: httpx.AsyncClient) -> None:
    problem(await post(client, "/embed", '{"features": [0], "\\ud800": 1}'), 422)
    problem(await post(client, "/embed", '{"features": [0], "model": "\\ud800"}'), 404)


@pytest.mark.parametrize(
    ("query", "loc", "message"),
    [
        ("?modle=tiny", ["query", "modle"], "did you mean 'model'?"),
        ("?encoder=both", ["query", "encoder"], "must be 'target' or 'context'"),
        ("?encoder=target&encoder=context", ["query", "encoder"], "given twice"),
        ("?hidden=own,nobody", ["query", "hidden", 1], "is no group of this model"),
    ],
)
async def test_a_wrong_option_beside_a_binary_body_is_422_and_named(
    client: httpx.AsyncClient, query: str, loc: list[Any], message: str
) -> None:
    document = problem(await post(client, "/embed" + query, bytes(40), content_type=BINARY), 422)
    assert document["errors"][0]["loc"] == loc
    assert message in document["errors"][0]["msg"]


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


@pytest.mark.parametrize(
    ("path", "body", "query", "name"),
    [
        ("/embed", {"features": ROW, "encoder": "target"}, "encoder=context", "encoder"),
        ("/embed", {"features": ROW, "hidden": []}, "hidden=own", "hidden"),
        ("/predict", {"features": ROW, "horizon": 6}, "horizon=15", "horizon"),
        ("/predict", {"features": ROW}, "input=context", "input"),
        ("/predict", {"context": [0.5] * 4}, "input=features", "input"),
    ],
)
async def test_a_query_string_that_says_something_else_than_the_json_body_is_422(
    client: httpx.AsyncClient, path: str, body: dict[str, Any], query: str, name: str
) -> None:
    document = problem(await client.post(f"{path}?{query}", json=body), 422)
    assert document["errors"][0]["loc"] == ["query", name]
    assert "give it once" in document["detail"]


@pytest.mark.parametrize(
    ("body", "loc", "message"),
    [
        (b"", ["body"], "the body is empty"),
        (bytes(41), ["body"], "no whole number of rows: model 'tiny' takes 10 float32 numbers, 40 bytes, a row"),
        (bytes(44), ["body"], "if number 11 of each row is padding, leave it out"),
        (np.array([0] * 12 + [np.nan] + [0] * 7, np.float32).tobytes(), ["body", "features", 1, 2], "(own_2) is NaN"),
        (np.array([0] * 9 + [np.inf], np.float32).tobytes(), ["body", "features", 0, 9], "is infinite"),
    ],
)
async def test_a_wrong_binary_body_is_422_and_says_where(
    client: httpx.AsyncClient, body: bytes, loc: list[Any], message: str
) -> None:
    document = problem(await post(client, "/embed", body, content_type=BINARY), 422)
    assert document["errors"][0]["loc"] == loc
    assert message in document["errors"][0]["msg"]


@pytest.mark.parametrize(
    ("path", "width", "wrong", "message"),
    [
        ("/embed", 10, 20, "features has 20 numbers, model 'tiny' takes 10; /models/tiny names them in order"),
        ("/embed?encoder=context", 10, 11, "features has 11 numbers, .* if the last one is padding, leave it out"),
        ("/embed", 10, 1, "features has 1 number, model 'tiny' takes 10"),
        ("/embed", 10, 10**11, "features has 100000000000 numbers, model 'tiny' takes 10"),
        ("/predict?horizon=6", 10, 5, "features has 5 numbers, model 'tiny' takes 10"),
        ("/predict?input=context", 4, 8, "context has 8 numbers, model 'tiny' takes 4; send embeddings of this model"),
        ("/forecast", 10, 2, "features has 2 numbers, model 'tiny' takes 10"),
        ("/forecast?input=context", 4, 10, "context has 10 numbers, model 'tiny' takes 4"),
        ("/loss", 10, 20, "features has 20 numbers, model 'tiny' takes 10"),
    ],
)
async def test_a_binary_body_whose_rows_are_wider_or_narrower_than_it_says_is_422(
    client: httpx.AsyncClient, path: str, width: int, wrong: int, message: str
) -> None:
    """Its 20 numbers are whole rows of most widths, whatever shape they were of."""
    body = np.zeros(20, "<f4").tobytes()
    for said in ({}, {"x_row_width": str(width)}):
        assert (await post(client, path, body, content_type=BINARY, **said)).status_code == 200
    document = problem(await post(client, path, body, content_type=BINARY, x_row_width=str(wrong)), 422)
    (error,) = document["errors"]
    assert re.match(message, error["msg"])
    assert error["loc"] == ["body", message.partition(" ")[0]]


@pytest.mark.parametrize("width", ["", "ten", "-10", "10.0", "1" * 13])
async def test_a_width_that_is_no_number_is_422(client: httpx.AsyncClient, width: str) -> None:
    document = problem(await post(client, "/embed", bytes(40), content_type=BINARY, x_row_width=width), 422)
    assert document["errors"] == [
        {"loc": ["header", "X-Row-Width"], "msg": "X-Row-Width must be how many numbers a row has, such as 287"}
    ]


async def test_json_has_a_shape_of_its_own(client: httpx.AsyncClient) -> None:
    answer = await client.post("/embed", json={"features": ROW}, headers={"x-row-width": "20"})
    assert answer.status_code == 200


@pytest.mark.parametrize("body", ["", "{", '{"features": [1,]}', "\ufeff{", "[" * 3000, "hello"])
async def test_what_is_no_json_is_400_with_the_position(client: httpx.AsyncClient, body: str) -> None:
    document = problem(await post(client, "/embed", body), 400)
    assert "line 1 column" in document["detail"]


@pytest.mark.parametrize(
    "headers",
    [
        {"content_type": "application/x-www-form-urlencoded"},
        {"content_type": "text/plain"},
        {"content_type": "application/json", "content_encoding": "gzip"},
    ],
)
async def test_another_content_type_is_415_and_says_which_are_taken(
    client: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    problem(await post(client, "/embed", json.dumps({"features": ROW}), **headers), 415)


async def test_floats_without_a_content_type_are_415(client: httpx.AsyncClient) -> None:
    document = problem(await client.post("/embed", content=bytes(40)), 415)
    assert BINARY in document["detail"]


async def test_more_rows_than_allowed_are_413(client: httpx.AsyncClient) -> None:
    rows = [[0] * 10] * (MAX_ROWS + 1)
    assert "9 rows, the limit is 8" in problem(await client.post("/embed", json={"features": rows}), 413)["detail"]
    problem(await post(client, "/embed", bytes(40 * (MAX_ROWS + 1)), content_type=BINARY), 413)
    assert (await client.post("/embed", json={"features": rows[:MAX_ROWS]})).status_code == 200


@pytest.mark.parametrize("way", ["asgi"], indirect=True)  # tests/app/server/test_run.py has it over a socket
@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_over_the_limit_is_413_without_reading_the_rest(
    client: httpx.AsyncClient, announced: bool
) -> None:
    read = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal read
        for _ in range(100):
            read += 1000
            yield b" " * 1000

    headers = {"content-type": "application/json"} | ({"content-length": "100000"} if announced else {})
    response = await client.post("/embed", content=chunks(), headers=headers)
    document = problem(response, 413)
    assert f"larger than {MAX_BODY_BYTES} bytes" in document["detail"]
    assert read <= (0 if announced else MAX_BODY_BYTES + 1000)
    assert response.headers["connection"] == "close"


async def test_an_unknown_model_is_404_and_lists_those_there_are(client: httpx.AsyncClient) -> None:
    document = problem(await client.post("/embed", json={"features": ROW, "model": "chess"}), 404)
    assert "loaded: 'tiny'" in document["detail"]
    problem(await post(client, "/embed?model=chess", bytes(40), content_type=BINARY), 404)
    problem(await client.get("/models/chess"), 404)


async def test_another_schema_hash_is_409_wherever_it_stands(client: httpx.AsyncClient, tiny: TinyModel) -> None:
    right = tiny.manifest()["schema_hash"]
    assert (await client.post("/embed", json={"features": ROW, "schema_hash": right})).status_code == 200
    header = {"x-schema-hash": right}
    assert (await client.post("/embed", json={"features": ROW}, headers=header)).status_code == 200
    document = problem(await client.post("/embed", json={"features": ROW, "schema_hash": "0"}), 409)
    assert right in document["detail"]
    problem(await client.post("/embed", json={"features": ROW}, headers={"x-schema-hash": "0"}), 409)
    problem(await post(client, "/embed?schema_hash=0", bytes(40), content_type=BINARY), 409)
    # A bot with another layout often has another width too: the layout is the reason worth telling.
    problem(await client.post("/embed", json={"features": [0], "schema_hash": "0"}), 409)


@pytest.mark.parametrize("timeout", ["soon", "-1", "nan", "inf", ""])
async def test_a_deadline_that_is_no_number_is_422(client: httpx.AsyncClient, timeout: str) -> None:
    response = await client.post("/embed", json={"features": ROW}, headers={"x-request-timeout-ms": timeout})
    assert problem(response, 422)["errors"][0]["loc"] == ["header", "X-Request-Timeout-Ms"]


async def test_unknown_paths_and_methods_are_problems_too(client: httpx.AsyncClient) -> None:
    problem(await client.get("/nowhere"), 404)
    response = await client.get("/embed")
    problem(response, 405)
    assert response.headers["allow"] == "POST"


async def test_a_model_that_fails_is_500_and_keeps_its_reasons_to_the_log(
    models: Path, way: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(way, models=models) as client:
        monkeypatch.setattr("app.inference.jobs.accumulate", lambda *_, **__: 1 / 0)
        document = problem(await client.post("/embed", json={"features": ROW}), 500)
    assert "ZeroDivisionError" in document["detail"]
    assert "division by zero" in caplog.text


async def test_a_bug_is_a_500_without_its_traceback(models: Path, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.api.native.request.parse_json", lambda _: 1 / 0)
    async with serving(way, models=models) as client:
        response = await client.post("/embed", json={"features": ROW})
    assert response.status_code == 500
    assert response.json()["detail"] == "the service failed on this request; its log has the reason"


# What happens when more comes than can be computed

Held = tuple[httpx.AsyncClient, Service]


@pytest.fixture
async def held(models: Path, way: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Held]:
    """A service whose only thread is taken, until it is released."""
    monkeypatch.setattr("app.inference.batch_limits.MAX_LOOP_BLOCK_S", 0)
    app = create_app(Settings(models=models, batch_threads=1, max_rows=4, max_queue_rows=5))
    service: Service = app.state.service
    async with client_of(app, way) as client:
        assert service.threads.acquire(lambda: None)
        yield client, service


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


def queue_rows(service: Service) -> int:
    return service.registry.get("tiny").engine.queues.target_encoder.queue_rows


async def test_a_full_queue_is_429_at_once_with_its_depth(held: Held) -> None:
    client, service = held
    waiting = asyncio.create_task(client.post("/embed", json={"features": [ROW] * 4}))
    await until(lambda: queue_rows(service) == 4)
    response = await client.post("/embed", json={"features": [ROW] * 2})
    document = problem(response, 429)
    assert document["queue_rows"] == 4
    assert int(response.headers["retry-after"]) >= 1
    service.threads.release()
    assert (await waiting).status_code == 200


async def test_a_request_past_its_deadline_is_504_while_the_model_is_still_busy(held: Held) -> None:
    client, service = held
    response = await client.post("/embed", json={"features": ROW}, headers={"x-request-timeout-ms": "20"})
    problem(response, 504)
    assert queue_rows(service) == 0
    problem(await client.post("/embed", json={"features": ROW}, headers={"x-request-timeout-ms": "0"}), 504)
    service.threads.release()


async def test_a_newer_frame_of_a_stream_supersedes_one_that_waits(held: Held) -> None:
    client, service = held
    stream = {"x-stream-id": "bot 1"}
    older = asyncio.create_task(client.post("/embed", json={"features": ROW}, headers=stream))
    await until(lambda: queue_rows(service) == 1)
    newer = asyncio.create_task(client.post("/embed", json={"features": ROW}, headers=stream))
    document = problem(await older, 409)
    assert document["type"] == "urn:jepa:error:superseded"
    service.threads.release()
    assert (await newer).status_code == 200


async def test_a_draining_service_finishes_what_it_has_and_takes_nothing_new(held: Held) -> None:
    client, service = held
    waiting = asyncio.create_task(client.post("/embed", json={"features": ROW}))
    await until(lambda: queue_rows(service) == 1)
    service.drain()
    response = await client.post("/embed", json={"features": ROW})
    assert "draining" in problem(response, 503)["detail"]
    assert int(response.headers["retry-after"]) >= 1
    service.threads.release()
    assert (await waiting).status_code == 200


# What is served


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
