"""The Open Inference Protocol on the wire; tests/app/api/oip/test_triton_client.py has it through Triton's client."""

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.main import create_app
from app.service import Service
from app.settings import Settings
from tests.support.bundles import TinyModel
from tests.support.serving import client_of, serving

pytestmark = pytest.mark.anyio

MAX_BODY_BYTES = 4000
LENGTH = "Inference-Header-Content-Length"
INFER = "/v2/models/tiny/infer"


@pytest.fixture(scope="module", params=["asgi", "socket"])
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
async def client(models: Path, way: str) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(way, models=models, max_rows=8, max_body_bytes=MAX_BODY_BYTES) as client:
        yield client


def refusal(response: httpx.Response, status: int) -> str:
    """What Triton's and KServe's clients show of a refusal; KServe's looks into nothing but exactly this type."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"]
    document = response.json()
    assert document.keys() == {"error"}
    return str(document["error"])


def asked(rows: np.ndarray, **further: Any) -> dict[str, Any]:
    tensor = {"name": "features", "shape": rows.shape, "datatype": "FP32", "data": rows.tolist()}
    return {"inputs": [tensor], **further}


def embedding(response: httpx.Response) -> np.ndarray:
    assert response.status_code == 200, response.text
    header = response.headers.get(LENGTH)
    document = json.loads(response.content if header is None else response.content[: int(header)])
    (output,) = document["outputs"]
    assert (output["name"], output["datatype"]) == ("embedding", "FP32")
    numbers = output["data"] if header is None else np.frombuffer(response.content[int(header) :], "<f4")
    return np.reshape(numbers, output["shape"])


# What is answered


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


@pytest.mark.parametrize("content_type", [None, "application/json", "application/x-www-form-urlencoded"])
async def test_json_is_read_whatever_its_content_type(
    client: httpx.AsyncClient, tiny: TinyModel, content_type: str | None
) -> None:
    headers = {} if content_type is None else {"content-type": content_type}
    response = await client.post(INFER, content=json.dumps(asked(tiny.rows(1))).encode(), headers=headers)
    np.testing.assert_allclose(embedding(response), tiny.encode(tiny.rows(1)), atol=1e-5)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_bodies_may_be_compressed_both_ways(client: httpx.AsyncClient, tiny: TinyModel, coding: str) -> None:
    body = json.dumps(asked(tiny.rows(8))).encode()
    packed = gzip.compress(body) if coding == "gzip" else zlib.compress(body)
    response = await client.post(INFER, content=packed, headers={"content-encoding": coding, "accept-encoding": coding})
    assert response.headers["content-encoding"] == coding
    np.testing.assert_allclose(embedding(response), tiny.encode(tiny.rows(8)), atol=1e-5)


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


# What is refused

ROW = np.zeros((1, 10), np.float32)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the body is no JSON"),
        (b"{", "the body is no JSON"),
        (b"[1]", 'the body must be a JSON object such as {"inputs"'),
        (b"{}", "inputs is missing"),
        (json.dumps({"inputs": [{"name": "features"}]}).encode(), "inputs.0.shape is missing"),
        (json.dumps(asked(ROW) | {"id": 7}).encode(), "id: this must be a valid string"),
        (json.dumps(asked(ROW) | {"id": "\ud800"}).encode(), "half a surrogate pair"),
        (json.dumps(asked(ROW, parameters={"timeout": "1"})).encode(), "timeout: this must be a valid integer"),
        (json.dumps(asked(ROW, parameters={"timeout": -1})).encode(), "timeout: this must be greater"),
        (
            json.dumps(asked(ROW, parameters={"hiden": "own"})).encode(),
            "hiden is not known here; did you mean 'hidden'",
        ),
        (json.dumps(asked(ROW, parameters={"Hidden": "own"})).encode(), "Hidden is not known here; did you mean"),
        (
            json.dumps(asked(ROW, parameters={"timout": 5})).encode(),
            "timout is not known here; did you mean 'timeout'?",
        ),
        (
            json.dumps(asked(ROW, parameters={"binary_output": True})).encode(),
            "binary_output is not known here; did you mean 'binary_data_output'?",
        ),
        (
            json.dumps(asked(ROW, parameters={f"x-{i}": i for i in range(33)})).encode(),
            "more than 32 parameters are not known here; leave them out",
        ),
        (json.dumps(asked(ROW, parameters={"hidden": {"own": 1}})).encode(), "hidden: this must be a valid string"),
        (json.dumps(asked(ROW, parameters={"hidden": "me"})).encode(), "hidden[0] is no group of this model"),
        (json.dumps(asked(ROW, parameters={"horizon": 6})).encode(), "horizon does not go with model 'tiny'; it takes"),
        (json.dumps(asked(ROW, outputs=[{"name": "x"}])).encode(), "outputs[0] is no output of this model; it has"),
        (
            json.dumps({"inputs": [{"name": "features", "shape": [1, -1], "datatype": "FP32"}]}).encode(),
            "inputs.0.shape.1: this must be greater than or equal to 0",
        ),
        (
            json.dumps({"inputs": [{"name": "features", "shape": [1, 10], "datatype": "float32"}]}).encode(),
            "inputs.0.datatype: this must be 'FP32', 'FP64'",
        ),
        (json.dumps(asked(ROW)).replace("0.0", "1e39", 1).encode(), "(own_0) is infinite or beyond float32"),
    ],
)
async def test_a_request_that_is_wrong_is_400_with_the_way_to_mend_it(
    client: httpx.AsyncClient, body: bytes, message: str
) -> None:
    assert message in refusal(await client.post(INFER, content=body), 400)


@pytest.mark.parametrize("length", ["-1", "x", "", "9" * 5000, "200"])
async def test_a_header_length_that_cannot_be_is_400(client: httpx.AsyncClient, length: str) -> None:
    assert LENGTH in refusal(await client.post(INFER, json=asked(ROW), headers={LENGTH: length}), 400)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_a_compressed_body_is_unpacked_no_further_than_a_body_may_be_large(
    client: httpx.AsyncClient, coding: str
) -> None:
    pack = gzip.compress if coding == "gzip" else zlib.compress
    headers = {"content-encoding": coding}
    bomb = pack(bytes(1_000_000))
    assert len(bomb) < MAX_BODY_BYTES
    assert f"larger than {MAX_BODY_BYTES} bytes" in refusal(
        await client.post(INFER, content=bomb, headers=headers), 413
    )
    largest = pack(json.dumps(asked(ROW)).encode().ljust(MAX_BODY_BYTES))
    assert (await client.post(INFER, content=largest, headers=headers)).status_code == 200
    for broken in (largest[:-1], largest + b"x", largest[2:], b""):
        assert coding in refusal(await client.post(INFER, content=broken, headers=headers), 400)
    message = refusal(await client.post(INFER, content=largest, headers={"content-encoding": "br"}), 415)
    assert "send gzip, deflate, or the body as it is" in message


async def test_limits_hold_as_for_the_native_endpoints(client: httpx.AsyncClient, tiny: TinyModel) -> None:
    many = tiny.rows(9)
    assert "9 rows, the limit is 8" in refusal(
        await client.post(INFER, content=many.tobytes(), headers={LENGTH: "0"}), 413
    )
    too_large = await client.post(INFER, content=bytes(MAX_BODY_BYTES + 1), headers={LENGTH: "0"})
    assert f"larger than {MAX_BODY_BYTES} bytes" in refusal(too_large, 413)


async def test_unknown_models_versions_paths_and_methods_are_refused_alike(client: httpx.AsyncClient) -> None:
    for suffix in ("", "/ready", "/config", "/stats"):
        assert "loaded: 'tiny'" in refusal(await client.get(f"/v2/models/chess{suffix}"), 404)
        assert "of 'tiny' there is 'tiny'" in refusal(await client.get(f"/v2/models/tiny.decoder{suffix}"), 404)
        assert "in version 1" in refusal(await client.get(f"/v2/models/tiny/versions/2{suffix}"), 404)
    refusal(await client.get("/v2/nowhere"), 404)
    response = await client.get(INFER)
    refusal(response, 405)
    assert response.headers["allow"] == "POST"
    assert (await client.get("/v2models")).headers["content-type"] == "application/problem+json"


async def test_another_schema_hash_is_409(client: httpx.AsyncClient, tiny: TinyModel) -> None:
    right = {"x-schema-hash": tiny.manifest()["schema_hash"]}
    assert (await client.post(INFER, json=asked(ROW), headers=right)).status_code == 200
    assert "schema_hash" in refusal(await client.post(INFER, json=asked(ROW), headers={"x-schema-hash": "0"}), 409)


async def test_a_bug_is_a_500_without_its_traceback(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.api.oip.request.parse_json", lambda _: 1 / 0)
    async with serving(models=models) as client:
        message = refusal_of_a_bug(await client.post(INFER, json=asked(ROW)))
    assert message == "the service failed on this request; its log has the reason"


def refusal_of_a_bug(response: httpx.Response) -> str:
    """Starlette answers outside of what gives requests their ids."""
    assert response.status_code == 500
    return str(response.json()["error"])


# What happens when more comes than can be computed

Held = tuple[httpx.AsyncClient, Service]


@pytest.fixture
async def held(models: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Held]:
    """A service whose only thread is taken, until it is released."""
    monkeypatch.setattr("app.inference.batch_limits.MAX_LOOP_BLOCK_S", 0)
    app = create_app(Settings(models=models, batch_threads=1, max_rows=4, max_queue_rows=5))
    service: Service = app.state.service
    async with client_of(app) as client:
        assert service.threads.acquire(lambda: None)
        yield client, service


async def waits(service: Service, rows: int) -> None:
    while service.registry.get("tiny").engine.queues.target_encoder.queue_rows != rows:
        await asyncio.sleep(0.001)


async def test_a_full_queue_is_429_with_when_to_come_again(held: Held) -> None:
    client, service = held
    waiting = asyncio.create_task(client.post(INFER, json=asked(ROW.repeat(4, 0))))
    await waits(service, 4)
    response = await client.post(INFER, json=asked(ROW.repeat(2, 0)))
    assert "4 rows wait already" in refusal(response, 429)
    assert int(response.headers["retry-after"]) >= 1
    service.threads.release()
    assert (await waiting).status_code == 200


@pytest.mark.parametrize(
    ("timeout_us", "header_ms"), [(20_000, None), (None, "20"), (20_000, "60000"), (60_000_000, "20"), (0, "20")]
)
async def test_a_request_past_the_earlier_of_its_deadlines_is_504(
    held: Held, timeout_us: int | None, header_ms: str | None
) -> None:
    client, service = held
    body = asked(ROW, parameters={} if timeout_us is None else {"timeout": timeout_us})
    headers = {} if header_ms is None else {"x-request-timeout-ms": header_ms}
    assert "deadline" in refusal(await client.post(INFER, json=body, headers=headers), 504)
    await waits(service, 0)
    service.threads.release()


async def test_a_newer_frame_of_a_stream_supersedes_one_that_waits(held: Held) -> None:
    client, service = held
    stream = {"x-stream-id": "bot 1"}
    older = asyncio.create_task(client.post(INFER, json=asked(ROW), headers=stream))
    await waits(service, 1)
    newer = asyncio.create_task(client.post(INFER, json=asked(ROW), headers=stream))
    assert "newer frame" in refusal(await older, 409)
    service.threads.release()
    assert (await newer).status_code == 200


async def test_a_draining_service_is_503_and_finishes_what_it_has(held: Held) -> None:
    client, service = held
    waiting = asyncio.create_task(client.post(INFER, json=asked(ROW)))
    await waits(service, 1)
    service.drain()
    for response in (
        await client.post(INFER, json=asked(ROW)),
        await client.get("/v2/health/ready"),
        await client.get("/v2/models/tiny/ready"),
    ):
        assert "draining" in refusal_unmeasured(response)
        assert int(response.headers["retry-after"]) >= 1
    assert (await client.get("/v2/health/live")).status_code == 200
    service.threads.release()
    assert (await waiting).status_code == 200


def refusal_unmeasured(response: httpx.Response) -> str:
    """Probes are given no id."""
    assert response.status_code == 503
    return str(response.json()["error"])


async def test_without_a_model_nothing_is_ready(tmp_path: Path) -> None:
    async with serving(models=tmp_path) as client:
        assert (await client.get("/v2/health/ready")).status_code == 503
        assert "no model is loaded" in refusal(await client.post(INFER, json=asked(ROW)), 503)
        assert (await client.get("/v2/models")).json() == {"models": []}


# What is told of models


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
