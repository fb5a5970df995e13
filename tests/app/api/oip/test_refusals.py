"""What the Open Inference Protocol refuses over REST, and in which words."""

import gzip
import json
import zlib
from pathlib import Path

import httpx
import pytest

from tests.app.api.oip.conftest import INFER, LENGTH, MAX_BODY_BYTES, ROW, asked, refusal
from tests.support.bundles import TinyModel
from tests.support.serving import serving

pytestmark = pytest.mark.anyio


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


async def test_a_bug_is_a_500_without_its_traceback(models: Path, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.api.oip.request.parse_json", lambda _: 1 / 0)
    async with serving(way, models=models) as client:
        message = refusal_of_a_bug(await client.post(INFER, json=asked(ROW)))
    assert message == "the service failed on this request; its log has the reason"


def refusal_of_a_bug(response: httpx.Response) -> str:
    """Starlette answers outside of what gives requests their ids."""
    assert response.status_code == 500
    return str(response.json()["error"])


@pytest.mark.parametrize("boolean", ["true", "false"])
@pytest.mark.parametrize("data", ["data", "d\\u0061ta"])
async def test_a_boolean_is_no_number_however_its_member_is_written(
    client: httpx.AsyncClient, boolean: str, data: str
) -> None:
    first, numbers = '{"name": "features", "shape": [1, 10], "datatype": "FP32"', ", ".join([boolean, *["0"] * 9])
    body = f'{{"inputs": [{first}, "{data}": [{numbers}]}}]}}'.encode()
    assert "features[0][0] (own_0) is a boolean; write 1 or 0" in refusal(await client.post(INFER, content=body), 400)
