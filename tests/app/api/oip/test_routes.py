"""The Open Inference Protocol on the wire; tests/app/api/oip/test_triton_client.py has it through Triton's client."""

import gzip
import json
import zlib
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.app.api.oip.conftest import INFER, LENGTH, ROW, asked, embedding, refusal
from tests.support.bundles import TinyModel
from tests.support.serving import serving

pytestmark = pytest.mark.anyio


async def test_the_request_of_kserves_client_is_answered_as_it_reads_it(
    client: httpx.AsyncClient, tiny: TinyModel
) -> None:
    """What InferenceRESTClient of kserve 0.21 sends, written down for where test_kserve_client.py cannot run it.

    It names the model in the body too, and never leaves the id out.
    """
    rows = tiny.rows(2)
    tensor: dict[str, Any] = {"name": "features", "shape": [2, 10], "datatype": "FP32"}
    request = {"id": "5c8f", "model_name": "tiny", "inputs": [tensor | {"data": rows.ravel().tolist()}]}
    response = await client.post(INFER, json=request)
    assert response.headers["content-type"] == "application/json"
    assert {"model_name", "model_version", "id", "outputs"} == response.json().keys()
    np.testing.assert_allclose(embedding(response), tiny.encode(rows), atol=1e-5)

    tensor["parameters"] = {"binary_data_size": rows.nbytes}
    wanted = [{"name": "embedding", "parameters": {"binary_data": True}}]
    header = json.dumps({"id": "5c8f", "model_name": "tiny", "inputs": [tensor], "outputs": wanted}).encode()
    headers = {LENGTH.lower(): str(len(header)), "content-type": "application/octet-stream"}
    response = await client.post(INFER, content=header + rows.tobytes(), headers=headers)
    assert response.headers["content-type"] == "application/octet-stream"
    np.testing.assert_allclose(embedding(response), tiny.encode(rows), atol=1e-5)

    assert (await client.get("/v2/health/live")).json()["live"] is True
    assert (await client.get("/v2/health/ready")).json()["ready"] is True
    assert (await client.get("/v2/models/tiny/ready")).is_success


@pytest.mark.parametrize(
    "headers",
    [{LENGTH: "0"}, {"content-type": "application/octet-stream"}, {LENGTH: "0", "content-type": "text/plain"}],
)
async def test_a_body_without_json_is_the_input_itself(
    client: httpx.AsyncClient, tiny: TinyModel, headers: dict[str, str]
) -> None:
    rows = tiny.rows(2)
    response = await client.post(INFER, content=rows.tobytes(), headers=headers)
    assert LENGTH in response.headers
    np.testing.assert_allclose(embedding(response), tiny.encode(rows), atol=1e-5)
    assert "features[0][1] (own_1) is NaN" in refusal(
        await client.post(INFER, content=np.array([0, np.nan] + [0] * 8, np.float32).tobytes(), headers=headers), 400
    )
    assert "model 'tiny' takes 10 float32 numbers, 40 bytes, a row" in refusal(
        await client.post(INFER, content=bytes(41), headers=headers), 400
    )
    assert "the model takes 'features', 'target_features'" in refusal(
        await client.post("/v2/models/tiny.loss/infer", content=bytes(80), headers=headers), 400
    )


@pytest.mark.parametrize("padding", [0, 2000])
async def test_other_numbers_behind_the_same_json_are_another_request(
    client: httpx.AsyncClient, tiny: TinyModel, padding: int
) -> None:
    tensor = {"name": "features", "shape": [2, 10], "datatype": "FP32", "parameters": {"binary_data_size": 80}}
    header = json.dumps({"inputs": [tensor]}).encode().ljust(padding)
    for seed in range(3):
        rows = tiny.rows(2, seed)
        response = await client.post(INFER, content=header + rows.tobytes(), headers={LENGTH: str(len(header))})
        np.testing.assert_allclose(embedding(response), tiny.encode(rows), atol=1e-5)
    misspelt = header.replace(b"inputs", b"inpust")
    for _ in range(2):
        response = await client.post(INFER, content=misspelt + bytes(80), headers={LENGTH: str(len(header))})
        assert "inputs is missing" in refusal(response, 400)


@pytest.mark.parametrize("content_type", [None, "application/json", "application/x-www-form-urlencoded"])
async def test_json_is_read_whatever_its_content_type(
    client: httpx.AsyncClient, tiny: TinyModel, content_type: str | None
) -> None:
    headers = {} if content_type is None else {"content-type": content_type}
    response = await client.post(INFER, content=json.dumps(asked(tiny.rows(1))).encode(), headers=headers)
    np.testing.assert_allclose(embedding(response), tiny.encode(tiny.rows(1)), atol=1e-5)


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "deflate"])
async def test_bodies_may_be_compressed_both_ways(client: httpx.AsyncClient, tiny: TinyModel, coding: str) -> None:
    body = json.dumps(asked(tiny.rows(8))).encode()
    packed = zlib.compress(body) if coding == "deflate" else gzip.compress(body)
    response = await client.post(INFER, content=packed, headers={"content-encoding": coding, "accept-encoding": coding})
    assert response.headers["content-encoding"] == coding.removeprefix("x-")
    np.testing.assert_allclose(embedding(response), tiny.encode(tiny.rows(8)), atol=1e-5)


@pytest.mark.parametrize("coding", ["", "identity", "Identity"])
async def test_a_coding_that_is_none_is_none(client: httpx.AsyncClient, tiny: TinyModel, coding: str) -> None:
    response = await client.post(INFER, json=asked(tiny.rows(2)), headers={"content-encoding": coding})
    np.testing.assert_allclose(embedding(response), tiny.encode(tiny.rows(2)), atol=1e-5)


async def test_what_http_libraries_accept_by_themselves_is_no_wish_for_a_compressed_answer(
    client: httpx.AsyncClient, tiny: TinyModel
) -> None:
    for accepted in ("gzip, deflate, br", "identity", "br", "*"):
        response = await client.post(INFER, json=asked(tiny.rows(8)), headers={"accept-encoding": accepted})
        assert "content-encoding" not in response.headers


async def test_answers_say_where_the_time_went(client: httpx.AsyncClient, tiny: TinyModel) -> None:
    response = await client.post(INFER, json=asked(tiny.rows(3)))
    assert response.headers["server-timing"].startswith("queue;dur=")
    assert response.headers["x-batch-rows"] == "3"


async def test_without_a_model_nothing_is_ready(tmp_path: Path) -> None:
    async with serving(models=tmp_path) as client:
        assert (await client.get("/v2/health/ready")).status_code == 503
        assert "no model is loaded" in refusal(await client.post(INFER, json=asked(ROW)), 503)
        assert (await client.get("/v2/models")).json() == {"models": []}


async def test_the_index_has_what_was_refused_unless_asked_for_what_is_ready(tmp_path: Path) -> None:
    TinyModel().write(tmp_path)
    broken = TinyModel(name="broken").write(tmp_path)
    (broken / "predictor.onnx").write_bytes(b"")
    async with serving(models=tmp_path) as client:
        whole = (await client.post("/v2/repository/index")).json()
        ready = (await client.post("/v2/repository/index", json={"ready": True})).json()
        assert str(tmp_path) not in (await client.get("/models")).text
    assert [(each["name"], each["state"]) for each in ready] == [("tiny", "READY")]
    (refused,) = (each for each in whole if each not in ready)
    assert (refused["name"], refused["version"], refused["state"]) == ("broken", "1", "UNAVAILABLE")
    assert refused["reason"]
    assert str(tmp_path) not in refused["reason"]


async def test_a_model_without_quantiles_has_no_percentiles(tmp_path: Path) -> None:
    TinyModel(quantiles=False).write(tmp_path)
    async with serving(models=tmp_path) as client:
        found = (await client.get("/v2/models/tiny.loss")).json()
        assert (await client.get("/v2/models")).json()["models"][3] == "tiny.loss"
    assert [each["name"] for each in found["outputs"]] == ["losses"]


async def test_requests_are_measured_and_refusals_counted_by_the_routes_template(
    models: Path, way: str, tiny: TinyModel
) -> None:
    async with serving(way, models=models) as client:
        await client.post(INFER, json=asked(tiny.rows(3)))
        await client.post(INFER, json=asked(tiny.rows(3)[:, :4]))
        await client.get("/v2/models/tiny/versions/1/ready")
        await client.get("/v2/health/live")
        metrics = (await client.get("/metrics")).text
    found: dict[str, dict[frozenset[str], float]] = {}
    for family in text_string_to_metric_families(metrics):
        for sample in family.samples:
            found.setdefault(sample.name, {})[frozenset(sample.labels.values())] = sample.value
    route = "/v2/models/{name}/infer"
    assert found["jepa_http_requests_total"] == {
        frozenset(("POST", route, "200")): 1,
        frozenset(("POST", route, "400")): 1,
        frozenset(("GET", "/v2/models/{name}/versions/{version}/ready", "200")): 1,
    }
    assert found["jepa_requests_rejected_total"] == {frozenset(("invalid_input",)): 1}
    assert found["jepa_infer_rows_total"][frozenset(("tiny", "target_encoder"))] == 3


async def test_parameters_that_clients_add_for_themselves_are_ignored(client: httpx.AsyncClient) -> None:
    """MLServer's codecs say how a tensor is written, and gateways what they know of the caller."""
    plain = embedding(await client.post(INFER, json=asked(ROW)))
    foreign = {"content_type": "np", "headers": {"a": "b"}, "request_id": "7", "session_id": 1, "batch_size": 1}
    body = asked(ROW, parameters=foreign, outputs=[{"name": "embedding", "parameters": {"content_type": "np"}}])
    body["inputs"][0]["parameters"] = {"content_type": "np"}
    np.testing.assert_array_equal(embedding(await client.post(INFER, json=body)), plain)


async def test_null_stands_for_what_is_not_said_wherever_a_request_may_say_nothing(client: httpx.AsyncClient) -> None:
    """Clients with a class for each request write out members that were never set."""
    plain = embedding(await client.post(INFER, json=asked(ROW)))
    unset = dict.fromkeys(("hidden", "horizon", "timeout", "binary_data_output", "content_type"))
    body = asked(ROW, id=None, parameters=unset, outputs=[{"name": "embedding", "parameters": {"binary_data": None}}])
    body["inputs"][0]["parameters"] = {"binary_data_size": None, "shared_memory_region": None}
    np.testing.assert_array_equal(embedding(await client.post(INFER, json=body)), plain)
    body = asked(ROW, parameters=None, outputs=[{"name": "embedding", "parameters": None}])
    body["inputs"][0]["parameters"] = None
    np.testing.assert_array_equal(embedding(await client.post(INFER, json=body)), plain)
    wrong = refusal(await client.post(INFER, json=asked(ROW, parameters=[])), 400)
    assert wrong == "parameters: this must be an object"


@pytest.mark.parametrize("none", [{}, [], ""], ids=repr)
async def test_no_names_are_said_by_whatever_json_a_language_has_for_them(
    client: httpx.AsyncClient, none: object
) -> None:
    plain = embedding(await client.post(INFER, json=asked(ROW)))
    np.testing.assert_array_equal(
        embedding(await client.post(INFER, json=asked(ROW, parameters={"hidden": none}))), plain
    )
    forecast = await client.post("/v2/models/tiny.forecast/infer", json=asked(ROW, parameters={"heads": none}))
    assert "heads is empty" in refusal(forecast, 400)
