"""The player's own inputs in /predict and /forecast, on both ways to an endpoint, in JSON and in binary bodies."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.support.acting import ACTING, inputs, predicted, values
from tests.support.serving import serving

pytestmark = pytest.mark.anyio

BINARY = "application/octet-stream"
MAX_ROWS = 8
ROW: list[Any] = [0.0] * 10
KNOWN = [0, 0.5, -1]


@pytest.fixture(scope="module", params=["asgi", "socket"])
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
async def client(acting_models: Path, way: str) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(way, models=acting_models, max_rows=MAX_ROWS) as client:
        yield client


def written(actions: np.ndarray) -> Any:
    """As lists, with null where a number is not known, and in place of an input of which none is."""
    if actions.ndim > 1:
        return [written(each) for each in actions]
    return None if np.isnan(actions).all() else [None if np.isnan(each) else float(each) for each in actions]


async def ask(client: httpx.AsyncClient, path: str = "/predict", **body: Any) -> dict[str, Any]:
    response = await client.post(path, json=body)
    assert response.status_code == 200, response.text
    document: dict[str, Any] = response.json()
    return document


async def rows_in_runs(client: httpx.AsyncClient, graph: str) -> float:
    metrics = (await client.get("/metrics")).text
    (line,) = [line for line in metrics.splitlines() if line.startswith("jepa_infer_rows") and f'"{graph}"' in line]
    return float(line.split()[-1])


@pytest.mark.parametrize("frames", [1, 3, 4])
async def test_one_row_takes_a_list_of_inputs(client: httpx.AsyncClient, frames: int) -> None:
    row, actions = ACTING.rows(1), inputs(1, frames, seed=frames)
    answer = await ask(client, features=row[0].tolist(), actions=written(actions[0]), horizon=15)
    np.testing.assert_allclose([answer["predictions"]], predicted(row, actions), atol=1e-5)
    as_rows = await ask(client, features=row.tolist(), actions=written(actions[0]), horizon=15)
    assert as_rows["predictions"] == [answer["predictions"]]


async def test_several_rows_take_a_list_each(client: httpx.AsyncClient) -> None:
    rows, actions = ACTING.rows(3), inputs(3, 4)
    answer = await ask(client, features=rows.tolist(), actions=written(actions), horizon=6)
    np.testing.assert_allclose(answer["predictions"], predicted(rows, actions, 6), atol=1e-5)
    ahead = await ask(client, "/forecast", features=rows.tolist(), actions=written(actions), horizon=6)
    np.testing.assert_allclose(ahead["values"], values(predicted(rows, actions, 6), 6), rtol=1e-4)


@pytest.mark.parametrize("candidates", [1, MAX_ROWS])
async def test_one_row_takes_candidates_and_is_encoded_once_for_them(
    client: httpx.AsyncClient, candidates: int
) -> None:
    row, actions = ACTING.rows(1), inputs(candidates, 3)
    before = await rows_in_runs(client, "context_encoder")
    answer = await ask(client, features=row[0].tolist(), actions=written(actions), horizon=15)
    np.testing.assert_allclose(answer["predictions"], predicted(row, actions), atol=1e-5)
    assert await rows_in_runs(client, "context_encoder") == before + 1
    novel = await ask(
        client, "/forecast", features=row.tolist(), actions=written(actions), horizon=15, novelty=True, heads=["speed"]
    )
    assert np.shape(novel["values"]) == (candidates, 1)
    assert len(novel["novelty"]) == candidates


async def test_from_context_and_with_hidden_groups(client: httpx.AsyncClient) -> None:
    row, actions = ACTING.rows(1), inputs(2, 4)
    unseen = row.copy()
    unseen[:, 3:8] = np.nan
    context = ACTING.encode(unseen, "context")[0].tolist()
    for path, name in (("/predict", "predictions"), ("/forecast", "values")):
        hidden = await ask(
            client, path, features=row[0].tolist(), hidden=["opponent"], actions=written(actions), horizon=6
        )
        given = await ask(client, path, context=context, actions=written(actions), horizon=6)
        np.testing.assert_allclose(given[name], hidden[name], rtol=1e-4)
        expected = predicted(unseen, actions, 6)
        np.testing.assert_allclose(hidden[name], expected if name == "predictions" else values(expected, 6), rtol=1e-3)


async def test_what_is_not_known_is_as_what_is_left_out(client: httpx.AsyncClient) -> None:
    row = ACTING.rows(1)[0].tolist()
    without = await ask(client, features=row, horizon=15)
    for unknown in ([None], [[None, None, None]] * 4, [None, [None] * 3], None):
        assert await ask(client, features=row, horizon=15, actions=unknown) == without


async def test_binary_bodies_hold_the_inputs_behind_each_row(client: httpx.AsyncClient) -> None:
    rows, actions = ACTING.rows(3), inputs(3, 2)
    body = np.concatenate([rows, actions.reshape(3, -1)], axis=1).astype("<f4").tobytes()
    headers = {"content-type": BINARY, "accept": BINARY}
    response = await client.post("/predict?actions=2&horizon=15", content=body, headers=headers)
    assert response.status_code == 200, response.text
    found = np.frombuffer(response.content, "<f4").reshape(3, -1)
    np.testing.assert_allclose(found, predicted(rows, actions), atol=1e-5)
    context = ACTING.encode(rows, "context")
    body = np.concatenate([context, actions.reshape(3, -1)], axis=1).astype("<f4").tobytes()
    given = await client.post("/predict?actions=2&horizon=15&input=context", content=body, headers=headers)
    np.testing.assert_allclose(np.frombuffer(given.content, "<f4").reshape(3, -1), found, atol=1e-5)


async def test_binary_bodies_hold_candidates_behind_one_row(client: httpx.AsyncClient) -> None:
    row, actions = ACTING.rows(1), inputs(5, 4)
    body = row.astype("<f4").tobytes() + actions.astype("<f4").tobytes()
    headers = {"content-type": BINARY, "accept": BINARY}
    response = await client.post("/predict?actions=4&candidates=5&horizon=15", content=body, headers=headers)
    assert response.status_code == 200, response.text
    expected = predicted(row, actions)
    np.testing.assert_allclose(np.frombuffer(response.content, "<f4").reshape(5, -1), expected, atol=1e-5)
    url = "/forecast?actions=4&candidates=5&horizon=15&novelty=true"
    response = await client.post(url, content=body, headers=headers)
    found = np.frombuffer(response.content, "<f4").reshape(5, -1)
    np.testing.assert_allclose(found[:, :-1], values(expected), rtol=1e-4)
    response = await client.post(url, content=body, headers={"content-type": BINARY})
    np.testing.assert_array_equal(np.array(response.json()["values"], np.float32), found[:, :-1])


async def test_requests_with_and_without_inputs_are_answered_as_if_alone(client: httpx.AsyncClient) -> None:
    rows, actions = ACTING.rows(12), inputs(12, 4)
    sent = [{} if i % 2 else {"actions": written(each)} for i, each in enumerate(actions)]
    answers = await asyncio.gather(
        *(ask(client, features=row.tolist(), horizon=15, **each) for row, each in zip(rows, sent, strict=True))
    )
    for i, answer in enumerate(answers):
        expected = predicted(rows[i : i + 1], None if i % 2 else actions[i : i + 1])
        np.testing.assert_allclose([answer["predictions"]], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("body", "loc", "message"),
    [
        ({"actions": [[0, 0]]}, ["actions", 0], "actions[0] has 2 numbers, an input of model 'tiny' has 3; /models/"),
        ({"actions": [KNOWN] * 5}, ["actions"], "actions has 5 inputs, model 'tiny' takes those of 1 to 4 frames"),
        ({"actions": []}, ["actions"], "actions is empty; send an input for each frame, or leave actions out"),
        ({"actions": 3}, ["actions"], "actions must be a list of inputs, or a list of such lists for several rows"),
        ({"actions": [3]}, ["actions", 0], "actions[0] is no list of 3 numbers; an input is such a list, or null"),
        ({"actions": [[0, "x", 0]]}, ["actions", 0, 1], "actions[0][1] (stick_x) is text; write the number without"),
        ({"actions": [[True, 0, 0]]}, ["actions", 0, 0], "actions[0][0] (jump) is a boolean; write 1 or 0"),
        ({"actions": [[0, [1], None]]}, ["actions", 0, 1], "actions[0][1] (stick_x) is a list"),
        ({"actions": [KNOWN], "horizon": 0}, ["actions"], "horizon is 0, the frame itself; ask for horizon 4, 6, 15"),
        ({"actions": [KNOWN], "horizon": None}, ["actions"], "horizon is 0, the frame itself"),
        ({"actions": [KNOWN], "horizon": 7}, ["horizon"], "the nearest is 6"),
        ({"actions": [[KNOWN], [KNOWN, KNOWN]]}, ["actions", 1], "has 2 inputs, actions[0] has 1; fill up the shorter"),
        ({"actions": [[KNOWN], []]}, ["actions", 1], "actions[1] is empty"),
        ({"actions": [[KNOWN], None]}, ["actions", 1], "actions[1] is no list of inputs, as the others are"),
        ({"actions": [[KNOWN], [KNOWN, 3]]}, ["actions", 1], "actions[1] has 2 inputs, actions[0] has 1"),
        ({"actions": [[[0, 0]]]}, ["actions", 0, 0], "actions[0][0] has 2 numbers"),
        (
            {"features": [ROW] * 3, "actions": [[KNOWN]] * 2},
            ["actions"],
            "actions holds inputs for 2 rows, but the request has 3; send one list of inputs for each row, or one row",
        ),
        ({"features": [ROW] * 2, "actions": [KNOWN] * 2}, ["actions", 0, 0], "actions[0][0] is no list of 3 numbers"),
        ({"candidates": 3, "actions": [KNOWN]}, ["candidates"], "candidates is not known here"),
    ],
)
async def test_wrong_inputs_are_422_and_named(
    client: httpx.AsyncClient, body: dict[str, Any], loc: list[Any], message: str
) -> None:
    for path in ("/predict", "/forecast"):
        response = await client.post(path, json={"features": ROW, "horizon": 6} | body)
        assert response.status_code == 422, response.text
        (error,) = response.json()["errors"]
        assert error["loc"] == ["body", *loc]
        assert message in error["msg"]


@pytest.mark.parametrize("number", ["1e39", "Infinity", "-1e400"])
async def test_an_infinite_number_is_422_and_named(client: httpx.AsyncClient, number: str) -> None:
    for inputs_, loc in ((f"[[0, 0, 0], [0, {number}, 0]]", [1, 1]), (f"[[[0, 0, 0]], [[0, 0, {number}]]]", [1, 0, 2])):
        text = f'{{"features": {json.dumps(ROW)}, "horizon": 6, "actions": {inputs_}}}'
        response = await client.post("/predict", content=text, headers={"content-type": "application/json"})
        assert response.status_code == 422
        (error,) = response.json()["errors"]
        assert error["loc"] == ["body", "actions", *loc]
        assert "is infinite or beyond float32; send null where it is not known" in error["msg"]


FLOATS = np.zeros(10 + 2 * 3, "<f4")


@pytest.mark.parametrize(
    ("query", "floats", "message"),
    [
        ("actions=2", FLOATS[:-1], "the body has 60 bytes, which is no whole number of rows: with actions=2 model 'ti"),
        ("actions=2", FLOATS[:-1], "takes 10 float32 numbers and behind them 2 × 3 of actions, 64 bytes, a row"),
        ("actions=5", FLOATS, "actions has 5 inputs, model 'tiny' takes those of 1 to 4 frames"),
        ("actions=0", FLOATS, "actions: this must be greater than or equal to 1"),
        ("actions=two", FLOATS, "actions: this must be a valid integer"),
        ("candidates=2", FLOATS, "candidates are lists of inputs; say with actions of how many frames each has them"),
        ("actions=2&candidates=2", FLOATS, "64 bytes; one row of 10 float32 numbers and 2 candidates of 2 × 3 of"),
        ("actions=2&candidates=1", np.tile(FLOATS, 2), "128 bytes; one row of 10 float32 numbers and 1 candidates"),
        ("actions=2", np.where(np.arange(16) == 3, np.nan, FLOATS), "(opponent_0) is NaN"),
        ("actions=2", np.where(np.arange(16) == 13, np.inf, FLOATS), "actions[1][0] (jump) is infinite"),
        ("actions=2&horizon=0", FLOATS, "horizon is 0, the frame itself"),
    ],
)
async def test_wrong_binary_bodies_are_422(
    client: httpx.AsyncClient, query: str, floats: np.ndarray, message: str
) -> None:
    url = f"/predict?{query}" if "horizon" in query else f"/predict?horizon=6&{query}"
    response = await client.post(url, content=floats.astype("<f4").tobytes(), headers={"content-type": BINARY})
    assert response.status_code == 422, response.text
    assert message in response.json()["detail"]


async def test_candidates_count_as_rows(client: httpx.AsyncClient) -> None:
    body = {"features": ROW, "horizon": 6, "actions": [[KNOWN]] * (MAX_ROWS + 1)}
    response = await client.post("/predict", json=body)
    assert response.status_code == 413
    assert "the request has 9 candidates, the limit is 8 rows" in response.json()["detail"]
    url, floats = "/predict?horizon=6&actions=1&candidates=9", np.zeros(10 + 9 * 3, "<f4").tobytes()
    response = await client.post(url, content=floats, headers={"content-type": BINARY})
    assert response.status_code == 413


async def test_beside_json_a_count_of_inputs_is_422(client: httpx.AsyncClient) -> None:
    for query in ("actions=1", "actions=1&candidates=1"):
        body = {"features": ROW, "horizon": 6, "actions": [KNOWN]}
        response = await client.post(f"/predict?{query}", json=body)
        assert response.status_code == 422
        assert "counts what follows a row in a binary body; a JSON body holds the inputs" in response.json()["detail"]


async def test_the_model_says_which_inputs_it_takes(client: httpx.AsyncClient) -> None:
    model = (await client.get("/models/tiny")).json()
    assert (model["actions"], model["max_actions"], model["action_values"]) == (["jump", "stick_x", "stick_y"], 4, {})


async def test_other_endpoints_know_no_inputs(client: httpx.AsyncClient) -> None:
    for path, rows in (("/embed", {"features": ROW}), ("/loss", {"features": ROW, "target_features": ROW})):
        response = await client.post(path, json=rows | {"actions": [KNOWN]})
        assert response.status_code == 422
        assert "actions is not known here" in response.json()["detail"]


async def test_a_model_that_takes_none_says_so(models: Path) -> None:
    async with serving(models=models) as client:
        for path in ("/predict", "/forecast"):
            response = await client.post(path, json={"features": ROW, "horizon": 6, "actions": [KNOWN]})
            assert response.status_code == 422
            assert (
                "actions are given, but model 'tiny' takes none; leave them out, or train" in response.json()["detail"]
            )
            floats = np.zeros(13, "<f4").tobytes()
            response = await client.post(
                f"{path}?actions=1&horizon=6", content=floats, headers={"content-type": BINARY}
            )
            assert "model 'tiny' takes none" in response.json()["detail"]
        assert (await client.get("/models/tiny")).json()["actions"] == []


async def test_an_input_of_a_class_that_training_did_not_know_is_422_and_named(tmp_path: Path) -> None:
    replace(ACTING, extra={"action_values": {"jump": [0.0, 1.0, 4.0]}}).write(tmp_path)
    async with serving(models=tmp_path) as client:
        for actions in ([[1, 0.5, 0], [4, 7, 0], None], [[None, 2, 0]]):
            await ask(client, features=ROW, horizon=6, actions=actions)
        response = await client.post("/predict", json={"features": ROW, "horizon": 6, "actions": [KNOWN, [2, 0, 0]]})
        assert response.status_code == 422
        (error,) = response.json()["errors"]
        assert error["loc"] == ["body", "actions", 1, 0]
        assert error["msg"] == ("actions[1][0] (jump) is 2, which is none of the values it had in training: 0, 1, 4")
        assert (await client.get("/models/tiny")).json()["action_values"] == {"jump": [0, 1, 4]}
