"""What the native endpoints refuse, both ways to them, and in which words."""

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.app.api.native.conftest import BINARY, MAX_BODY_BYTES, MAX_ROWS, ROW, post, problem
from tests.support.bundles import TinyModel
from tests.support.serving import serving

pytestmark = pytest.mark.anyio

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


@pytest.mark.parametrize("body", ["", "{", '{"features": [1,]}', "\ufeff{", "[" * 3000, "hello"])
async def test_what_is_no_json_is_400_with_the_position(client: httpx.AsyncClient, body: str) -> None:
    document = problem(await post(client, "/embed", body), 400)
    assert "line 1 column" in document["detail"]


@pytest.mark.parametrize(
    ("headers", "mend"),
    [
        ({"content_type": "application/x-www-form-urlencoded"}, f"or '{BINARY}' for"),
        ({"content_type": "text/plain"}, f"or '{BINARY}' for"),
        ({"content_type": "application/json", "content_encoding": "gzip"}, "send it as it is"),
    ],
)
async def test_another_content_type_or_coding_is_415_and_says_what_is_taken(
    client: httpx.AsyncClient, headers: dict[str, str], mend: str
) -> None:
    assert mend in problem(await post(client, "/embed", json.dumps({"features": ROW}), **headers), 415)["detail"]


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
        monkeypatch.setattr("app.inference.jobs._checked", lambda *_: 1 / 0)
        document = problem(await client.post("/embed", json={"features": ROW}), 500)
    assert "ZeroDivisionError" in document["detail"]
    assert "division by zero" in caplog.text


async def test_a_bug_is_a_500_without_its_traceback(models: Path, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.api.native.request.parse_json", lambda _: 1 / 0)
    async with serving(way, models=models) as client:
        response = await client.post("/embed", json={"features": ROW})
    assert response.status_code == 500
    assert response.json()["detail"] == "the service failed on this request; its log has the reason"
